"""From a checkpoint to an engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .. import spec
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.reading import kind_of
from ..checkpoints.stored import Container
from ..errors import InputError
from . import lowering
from .engine import Parts
from .formats import Format, Weights, checked, format_for
from .library import MISSING, STATE_DTYPES, library, processors
from .packing import Progress, pack
from .plan import Builder, OperationTable, Plan
from .running import Running


def load(
    source: str | os.PathLike[str],
    weights_as: str = "as-is",
    threads: int | None = None,
    state: str | None = None,
    ignore: Collection[str] = (),
    mtp: bool = False,
    simd: str | None = None,
    progress: Progress[Any] = lambda items, count: items,
    cpus: Sequence[int] | None = None,
) -> Parts:
    """What an `Engine` is made of, with the weights of a checkpoint.

    Args:
        source: a folder, a .gguf file, a catalog name whose weights are at hand, or a hub id.
        weights_as: "as-is" keeps each matrix in the file's own format where there is such; "f32", "bf16", "q8" and "q4"
            convert all. Vectors and the matrices of routers are in float32.
        threads: as many as there are processors for this process, if None.
        state: the dtype of keys and values: "f32", "f16" or "q8"; if None, f32 where all matrices are, else f16.
        ignore: config keys or tensor names (patterns) that may be left out.
        mtp: whether to load the layers for multi-token prediction too, where the model has any.
        simd: the instruction set; the best that the machine has, if None.
        progress: wraps the tensors that are read, to show how far it is.
        cpus: the processor that each thread stays on, if any; the first is the caller's, and is left alone.

    Raises NotLoweredError for a part of the architecture that has no native form, and InputError for what cannot be
    found, does not match, or does not fit into memory.
    """
    chosen, built = checked(weights_as), library()
    if state is not None and state not in STATE_DTYPES:
        raise InputError(f"state={state!r} is not one of {', '.join(STATE_DTYPES)}")
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, got {threads}")
    there = processors()
    count = threads or len(there if cpus is None else cpus)
    if cpus is not None and (len(cpus) != count or not cpus or not set(cpus) <= set(there)):
        raise InputError(f"cpus must be one of the processors {there} for each of {count} threads, got {list(cpus)}")
    if built is None:
        raise InputError(f"the native engine is {MISSING}")
    checkpoint = Checkpoint.open(source, ignore)
    model = checkpoint.spec if mtp else replace(checkpoint.spec, mtp=())
    plan = checkpoint.plan(ignore, mtp)
    formats = _formats(plan.entries, checkpoint.tensors, chosen)
    plans = lowered(model, built, formats)
    packed = pack(built, plans, plan.entries, checkpoint.tensors, count, progress)
    running = [Running(part, packed, model, count, simd, cpus) for part in plans]
    exact = all(matrix.format == "f32" for matrix in plans[0].matrices)
    kept = state or ("f32" if exact else "f16")
    return Parts(model, running[0], running[1] if model.mtp else None, kept, frozenset(checkpoint.defaults.eos))


def lowered(model: spec.Decoder, operations: OperationTable, format_of: Callable[[str, str], Format]) -> list[Plan]:
    """The plan of a decoder, and that of its layers for multi-token prediction if it has any."""
    builder = Builder(operations, format_of)
    lowering.decoder(builder, model)
    plans = [builder.plan(model.output_width)]
    if model.mtp:
        builder = Builder(operations, format_of)
        lowering.ahead(builder, model)
        plans.append(builder.plan(len(model.mtp) * model.output_width))
    return plans


def _formats(
    entries: Iterable[spec.Tensors], container: Container, weights_as: Weights
) -> Callable[[str, str], Format]:
    """The format of each weight, by what the file has."""
    kinds: Mapping[str, str] = {
        name: kind for entry in entries for kind in (kind_of(entry, container),) for name in entry.ours
    }
    return lambda name, role: format_for(weights_as, kinds[name], role)
