"""A training run as text, and explained figures."""

from __future__ import annotations

from collections.abc import Sequence

from ..cost.explain import Figure
from ..cost.quantity import count, flops, number, size
from ..cost.training import PublishedRun, Run, Training
from .table import table


def training_table(found: Training) -> str:
    """Operations, memory on a device, the run, and what its makers have published."""
    rows = [
        ["forward, per token", flops(found.forward_flops), f"averaged over {number(found.sequence)} tokens"],
        ["backward", flops(found.backward_flops), f"{'1' if found.memory.adapter_parameters else '2'} × forward"],
    ]
    if found.mtp_flops:
        rows.insert(1, ["  multi-token prediction", flops(found.mtp_flops), "trained with the model"])
    if found.recomputed_flops:
        rows.append(["recomputed", flops(found.recomputed_flops), "checkpointing; not in the utilisation"])
    rows.append(["all tokens", flops(found.model_flops), f"forward and backward × {count(found.tokens)} tokens"])
    rows.append(["20 tokens per parameter", count(found.chinchilla_tokens), "Chinchilla-optimal, arXiv 2203.15556"])
    if found.chinchilla_tokens != found.chinchilla_tokens_active:
        rows.append(["  per active parameter", count(found.chinchilla_tokens_active), "not studied for experts"])
    memory = found.memory
    parts = [("weights", memory.weights_bytes), ("gradients", memory.gradients_bytes)]
    parts += [("optimiser", memory.optimizer_bytes), ("activations", memory.activations_bytes)]
    rows += [["", ""], *([f"{name}, each device", size(some), ""] for name, some in parts)]
    if memory.adapter_parameters:
        rows.append(["adapters", count(memory.adapter_parameters), "parameters; the rest is not trained"])
    if memory.muon_parameters:
        rows.append(["  of them by Muon", count(memory.muon_parameters), "parameters: the layers' matrices"])
    limit = (
        f"of {size(memory.capacity_bytes)}: {'fits' if memory.fits else 'does not fit'}"
        if memory.capacity_bytes
        else ""
    )
    rows.append(["needed, each device", size(memory.total_bytes), limit])
    rows += _run(found.run) if found.run else []
    rows += _published(found.published) if found.published else []
    return "training\n\n" + table(rows)


def _run(run: Run) -> list[list[str]]:
    rows = [
        ["", ""],
        [
            "device hours",
            count(round(run.device_hours)),
            f"estimated: {run.device} at {run.mfu:.0%} of its {run.computed_in} peak",
        ],
        ["days", number(round(run.days, 1)), ""],
    ]
    return rows + ([["dollars", count(round(run.dollars)), ""]] if run.dollars is not None else [])


def _published(run: PublishedRun) -> list[list[str]]:
    stages = ", ".join(f"{name} {count(round(hours))}" for name, hours in run.stages.items())
    rows = [
        ["", ""],
        ["published: device hours", count(round(run.device_hours)), f"{run.device}: {stages}"],
        ["published: tokens", count(run.tokens), run.source],
        [
            "implied utilisation",
            f"{run.implied_mfu:.1%}",
            f"of {run.peak / 1e12:,.1f} TFLOP/s in bf16, in {next(iter(run.stages))}",
        ],
    ]
    return rows + ([["published: dollars", count(round(run.dollars)), ""]] if run.dollars is not None else [])


def explained(figures: Sequence[Figure]) -> str:
    """Every figure with its formula, in symbols and in numbers."""
    return "\n\n".join(map(str, figures))
