"""The native engine with what inference adds to it: writing."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..native.engine import Engine
from ..native.loading import load
from ..native.packing import Progress
from .generation import write
from .sampling import Processor, Sampler


class NativeEngine(Engine):
    """A decoder on the processor, without torch: numpy in and out."""

    def generate(
        self,
        input_ids: NDArray[np.integer] | Sequence[Sequence[int]],
        max_new_tokens: int = 16,
        temperature: float = 0.0,
        seed: int | None = None,
        ignore_eos: bool = False,
        processors: Sequence[Processor] = (),
        **sampling: Any,
    ) -> NDArray[np.int64]:
        """What the model writes after each prompt, (B, new tokens): see `vitruvius.generate`."""
        sampler = Sampler(temperature=temperature, seed=seed, **sampling)
        return write(self, input_ids, max_new_tokens, sampler, ignore_eos, processors)


def engine(
    source: str | os.PathLike[str],
    weights: str = "as-is",
    threads: int | None = None,
    state: str | None = None,
    ignore: Collection[str] = (),
    mtp: bool = False,
    simd: str | None = None,
    progress: Progress[Any] = lambda items, count: items,
    cpus: Sequence[int] | None = None,
) -> NativeEngine:
    """The native CPU engine with the weights of a checkpoint: `engine(input_ids)` gives logits, `engine.generate` text.

    Args:
        source: a folder, a .gguf file, a catalog name whose weights are at hand, or a hub id.
        weights: "as-is" keeps each matrix in the file's own format where there is such; "f32", "bf16", "q8" and "q4"
            convert all.
        threads: as many as there are processors for this process, if None.
        state: the dtype of keys and values: "f32", "f16" or "q8"; if None, f32 where all matrices are, else f16.
        ignore: config keys or tensor names (patterns) that a fine-tune adds and that may be left out.
        mtp: whether to load the layers for multi-token prediction too, where the model has any.
        simd: the instruction set; the best that the machine has, if None.
        progress: wraps the tensors that are read, to show how far it is.
        cpus: the processor that each thread stays on, if any; the first is the caller's, and is left alone.

    Raises InputError, in one line: for what cannot be found or does not match, for a part of the architecture that has
    no native form, and where the library is not built.
    """
    return NativeEngine(load(source, weights, threads, state, ignore, mtp, simd, progress, cpus))
