"""The models that can be tried: those whose weights are on this machine, one of them loaded at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .. import catalog
from ..checkpoints.sources import architecture, weights
from ..errors import InputError

if TYPE_CHECKING:
    from ..checkpoints.tokenizer import Tokenizer
    from ..nn import Decoder

NO_TORCH = "running a model needs PyTorch, which is not installed: pip install 'vitruvius[torch]'"


@dataclass(frozen=True)
class Loaded:
    """A model ready to run, with its tokenizer."""

    name: str
    model: Decoder
    tokenizer: Tokenizer


class LocalModels:
    """What a request may name: known models whose weights are at hand, and the checkpoints that the user has given.
    A request never names a path."""

    def __init__(self, given: Sequence[str] = ()) -> None:
        self._given = {_name(source): source for source in given}
        self._loaded: Loaded | None = None

    @cached_property
    def sources(self) -> Mapping[str, str]:
        """Name -> what `vitruvius.load` takes. Looking for them takes a moment."""
        return {**_at_hand(), **self._given}

    def unavailable(self) -> str | None:
        """Why nothing can be tried, None if something can."""
        if find_spec("torch") is None:
            return NO_TORCH
        return None if self.sources else "no weights of a known model are on this machine; give some with --model"

    def load(self, name: str) -> Loaded:
        """The model, loaded if it is not yet; the one before is dropped. Takes seconds to minutes."""
        if why := self.unavailable():
            raise InputError(why)
        if name not in self.sources:
            raise InputError(f"{name[:80]!r} cannot be tried here; there are {', '.join(self.sources)}")
        if self._loaded is None or self._loaded.name != name:
            from ..checkpoints.tokenizer import tokenizer
            from ..models import load

            self._loaded = None
            source = self.sources[name]
            self._loaded = Loaded(name, load(source), tokenizer(source))
        return self._loaded


def _at_hand() -> dict[str, str]:
    found = {}
    for entry in catalog.entries():
        try:
            weights(entry.id)
        except InputError:
            continue
        found[entry.id] = entry.id
    return found


def _name(source: str) -> str:
    """What a given checkpoint is called: the end of its path. Raises InputError where it is no checkpoint."""
    architecture(source)
    return Path(source).name if Path(source).exists() else source
