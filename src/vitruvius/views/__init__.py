"""What an architecture looks like, in text and as a picture, and how it differs from another: walks over the spec."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Imported on first use: a table of costs needs no drawing.
_PUBLIC = {
    "Aspect": "nouns",
    "Callout": "nouns",
    "Change": "diff",
    "Description": "nouns",
    "Difference": "diff",
    "Drawing": "svg",
    "Inner": "nouns",
    "Picture": "nouns",
    "compare": "diff",
    "describe": "nouns",
    "describes": "nouns",
    "draw": "svg",
    "draw_side_by_side": "svg",
    "tree": "text",
}

__all__ = [*_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if TYPE_CHECKING:
    from .diff import Change as Change
    from .diff import Difference as Difference
    from .diff import compare as compare
    from .nouns import Aspect as Aspect
    from .nouns import Callout as Callout
    from .nouns import Description as Description
    from .nouns import Inner as Inner
    from .nouns import Picture as Picture
    from .nouns import describe as describe
    from .nouns import describes as describes
    from .svg import Drawing as Drawing
    from .svg import draw as draw
    from .svg import draw_side_by_side as draw_side_by_side
    from .text import tree as tree
