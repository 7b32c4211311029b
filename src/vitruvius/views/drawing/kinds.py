"""The kinds of layers that get a panel: layers that differ only in which earlier layer they refer to are drawn once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Any

from ... import spec as s
from .. import layer_periods
from ..layer_periods import LayerKind
from ..nouns import describe, marks
from .sketch import Highlight

FEED_FORWARD = "feed-forward"  # the mark of feed-forward layers; the others are of attention, or what is in its place
COLUMNS = {"mask": "attention", "kv": "keys and values"}


@dataclass(frozen=True)
class LayerBlock:
    """Kinds of layers that differ in little and share a panel: the same branches, with bodies of the same classes,
    between the same norms. `numbers` are the places of its kinds among all of the stack."""

    kinds: tuple[LayerKind, ...]
    numbers: tuple[int, ...]

    @property
    def indices(self) -> tuple[int, ...]:
        """The layers that it stands for."""
        return tuple(sorted(index for kind in self.kinds for index in kind.indices))

    @property
    def name(self) -> str:
        """What the names of its kinds have in common, "" if that is nothing."""
        first, *others = (re.sub(r" \(\d+\)$", "", kind.name).split(" + ") for kind in self.kinds)
        return " + ".join(word for word in first if all(word in other for other in others))


@dataclass(frozen=True)
class Section:
    """Blocks whose layers take turns, or a single one: `times` over so many layers of each as `counts` says, or in a
    less simple order, where that is None."""

    blocks: tuple[LayerBlock, ...]
    counts: tuple[int, ...] | None
    times: int


def kinds(stack: s.Decoder | s.Encoder) -> tuple[LayerKind, ...]:
    """The kinds in order of appearance, each with the first of its layers."""
    return tuple(
        LayerKind(
            _common([kind.name for kind in group]), group[0].layer, tuple(sorted(i for k in group for i in k.indices))
        )
        for group in _alike(stack)
    )


def _alike(stack: s.Decoder | s.Encoder) -> list[list[LayerKind]]:
    """Equal layers, together with those that differ in nothing but the earlier layer that they refer to."""
    alike: dict[s.Layer, list[LayerKind]] = {}
    for kind in layer_periods.kinds(stack):
        alike.setdefault(_unnumbered(kind.layer), []).append(kind)
    return list(alike.values())


def blocks(stack: s.Decoder | s.Encoder) -> tuple[LayerBlock, ...]:
    """The blocks in order of appearance."""
    found: dict[Any, list[tuple[LayerKind, int]]] = {}
    for number, kind in enumerate(kinds(stack)):
        found.setdefault(_frame(kind.layer), []).append((kind, number))
    return tuple(LayerBlock(tuple(kind for kind, _ in each), tuple(n for _, n in each)) for each in found.values())


def _frame(layer: s.Layer) -> Any:
    """What a panel shows of a layer beside what stands within its bodies."""
    return _unnumbered(layer.around) if layer.around else None, tuple(map(_framed, layer.branches))


def _framed(branch: s.Branch) -> Any:
    inner = tuple(map(_framed, describe(branch.body).picture.side_by_side))
    return branch.name, branch.pre, branch.post, branch.skip, branch.scale, type(branch.body), inner


def sections(found: Sequence[LayerBlock]) -> tuple[Section, ...]:
    """The blocks in the order of the network, those whose layers take turns together."""
    groups: list[list[LayerBlock]] = []
    last = -1
    for block in found:
        if groups and block.indices[0] <= last:
            groups[-1].append(block)
        else:
            groups.append([block])
        last = max(last, block.indices[-1])
    return tuple(map(_section, groups))


def _section(group: Sequence[LayerBlock]) -> Section:
    layers = sum(len(block.indices) for block in group)
    if len(group) == 1:
        return Section(tuple(group), (layers,), 1)
    places = {index: number for number, block in enumerate(group) for index in block.indices}
    sequence = [places[index] for index in sorted(places)]
    for period in range(len(group), layers // 2 + 1):
        runs = [(number, len(list(run))) for number, run in groupby(sequence[:period])]
        if len(runs) == len(group) and layers % period == 0 and sequence[:period] * (layers // period) == sequence:
            return Section(tuple(group[n] for n, _ in runs), tuple(count for _, count in runs), layers // period)
    return Section(tuple(group), None, 1)


def patterns(stack: s.Decoder | s.Encoder) -> dict[str, str]:
    """How the layers follow each other, "attention" and "feed-forward" apart where every layer has both: {"attention":
    "5 : 1, 10 × (5 window 1,024, 1 full), then 2 window 1,024"}. Empty, if all layers are of one kind."""
    alike = _alike(stack)
    if len(alike) == 1:
        return {}
    places = {index: number for number, group in enumerate(alike) for kind in group for index in kind.indices}
    order = [places[index] for index in range(len(stack.layers))]
    rows = [[marks(kind.layer) for kind in group] for group in alike]
    words = _words(rows) if len({FEED_FORWARD in row for group in rows for row in group}) == 1 else {}
    words = words or {"layers": [_common([kind.name for kind in group]) for group in alike]}
    return {what: layer_periods.pattern([word[number] for number in order]) for what, word in words.items()}


def _words(groups: Sequence[Sequence[Mapping[str, str]]]) -> dict[str, list[str]]:
    """What the order of the layers is told of -> the word for each kind: marks that differ, those of attention and of
    what stands in its place together where some kinds lack one of them."""
    rows = [group[0] for group in groups]
    told = layer_periods.telling(rows)
    apart = [name for name in told if name != FEED_FORWARD]
    together = any(name not in row for row in rows for name in apart)

    def word(group: Sequence[Mapping[str, str]], names: Sequence[str]) -> str:
        if names == ["kv"]:
            return "an earlier layer's" if group[0].get("kv") else "own"
        said = (_common([row.get(name, "") for row in group]) for name in names)
        return " + ".join(filter(None, said)) or "other"

    columns = {"attention": apart} if together or len(apart) == 1 else {COLUMNS.get(n, n): [n] for n in apart}
    columns |= {FEED_FORWARD: [FEED_FORWARD]} if FEED_FORWARD in told else {}
    return {what: [word(group, names) for group in groups] for what, names in columns.items() if names}


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
    """What the names have in common, word by word: "kv of 18" and "kv of 19" are both "kv of an earlier layer"."""
    words = [name.split() for name in names]
    if len({len(split) for split in words}) > 1:
        return names[0]
    common = " ".join(column[0] if len(set(column)) == 1 else "…" for column in zip(*words, strict=True))
    return re.sub(r"(layer )?…", "an earlier layer", common)


def named(kind: str) -> str:
    """The layers of a kind: "dense layers", "full attention layers"."""
    name = re.sub(r"\bfull\b", "full attention", kind)
    name = re.sub(r"\bindexer\b(?! )|\bindexer(?= \+)", "own indexer", name)
    return name if "layer" in name else f"{name} layers"


def highlighted(stack: s.Decoder | s.Encoder, paths: Iterable[str]) -> Highlight:
    """The highlight of these paths in the drawing of a stack of layers, where a kind stands for its layers and a block
    for its kinds."""
    own = _drawn({kind.indices: kind.indices[0] for kind in kinds(stack)})
    given = tuple(paths)
    return Highlight(frozenset(map(drawn_for(stack), given)), frozenset(map(own, given)))


def highlighted_in(encoder: s.Encoder, highlight: Highlight) -> Highlight:
    """The highlight of the paths in the encoder, as seen from there."""
    inside = {path.removeprefix("encoder.") for path in highlight.own if path.startswith("encoder.")}
    if "encoder" in highlight.own:
        inside |= {"embedding", "final_norm", *(f"layers.{i}" for i in range(len(encoder.layers)))}
    return highlighted(encoder, inside)


def drawn_for(stack: s.Decoder | s.Encoder) -> Callable[[str], str]:
    """A path -> the path under which the drawing of this stack shows it."""
    return _drawn({block.indices: block.kinds[0].indices[0] for block in blocks(stack)})


def _drawn(shown: Mapping[tuple[int, ...], int]) -> Callable[[str], str]:
    """A path -> the path in the layer that stands for its own: layers -> the one that is shown."""
    first = {str(index): one for indices, one in shown.items() for index in indices}

    def drawn(path: str) -> str:
        path = re.sub(r"\.expert(?=\.|$)", ".experts", path)  # the field, of which there are many copies
        step, _, rest = path.partition(".")
        number, _, below = rest.partition(".")
        if step != "layers" or number not in first:
            return path
        return ".".join(filter(None, (step, str(first[number]), below)))

    return drawn
