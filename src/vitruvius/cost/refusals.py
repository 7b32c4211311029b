"""Layouts that engines refuse, and why."""

from __future__ import annotations

from collections.abc import Iterator

from ..sharding import RULES, Layout, fullest, plan
from ..spec import Decoder
from .counting import Counted, counted
from .setting import Setting


def refusals(arch: Decoder, setting: Setting) -> tuple[str, ...]:
    """Why engines refuse the setting's layout: units that do not divide, and blocks of packed weights that are cut
    (vLLM, model_executor/layers/quantization/fp8.py and gptq_marlin.py: "not divisible by weight quantization
    block"). Figures are given all the same, for the fullest device."""
    layout = setting.layout
    blocks = (why for weight in counted(arch) for why in _cut_blocks(weight, setting, layout))
    return tuple(dict.fromkeys((*plan(arch, layout).refusals, *blocks)))


def _cut_blocks(weight: Counted, setting: Setting, layout: Layout) -> Iterator[str]:
    tile = setting.weights.tile_of(weight)
    whole = layout.spread is not None and any(axis.cut == "experts" for axis in weight.node.copies)
    if tile is None or whole or layout.tensor == 1:
        return
    for dimension, block in zip(weight.weight.dimensions, tile, strict=True):
        for axis in dimension:
            own = fullest(axis, layout.tensor) * axis.unit
            if block and RULES[axis.cut].cut and own < axis.size and own % block:
                name = axis.name.replace("_", " ")
                each = f"{own:,} of {axis.size:,} {name} channels on each of {layout.tensor} devices"
                yield f"{each} cut blocks of {block}"
