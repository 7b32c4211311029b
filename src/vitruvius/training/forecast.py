"""Whether a run fits into memory, before anything is built, and what to change where it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ..cost.formats import weight_format
from ..cost.training import training
from ..errors import InputError
from ..spec import Decoder
from .recipe import Recipe

GIB = 2**30


def needed(arch: Decoder, recipe: Recipe) -> int:
    """Bytes that a step needs: weights, gradients and moments in float32, exactly, and what is kept of the forward
    pass, estimated (`cost.training`), in float32 twice as much as in bf16."""
    optimizer = "adamw" if recipe.optimizer == "adamw" else "muon"
    memory = training(
        arch,
        sequence=recipe.sequence,
        micro_batch=recipe.batch // recipe.accumulate,
        checkpointing=recipe.checkpointing,
        optimizer=optimizer,  # type: ignore[arg-type]  # mypy loses the literal
        recipe="f32",
        dtype="f32",
        lora=recipe.lora,
        weights=weight_format("nf4", arch) if recipe.quantize else None,
    ).memory
    return memory.total_bytes + (0 if recipe.precision == "bf16" else memory.activations_bytes)


def available(device: torch.device) -> int | None:
    """Bytes that are free; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def check(arch: Decoder, recipe: Recipe, free: int | None) -> None:
    """Raises InputError where a run needs more than is free, with the first of these that helps: checkpointing, smaller
    parts of the batch, both."""
    if free is None or (bytes_needed := needed(arch, recipe)) <= free:
        return
    parts = [n for n in range(recipe.accumulate + 1, recipe.batch + 1) if recipe.batch % n == 0]
    tried = [replace(recipe, checkpointing=True)]
    tried += [replace(recipe, accumulate=n) for n in parts]
    tried += [replace(recipe, accumulate=n, checkpointing=True) for n in parts]
    fitting = next((each for each in tried if needed(arch, each) <= free), None)
    if fitting is None:
        least = needed(arch, tried[-1])
        told = f"even with checkpointing and one row at a time it is {least / GIB:,.1f} GiB: take a smaller model"
        if recipe.sequence > 128:
            told += " or a shorter sequence"
    else:
        changed = [f"accumulate={fitting.accumulate}"] if fitting.accumulate != recipe.accumulate else []
        changed += ["checkpointing=true"] if fitting.checkpointing != recipe.checkpointing else []
        told = f"{' '.join(changed)} needs {needed(arch, fitting) / GIB:,.1f} GiB"
    raise InputError(
        f"{arch.name} needs about {bytes_needed / GIB:,.1f} GiB to train so, and {free / GIB:,.1f} GiB are free: {told}"
    )
