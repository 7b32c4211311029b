"""The plans of the tiny models with random weights in a file, for tests/native_plans.cpp."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hostile.plans import SIZES, Drafts

from vitruvius.native.library import Library


def write(path: Path, library: Library, names: Sequence[str]) -> int:
    """Writes the plans of these cases, all weights in float32; how many there are."""
    drafts = Drafts(library)
    plans = []
    for name in names:
        chance = random.Random(name)
        found = drafts.lowered(name, lambda name, role: "f32", lambda m, chance=chance: drafts.weights(m, chance, 0))
        plans += [(name, draft) for draft in found]
    with path.open("wb") as file:
        file.write(struct.pack("<i", len(plans)))
        for name, draft in plans:
            lists = (draft.buffers, draft.matrices, draft.vectors, draft.states, draft.words)
            file.write(struct.pack("<64s", name.encode()))
            file.write(struct.pack("<10i", *(draft.sizes[size] for size in SIZES), *map(len, lists)))
            file.write(np.array(draft.buffers, "<i4").tobytes())
            for matrix, tensor in zip(draft.matrices, draft.data, strict=False):
                file.write(struct.pack("<4iQq", *matrix, 0, tensor.bytes))
            file.write(b"".join(struct.pack("<Qq", 0, size) for size in draft.vectors))
            file.write(np.array(draft.states, "<i4").tobytes())
            file.write(np.array(draft.words, "<i4").tobytes())
            for tensor in draft.data:
                file.write(tensor.memory.array().tobytes())
    return len(plans)
