"""The models that can be tried: those whose weights are on this machine, one of them loaded at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ...checkpoints.sources import architecture, at_hand
from ...errors import InputError, NotLoweredError
from ...native.library import library

if TYPE_CHECKING:
    from ...checkpoints.tokenizer import Tokenizer
    from ...inference.runner import Runner
    from ...nn import Decoder

NO_TORCH = "PyTorch is not installed: pip install 'vitruvius[torch]'"


@dataclass
class Loaded:
    """A model ready to write, with its tokenizer, and its torch modules when somebody looks inside."""

    name: str
    tokenizer: Tokenizer
    runner: Runner
    modules: Callable[[], Decoder]

    @cached_property
    def model(self) -> Decoder:
        """The torch modules. Raises InputError without torch."""
        return self.modules()


class LocalModels:
    """What a request may name: known models whose weights are at hand, and the checkpoints that the user has given.
    A request never names a path. `ignore` are keys and tensors of the given ones that may be left out."""

    def __init__(self, given: Sequence[str] = (), ignore: Sequence[str] = ()) -> None:
        self._given = {_name(source, ignore): source for source in given}
        self._ignore = tuple(ignore)
        self._loaded: Loaded | None = None

    @cached_property
    def sources(self) -> Mapping[str, str]:
        """Name -> what `vitruvius.load` takes. Looking for them takes a moment."""
        return {**{name: name for name in at_hand()}, **self._given}

    def unavailable(self) -> str | None:
        """Why nothing can be tried, None if something can."""
        if library() is None and find_spec("torch") is None:
            return f"running a model needs the native engine, which is not built here, or PyTorch. {NO_TORCH}"
        return None if self.sources else "no weights of a known model are on this machine; give some with --model"

    def load(self, name: str) -> Loaded:
        """The model, loaded if it is not yet; the one before is dropped. Takes seconds to minutes."""
        if why := self.unavailable():
            raise InputError(why)
        if name not in self.sources:
            raise InputError(f"{name[:80]!r} cannot be tried here; there are {', '.join(self.sources)}")
        if self._loaded is None or self._loaded.name != name:
            self._loaded = None
            self._loaded = _load(name, self.sources[name], self._ignore if name in self._given else ())
        return self._loaded


def _load(name: str, source: str, ignore: Sequence[str]) -> Loaded:
    """By the native engine where it is built and covers the model: it loads in a moment and writes faster."""
    from ...checkpoints.tokenizer import tokenizer

    words = tokenizer(source)
    if library() is not None:
        from ...inference.native import engine

        try:
            return Loaded(name, words, engine(source, ignore=ignore), lambda: _modules(source, ignore))
        except NotLoweredError:
            pass
    from ...inference.torch_runner import TorchRunner

    model = _modules(source, ignore)
    return Loaded(name, words, TorchRunner(model), lambda: model)


def _modules(source: str, ignore: Sequence[str]) -> Decoder:
    if find_spec("torch") is None:
        raise InputError(f"looking inside a model needs PyTorch. {NO_TORCH}")
    from ...models import load

    return load(source, ignore=ignore)


def _name(source: str, ignore: Sequence[str]) -> str:
    """What a given checkpoint is called: the end of its path. Raises InputError where it is no checkpoint."""
    architecture(source, ignore)
    return Path(source).name if Path(source).exists() else source
