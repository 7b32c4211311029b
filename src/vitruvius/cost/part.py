"""Under which heading work and weights are counted."""

from __future__ import annotations

from collections.abc import Iterator

from ..spec import Decoder, Node, walk

MTP = "mtp"  # stands apart: in no figure but its own


def weightless(part: str) -> str:
    """The heading for the work of a part that no weight explains."""
    return f"{part} {'updates' if part == 'recurrence' else 'scores'}"


def headed(arch: Decoder) -> Iterator[tuple[Node, str]]:
    """Every part of the tree with its heading: that of the nearest part above which has one. Inside experts and
    multi-token prediction everything is counted as these."""
    line: list[tuple[str, bool]] = []  # (heading, whether it holds for everything below) from the root on
    for node in walk(arch, arch.width):
        del line[len(node.above) :]
        line.append(_heading(node, *(line[-1] if line else ("", False))))
        yield node, line[-1][0]


def _heading(node: Node, above: str, holds: bool) -> tuple[str, bool]:
    if holds:
        return above, True
    slot = node.path.rpartition(".")[2]
    if node.above and slot in node.above[-1].headings:
        return node.above[-1].headings[slot], True
    part = node.spec.part or above
    return part, part == MTP
