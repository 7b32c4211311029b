"""A sharding plan as text and as JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ..cost.dtypes import bits
from ..cost.quantity import number, size
from ..sharding import Collective, Placement, Replicate, ShardingPlan, WeightPlacement
from .table import table

LEAST = 16  # bits that devices send of a number


Waits = tuple[int, Fraction]  # micro-batches of a step, and the share of it in which a stage of the pipeline waits


def plan_table(name: str, plan: ShardingPlan, memory: Mapping[str, int], dtype: str, waits: Waits | None = None) -> str:
    """The layout, the memory of the fullest device, where weights lie, and what is sent, equal layers together."""
    layout = plan.layout
    mesh = " × ".join(f"{devices} {dimension}" for dimension, devices in layout.mesh.items() if dimension != "expert")
    experts = f", experts whole over {layout.spread}" if layout.spread else ""
    title = f"{name} on {number(layout.devices)} devices" + (f": {mesh}{experts}" if mesh else "")
    parts = [title, table([[kind, size(held)] for kind, held in memory.items()])]
    if waits:
        parts += [f"a stage waits for {float(waits[1]):.1%} of a step of {number(waits[0])} micro-batches"]
    parts += [table([["sent by a device", "over", "after", "times", "bytes", "per"], *_sent(plan, dtype)])]
    parts += [table([["weight", "times", "shape", "lies"], *_weights(plan)])]
    parts += [f"note: {note}" for note in plan.notes]
    parts += [f"engines refuse this: {why}" for why in plan.refusals]
    return "\n\n".join(part for part in parts if part)


def plan_dict(plan: ShardingPlan, memory: Mapping[str, int], dtype: str, waits: Waits | None = None) -> dict[str, Any]:
    """For JSON: every weight, state, module and exchange by itself."""
    layout = plan.layout
    return {
        "layout": {"devices": layout.devices, **layout.mesh},
        "memory": {f"{kind}_bytes": held for kind, held in memory.items()},
        "pipeline": None if waits is None else {"micro_batches": waits[0], "bubble": float(waits[1])},
        "communication": [
            {"kind": c.kind, "over": c.over, "after": c.module, "bytes": float(_bytes(c, dtype)), "per": c.per}
            for c in plan.collectives
        ],
        "weights": [
            {"name": w.name, "shape": w.shape, "stage": w.stage, "share": float(w.share), "placements": _named(w)}
            for w in plan.weights
        ],
        "state": [
            {"name": s.name, "stage": s.stage, "share": float(s.share), "placements": _named(s)} for s in plan.states
        ],
        "modules": [{"name": m.name, "input": m.input, "output": m.output} for m in plan.modules],
        "refusals": plan.refusals,
        "notes": plan.notes,
    }


def _bytes(each: Collective, dtype: str) -> Any:
    return each.elements * max(bits(dtype), LEAST) / 8


def _pattern(path: str) -> str:
    """layers.3.mixer -> layers.*.mixer"""
    return re.sub(r"\.\d+(?=\.|$)", ".*", path)


def _sent(plan: ShardingPlan, dtype: str) -> list[list[str]]:
    alike = Counter((c.kind, c.over, _pattern(c.module), _bytes(c, dtype), c.per) for c in plan.collectives)
    return [
        [kind.replace("_", "-"), over, module, number(times), number(round(moved)), per]
        for (kind, over, module, moved, per), times in alike.items()
    ] or [["nothing", "", "", "", "", ""]]


def _weights(plan: ShardingPlan) -> list[list[str]]:
    alike = Counter((_pattern(w.name), w.shape, _lies(w)) for w in plan.weights)
    return [[name, number(times), " × ".join(map(number, shape)), lies] for (name, shape, lies), times in alike.items()]


def _lies(weight: WeightPlacement) -> str:
    cut = {name: placed for name, placed in weight.placements.items() if not isinstance(placed, Replicate)}
    return ", ".join(f"{name} {_said(placed)}" for name, placed in cut.items()) or "whole"


def _said(placed: Placement) -> str:
    """cut 0: along the first dimension; cut 0 (4096/8 + 128/1): in segments, each into parts of its own."""
    if isinstance(placed, Replicate):
        return "whole"
    segments = " + ".join(f"{length}/{parts}" for length, parts in placed.segments)
    return f"cut {placed.dim}" + (f" ({segments})" if len(placed.segments) > 1 else "")


def _named(placed: Any) -> dict[str, str]:
    return {name: _said(each) for name, each in placed.placements.items()}
