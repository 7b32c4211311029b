"""`vitruvius shard MODEL`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from . import options
from .output import emit, emit_json

if TYPE_CHECKING:
    from ..sharding import Layout
    from ..spec import Decoder


class Devices(click.ParamType[tuple[int, int]]):
    """A number of devices, or nodes × devices of a node: 16, 64x8."""

    name = "devices"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """(nodes, devices of each). Anything else is a usage error."""
        if isinstance(value, tuple):
            return value
        first, times, second = str(value).casefold().replace("×", "x").partition("x")
        numbers = (first, second) if times else ("1", first)
        if not all(number.isascii() and number.isdigit() and 0 < int(number) < 10**6 for number in numbers):
            self.fail(f"{value!r} is not a number of devices such as 16 or 64x8", param, ctx)
        return int(numbers[0]), int(numbers[1])


@click.command()
@options.model
@click.option(
    "--devices", type=Devices(), default=(1, 8), show_default="8", help="16, or nodes × devices of each: 64x8."
)
@click.option("--tensor", type=click.IntRange(1), help="Devices that matrices and heads are cut among.")
@click.option("--pipeline", type=click.IntRange(1), default=1, help="Stages of consecutive layers.")
@click.option("--context-parallel", type=click.IntRange(1), default=1, help="Devices that share a sequence's tokens.")
@click.option("--experts", default="cut", help="cut, spread over all devices of a stage, or whole over so many.")
@click.option("--inference", is_flag=True, help="To serve it; by default it is trained.")
@click.option("--zero", type=click.IntRange(0, 3), default=3, show_default=True, help="ZeRO's stage; 3 is FSDP.")
@click.option("--checkpointing", is_flag=True, help="Run layers forward again instead of keeping activations.")
@click.option("--micro-batch", type=click.IntRange(1), default=1, help="Sequences that a group trains on at once.")
@click.option(
    "--micro-batches", type=click.IntRange(1), help="That pass through a pipeline in a step.  [default: 4 a stage]"
)
@options.context
@options.batch
@options.dtype
@options.ignore_key
@options.as_json
@options.output
def command(
    model: str,
    devices: tuple[int, int],
    inference: bool,
    ignore: tuple[str, ...],
    as_json: bool,
    output: str | None,
    **asked: Any,
) -> None:
    """The plan of MODEL on many devices, without them: where weights and state lie, the memory of the fullest device,
    and what devices send each other. CONTEXT is the length of a sequence, 4k by default when it is trained.

    What --tensor, --pipeline and --context-parallel leave of the devices shares the batch. Without --tensor matrices
    and heads are cut among as many devices of a node as divide them.
    """
    from ..checkpoints.sources import architecture
    from ..sharding import plan
    from ..views.sharding import plan_dict, plan_table

    arch = architecture(model, ignore)
    layout = _layout(arch, devices, asked)
    found = plan(arch, layout, None if inference else asked["zero"])
    memory = _memory(arch, layout, inference, asked)
    passing = asked["micro_batches"] or 4 * layout.pipeline
    waits = None if inference or layout.pipeline == 1 else (passing, layout.bubble(passing))
    if as_json:
        return emit_json({"model": arch.name} | plan_dict(found, memory, asked["dtype"], waits), output)
    return emit(plan_table(arch.name, found, memory, asked["dtype"], waits), output)


def _layout(arch: Decoder, devices: tuple[int, int], asked: dict[str, Any]) -> Layout:
    from ..errors import InputError
    from ..sharding import Layout, plan

    nodes, node = devices
    pipeline, context, experts = asked["pipeline"], asked["context_parallel"], asked["experts"]
    if (nodes * node) % (pipeline * context):
        raise InputError(f"{pipeline} stages of {context} devices do not divide {nodes * node} devices")
    stage = nodes * node // pipeline // context

    def layout(tensor: int) -> Layout:
        if stage % tensor:
            raise InputError(f"--tensor {tensor} does not divide the {stage} devices that are left for it")
        spread = int(experts) if experts.isascii() and experts.isdigit() else experts
        return Layout(tensor, stage // tensor, spread, context, pipeline)

    if asked["tensor"]:
        return layout(asked["tensor"])
    possible = [layout(t) for t in range(node, 0, -1) if node % t == 0 and stage % t == 0]
    return next(each for each in possible if each.tensor == 1 or not plan(arch, each).refusals)


def _memory(arch: Decoder, layout: Layout, inference: bool, asked: dict[str, Any]) -> dict[str, int]:
    """Bytes on the fullest device, by what they are for."""
    from ..cost import cost
    from ..cost.training import training

    if inference:
        found = asdict(cost(arch, asked["context"], asked["batch"], asked["dtype"], layout=layout).memory.per_device)
    else:
        run = {key: asked[key] for key in ("zero", "checkpointing", "micro_batch")}
        found = asdict(training(arch, sequence=asked["context"], layout=layout, **run).memory)
    kinds = ("weights", "gradients", "optimizer", "state", "activations")
    sizes = {kind: found[f"{kind}_bytes"] for kind in kinds if f"{kind}_bytes" in found}
    return sizes | {"total": sum(sizes.values())}
