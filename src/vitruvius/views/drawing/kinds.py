"""The kinds of layers that get a panel: layers that differ only in which earlier layer they refer to are drawn once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from ... import spec as s
from .. import pattern
from ..pattern import Kind, Stretch

REFERENCES = (s.LayerKeyValue, s.LayerBias, s.LayerIndexer)


def kinds(stack: s.Decoder | s.Encoder) -> tuple[Kind, ...]:
    """The kinds in order of appearance, each with the first of its layers."""
    alike: dict[s.Layer, list[Kind]] = {}
    for kind in pattern.kinds(stack):
        alike.setdefault(_unnumbered(kind.layer), []).append(kind)
    return tuple(
        Kind(_common([kind.name for kind in group]), group[0].layer, tuple(sorted(i for k in group for i in k.indices)))
        for group in alike.values()
    )


def stretches(shown: Sequence[Kind]) -> tuple[Stretch, ...]:
    """The layers, in the names of these kinds, as repetitions of the shortest period."""
    names = {index: kind.name for kind in shown for index in kind.indices}
    return pattern.grouped([names[index] for index in range(len(names))])


def _unnumbered(value: Any) -> Any:
    """The same tree with all references to an earlier layer alike."""
    if isinstance(value, tuple):
        return tuple(map(_unnumbered, value))
    if not isinstance(value, s.Spec):
        return value
    if isinstance(value, REFERENCES):
        return replace(value, layer=0)
    held = {f.name: getattr(value, f.name) for f in fields(value)}
    return replace(value, **{name: _unnumbered(x) for name, x in held.items() if isinstance(x, (s.Spec, tuple))})


def _common(names: Sequence[str]) -> str:
    """What the names have in common, word by word: "kv of 18" and "kv of 19" are both "kv of …"."""
    words = [name.split() for name in names]
    if len({len(split) for split in words}) > 1:
        return names[0]
    return " ".join(column[0] if len(set(column)) == 1 else "…" for column in zip(*words, strict=True))
