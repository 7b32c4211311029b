"""The kinds of layers that get a panel: layers that differ only in which earlier layer they refer to are drawn once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

from ... import spec as s
from .. import layer_periods
from ..layer_periods import LayerKind, Stretch
from ..nouns import describe
from .sketch import Highlight


def kinds(stack: s.Decoder | s.Encoder) -> tuple[LayerKind, ...]:
    """The kinds in order of appearance, each with the first of its layers."""
    alike: dict[s.Layer, list[LayerKind]] = {}
    for kind in layer_periods.kinds(stack):
        alike.setdefault(_unnumbered(kind.layer), []).append(kind)
    return tuple(
        LayerKind(
            _common([kind.name for kind in group]), group[0].layer, tuple(sorted(i for k in group for i in k.indices))
        )
        for group in alike.values()
    )


def stretches(shown: Sequence[LayerKind]) -> tuple[Stretch, ...]:
    """The layers, in the names of these kinds, as repetitions of the shortest period."""
    names = {index: kind.name for kind in shown for index in kind.indices}
    return layer_periods.grouped([names[index] for index in range(len(names))])


def _unnumbered(value: Any) -> Any:
    """The same tree with all references to an earlier layer alike."""
    if isinstance(value, tuple):
        return tuple(map(_unnumbered, value))
    if not isinstance(value, s.Spec):
        return value
    if reference := describe(value).picture.reference:
        return replace(value, **{reference: 0})
    inside = {f.name: getattr(value, f.name) for f in fields(value)}
    return replace(value, **{name: _unnumbered(x) for name, x in inside.items() if isinstance(x, (s.Spec, tuple))})


def _common(names: Sequence[str]) -> str:
    """What the names have in common, word by word: "kv of 18" and "kv of 19" are both "kv of …"."""
    words = [name.split() for name in names]
    if len({len(split) for split in words}) > 1:
        return names[0]
    return " ".join(column[0] if len(set(column)) == 1 else "…" for column in zip(*words, strict=True))


def named(kind: str) -> str:
    """The layers of a kind: "dense layers", "full attention layers"."""
    name = re.sub(r"\bfull\b", "full attention", kind)
    return name if "layer" in name else f"{name} layers"


def highlighted(stack: s.Decoder | s.Encoder, paths: Iterable[str]) -> Highlight:
    """The highlight of these paths in the drawing of a stack of layers."""
    return Highlight(frozenset(map(drawn_for(stack), paths)))


def highlighted_in(encoder: s.Encoder, highlight: Highlight) -> Highlight:
    """The highlight of the paths in the encoder, as seen from there."""
    inside = {path.removeprefix("encoder.") for path in highlight.paths if path.startswith("encoder.")}
    if "encoder" in highlight.paths:
        inside |= {"embedding", "final_norm", *(f"layers.{i}" for i in range(len(encoder.layers)))}
    return highlighted(encoder, inside)


def drawn_for(stack: s.Decoder | s.Encoder) -> Callable[[str], str]:
    """A path -> the path under which the drawing of this stack shows it."""
    first = {str(index): kind.indices[0] for kind in kinds(stack) for index in kind.indices}

    def drawn(path: str) -> str:
        path = re.sub(r"\.expert(?=\.|$)", ".experts", path)  # the field, of which there are many copies
        step, _, rest = path.partition(".")
        number, _, below = rest.partition(".")
        if step != "layers" or number not in first:
            return path
        return ".".join(filter(None, (step, str(first[number]), below)))

    return drawn
