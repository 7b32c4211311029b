"""Random matrices for vt_pack in every format: floats where it quantises, else blocks of the format's own kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitruvius.native.formats import FROM_FLOATS, OWN
from vitruvius.spec import BLOCKS

Bytes = NDArray[np.uint8]

# Where a block has its scale and minimum in float16, and how large they are if its numbers are about normal.
SCALES: dict[str, dict[int, float]] = {
    "Q4_0": {0: 0.2},
    "Q4_1": {0: 0.1, 2: 0.5},
    "Q5_0": {0: 0.1},
    "Q5_1": {0: 0.05, 2: 0.5},
    "Q8_0": {0: 0.013},
    "Q4_K": {0: 0.003, 2: 0.014},
    "Q5_K": {0: 0.0015, 2: 0.014},
    "Q6_K": {208: 0.0007},
    "MXFP4": {},
}
KINDS: dict[str, str] = {format_: kind for kind, format_ in OWN.items() if kind in SCALES}


def random_blocks(kind: str, rows: int, cols: int, rng: np.random.Generator, size: float = 1.0) -> Bytes:
    """Random bits as blocks whose numbers are about as large as normal ones times `size`."""
    elements, length = BLOCKS[kind]
    blocks = rng.integers(0, 256, (rows * cols // elements, length), dtype=np.uint8)
    for at, scale in SCALES[kind].items():
        scales = scale * size * rng.standard_normal((len(blocks), 1))
        blocks[:, at : at + 2] = scales.astype(np.float16).view(np.uint8)
    if kind == "MXFP4":
        blocks[:, 0] = 124 + np.log2(size) + rng.integers(0, 3, len(blocks))
    return blocks


def random_source(
    format_: str, rows: int, cols: int, rng: np.random.Generator, size: float = 1.0
) -> tuple[str, NDArray[Any], int]:
    """What a random matrix (rows, cols) of a format is packed from: its kind, the numbers, and how many columns these
    have, which are whole blocks: they take as much memory, and what fills the last block does not count."""
    if format_ in FROM_FLOATS:
        return "F32", (size * rng.standard_normal((rows, cols))).astype(np.float32), cols
    kind = KINDS[format_]
    whole = -(-cols // BLOCKS[kind][0]) * BLOCKS[kind][0]
    return kind, random_blocks(kind, rows, whole, rng, size), whole
