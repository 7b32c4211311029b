"""What an architecture file gives to the registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .config import Config
from .decoder import Decoder
from .names import Irregular


@dataclass(frozen=True)
class Family:
    """An architecture: the config.json files it reads (`model_types`), the spec they describe, and the names it spells
    its own way.

    Args:
        spec: config -> decoder. Every key is read, or named in `ignored`.
        irregular: decoder -> irregular names.
        ignored: keys that are knowingly ignored.
        unused: patterns of tensors that the files hold and the model does not need.
        bare: a prefix of the names that files may leave out.
    """

    model_types: tuple[str, ...]
    spec: Callable[[Config], Decoder]
    irregular: Callable[[Decoder], Sequence[Irregular]] = lambda decoder: ()
    ignored: frozenset[str] = frozenset()
    unused: tuple[str, ...] = ()
    bare: str = ""
