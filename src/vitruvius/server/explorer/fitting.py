"""Which known architectures have tensors of these names and shapes."""

from __future__ import annotations

from collections.abc import Mapping

from ... import catalog
from ...checkpoints.matching import PLACES, plain
from ...checkpoints.steps import file_shapes
from ...spec import Decoder
from .known import known

Shape = tuple[int, ...]
MOST_TENSORS = 100_000


def fitting(shapes: Mapping[str, Shape]) -> list[str]:
    """The models of the catalog that hold every one of these tensors in this shape: a file may be one of many.

    Tensors of vision towers and the like, which no definition here has, do not count against a model; but some
    tensor must be its own.
    """
    if not shapes or len(shapes) > MOST_TENSORS:
        return []
    widths = {size for shape in shapes.values() for size in shape}
    return [
        entry.id for entry in catalog.entries() if known(entry.id).width in widths and _fits(known(entry.id), shapes)
    ]


def _fits(arch: Decoder, shapes: Mapping[str, Shape]) -> bool:
    own = {name: shape for entry in plain(arch) for name, shape in file_shapes(entry).items()}
    if arch.embedding.tied:
        own.setdefault("lm_head.weight", (arch.embedding.vocab, arch.width))
    for place in PLACES:
        placed = {place(name): shape for name, shape in own.items()}
        if all(placed.get(name) == shape for name, shape in shapes.items()):
            return True
    return False
