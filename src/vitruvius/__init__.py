"""Vitruvius, the LLM architecture gallery that runs.

Every architecture is one short definition, a function from a checkpoint's config.json to a tree of frozen dataclasses;
its cost, drawing, differences and running model are all read from that tree.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .errors import InputError

__version__ = "0.1.0"

# Public names and the modules they come from, imported on first use: `vitruvius cost` must start without torch.
# `catalog`, `cost` and `spec` are packages; the first two can be called.
_PUBLIC = {
    "architecture": "checkpoints.sources",
    "build": "models",
    "compare": "gallery",
    "draw": "gallery",
    "engine": "inference.native",
    "generate": "inference.generation",
    "load": "models",
    "replace": "edit",
    "save": "saving",
    "slice": "slicing",
    "tokenizer": "checkpoints.tokenizer",
}
_PACKAGES = ("catalog", "cost", "spec")
_CALLED = {"vitruvius.catalog": ("catalog", "entries"), "vitruvius.cost": ("sizing", "cost")}

__all__ = [*_PACKAGES, *_PUBLIC, "InputError", "__version__"]  # noqa: PLE0604


class CallablePackage(ModuleType):
    """A package that can be called: `vitruvius.cost(…)` is a function, though `vitruvius.cost` is a package too."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `sizing.cost` and `catalog.entries`."""
        module, function = _CALLED[self.__name__]
        return getattr(import_module(f".{module}", __name__), function)(*args, **kwargs)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    if name in _PACKAGES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from . import catalog as catalog
    from . import cost as cost
    from . import spec as spec
    from .checkpoints.sources import architecture as architecture
    from .checkpoints.tokenizer import tokenizer as tokenizer
    from .edit import replace as replace
    from .gallery import compare as compare
    from .gallery import draw as draw
    from .inference.generation import generate as generate
    from .inference.native import engine as engine
    from .models import build as build
    from .models import load as load
    from .saving import save as save
    from .slicing import slice as slice  # noqa: A004
