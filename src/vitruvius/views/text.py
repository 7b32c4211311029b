"""The text drawing: the whole architecture as a tree, equal layers once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap

from ..cost import cost
from ..cost.quantity import count, number, size
from ..spec import Decoder, Encoder, Layer, Spec
from ..terminal import prose
from .drawing.kinds import patterns
from .layer_periods import LayerKind, kinds
from .nouns import describe, facts, phrase, title
from .table import growth

LABEL = 22  # columns for lines and names


@dataclass(frozen=True)
class Twig:
    """A line of the tree: a name, what there is to say in lines of its own, and what hangs below."""

    name: str
    lines: tuple[str, ...] = ()
    below: tuple[Twig, ...] = ()


def tree(arch: Decoder) -> str:
    """The architecture as text, as wide as prose may be."""
    return "\n".join([*figures(arch), *_lines(_twigs(arch), "")])


def figures(arch: Decoder) -> list[str]:
    """The name and what one asks first."""
    c = cost(arch)
    active = "" if c.parameters.active == c.parameters.total else f", {count(c.parameters.active)} active"
    state = f"state {size(c.state.bytes_per_token)} {growth(c)}"
    return [
        arch.name,
        f"{count(c.parameters.total)} parameters{active} · width {number(arch.width)} · context {number(arch.context)}",
        f"{state}, {size(c.state.bytes)} at full context (bf16)",
    ]


def _twigs(arch: Decoder) -> list[Twig]:
    twigs = [Twig("encoder", ("reads the text first",), tuple(_stack(arch.encoder)))] if arch.encoder else []
    twigs += _stack(arch, arch.positions)
    if arch.head:
        twigs.append(Twig(title(arch.head), (", ".join(facts(arch.head)),)))
    found = kinds(arch)
    for module in arch.mtp:
        alike = next((f"as {kind.name}" for kind in found if kind.layer == module.layer), None)
        layer = Twig("layer", (alike or "of its own kind",), () if alike else _branches(module.layer, found))
        twigs.append(Twig("mtp", (phrase(module),), (layer,)))
    return twigs


def _stack(stack: Decoder | Encoder, positions: Spec | None = None) -> list[Twig]:
    """Embedding, absolute positions, layers and the norm after them."""
    found = kinds(stack)
    twigs = [Twig(title(stack.embedding), (", ".join(facts(stack.embedding)),))]
    if positions:
        twigs.append(Twig(title(positions), (f"{', '.join(facts(positions))}, added to the embedding",)))
    below = tuple(Twig(kind.name, (_times(kind),), _branches(kind.layer, found[:i])) for i, kind in enumerate(found))
    twigs.append(Twig(f"{len(stack.layers)} layers", _places(stack), below if len(found) > 1 else below[0].below))
    return [*twigs, Twig("final norm", (phrase(stack.final_norm),))]


def _places(stack: Decoder | Encoder) -> tuple[str, ...]:
    """In which order the kinds follow each other: "attention: 5 : 1, 10 × (5 window 1,024, 1 full)"."""
    return tuple(f"{what}: {text}" for what, text in patterns(stack).items()) or ("all alike",)


def _times(kind: LayerKind) -> str:
    return f"{len(kind.indices)} {'layers' if len(kind.indices) > 1 else 'layer'}"


def _branches(layer: Layer, before: tuple[LayerKind, ...]) -> tuple[Twig, ...]:
    """Each branch in full, or by what distinguishes it from the same branch of a kind that came before; and what is
    around them."""
    return tuple(Twig(name, _against(name, mine, before)) for name, mine in _in_full(layer).items())


def _against(name: str, mine: list[str], before: tuple[LayerKind, ...]) -> tuple[str, ...]:
    for kind in before:
        theirs = _in_full(kind.layer).get(name, [])
        if mine == theirs:
            return (f"as in {kind.name}",)
        if mine[:2] == theirs[:2] and len(mine) == len(theirs):
            return (f"as in {kind.name}, but", *(fact for fact in mine if fact not in theirs))
    in_one_line = f"{' '.join(mine[1:2])} {', '.join(mine[2:])}"
    return (mine[0], in_one_line) if len(mine) > 1 and len(in_one_line) <= prose() - LABEL else tuple(mine)


def _in_full(layer: Layer) -> dict[str, list[str]]:
    """What there is to say of each branch: where its norms are, what it is, and its facts."""
    found = {
        branch.name: [describe(branch).equation or "", title(branch.body), *facts(branch.body)]
        for branch in layer.branches
    }
    return found | ({"around": [phrase(layer.around)]} if layer.around else {})


def _lines(twigs: list[Twig] | tuple[Twig, ...], indent: str) -> Iterator[str]:
    for twig in twigs:
        last = twig is twigs[-1]
        inner = indent + ("   " if last else "│  ")
        hanging = inner + ("│" if twig.below else "")
        name = f"{indent}{'└─ ' if last else '├─ '}{twig.name}"
        lines = [line for text in twig.lines for line in wrap(text, prose() - LABEL, subsequent_indent="  ")]
        if len(whole := name.ljust(LABEL - 2) + "  " + lines[0]) <= prose():
            yield whole
        else:  # a long name on a narrow terminal
            yield from wrap(name, prose(), subsequent_indent=inner)
            yield hanging.ljust(LABEL) + lines[0]
        yield from (hanging.ljust(LABEL) + line for line in lines[1:])
        yield from _lines(twig.below, inner)
