"""`vitruvius cost MODEL`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from . import options
from .output import emit, emit_json
from .training import taken, training_options

if TYPE_CHECKING:
    from ..cost import Cost
    from ..cost.explain import Figure
    from ..cost.setting import Attained
    from ..cost.training import Training
    from ..spec import Decoder


def _list_devices(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from ..cost.devices import devices
        from ..views.devices import devices_table

        emit(devices_table(devices(ctx.params.get("devices_file"))))
        ctx.exit()


@click.command()
@options.model
@options.context
@options.batch
@options.stored_dtype
@click.option("--weights", help="Format of the weights: bf16, fp8-block, int4-g128, q4_k_m … Default: as stored.")
@click.option(
    "--state-dtype", help="Format of the state (the KV cache): fp8_e4m3, q8_0, k=q8_0,v=q4_0 … Default: the dtype."
)
@click.option("--prefix-caching", is_flag=True, help="vLLM keeps prompts' states for others that begin alike.")
@click.option(
    "--speculative", type=click.IntRange(0), default=0, metavar="N", help="Tokens that vLLM drafts in a step."
)
@click.option("--draft", is_flag=True, help="With the weights and the state of the layers that predict several tokens.")
@click.option("--policy", default="minimum", show_default=True, help="Whose accounting of state: vllm, llama.cpp …")
@click.option("--device", help="A device to judge memory and time by: h100-sxm, m4-max, this-machine …")
@click.option("--memory", "size", type=options.Bytes(), help="What fits into so much: 24GiB, 80GB. Implies --fits.")
@click.option("--devices", type=click.IntRange(1), help="How many of them, matrices and heads cut among all.")
@click.option("--tensor", type=click.IntRange(1), help="Devices that matrices and heads are cut among.")
@click.option("--data", type=click.IntRange(1), help="Groups of these that share the batch.")
@click.option("--pipeline", type=click.IntRange(1), help="Stages of consecutive layers, each on devices of its own.")
@click.option("--offload", metavar="WHAT", help="Weights in the processor's memory: experts, layers, experts:20 …")
@click.option("--offload-bandwidth", type=options.Bytes(), help="Of that memory, in a second. Default: 89.6GB.")
@click.option(
    "--experts", type=click.Choice(["cut", "spread"]), help="Experts cut as well, or whole, over all devices."
)
@click.option("--chunk", type=options.Tokens(), help="The most tokens that pass through the layers at once.")
@click.option("--attained", multiple=True, metavar="NAME=FRACTION", help="Of the peak: compute, bandwidth, network.")
@click.option("--devices-file", type=click.Path(), is_eager=True, help="Devices of your own, as JSON.")
@click.option(
    "--list-devices",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_list_devices,
    help="Say which are known.",
)
@click.option("--measure", is_flag=True, help="Measure this machine anew, and take it as the device.")
@click.option("--fits", is_flag=True, help="Also the longest context, the largest batch, the fewest devices.")
@click.option("--explain", is_flag=True, help="Each figure's formula, in symbols and numbers, and where it is from.")
@training_options
@options.ignore_key
@options.as_json
@options.output
def command(
    model: str,
    context: int | None,
    batch: int,
    dtype: str | None,
    state_dtype: str | None,
    ignore: tuple[str, ...],
    as_json: bool,
    output: str | None,
    fits: bool,
    size: int | None,
    measure: bool,
    explain: bool,
    training: bool,
    **asked: Any,
) -> None:
    """Parameters, state, FLOPs, memory and time of MODEL.

    Prefill is BATCH prompts of CONTEXT tokens, the head computed for every token; decoding is one new token of one
    sequence at that position. A multiply-add is 2 FLOPs, scores count visible pairs, k = 1,024. State is the
    architectural minimum: windows keep their window. Multi-token prediction stands apart, unless it is to --draft.
    """
    from ..checkpoints.sources import architecture
    from ..cost import cost, fitting
    from ..cost.refusals import refusals
    from ..sizing import format_of

    arch = architecture(model, ignore)
    asked["weights"] = format_of(model, arch, asked["weights"], dtype, ignore)
    dtype = dtype or "bf16"
    run = taken(asked)
    if size is not None:
        asked["device"], fits = _of_size(size, asked["device"]), True
    if measure:
        from ..cost.this_machine import this_machine

        asked["device"] = this_machine(again=True)
    found = cost(arch, context, batch, dtype, state=state_dtype, **_spread(asked))
    fit = fitting.fit(arch, found.setting) if fits else None
    trained = _trained(arch, found, run) if training else None
    figures = _figures(arch, found, trained) if explain else []
    refused = refusals(arch, found.setting)
    if as_json:
        further: dict[str, Any] = {"fits": fit and asdict(fit), "training": trained and asdict(trained)}
        further["refusals"] = list(refused)
        further["explained"] = [figure.to_dict() for figure in figures]
        return emit_json(found.to_dict() | {name: value for name, value in further.items() if value}, output)
    return emit("\n\n".join([*_text(found, arch.context, fit, refused), *_further(trained, figures)]), output)


def _of_size(size: int, device: str | None) -> Any:
    """A device of which only the memory is known, or a known one with another memory."""
    from dataclasses import replace

    from ..cost.devices import device as device_named
    from ..cost.devices import memory_of
    from ..cost.quantity import size as shown

    if device is None:
        return memory_of(size)
    known = device_named(device)
    return replace(known, title=f"{known.title}, with {shown(size)}", capacity=size)


def _trained(arch: Decoder, found: Cost, run: dict[str, Any]) -> Training:
    from ..cost.training import training

    asked = found.setting
    stored = asked.weights if run.get("lora") else None
    return training(arch, device=asked.device, layout=asked.layout, dtype=asked.dtype, weights=stored, **run)


def _figures(arch: Decoder, found: Cost, trained: Training | None) -> list[Figure]:
    from ..cost.explain import explain, explain_training

    return explain(arch, found) + (explain_training(arch, trained) if trained else [])


def _further(trained: Training | None, figures: list[Figure]) -> list[str]:
    from ..views.training import explained, training_table

    return [text for text in (trained and training_table(trained), explained(figures)) if text]


def _text(found: Cost, made_for: int, fit: Any, refusals: tuple[str, ...]) -> list[str]:
    from ..views.devices import device_table, fits_table
    from ..views.table import cost_table

    parts = [cost_table(found), device_table(found)]
    if fit:
        parts.append(fits_table(found, fit))
    if found.state.context > made_for:
        parts.append(f"note: {found.model} is made for {made_for:,} tokens")
    parts += [f"note: engines refuse this layout: {why}" for why in refusals]
    return [part for part in parts if part]


def _spread(asked: dict[str, Any]) -> dict[str, Any]:
    """The options as `cost` takes them: those of the layout and the attained fractions together."""
    from ..cost.offload import Offload
    from ..cost.setting import Layout

    tensor, data, experts, pipeline = (asked.pop(key) for key in ("tensor", "data", "experts", "pipeline"))
    fractions, bandwidth = asked.pop("attained"), asked.pop("offload_bandwidth")
    if bandwidth and not asked["offload"]:
        raise click.UsageError("--offload-bandwidth says how fast --offload's weights are read; say --offload")
    if asked["offload"]:
        asked["offload"] = Offload.named(asked["offload"], bandwidth)
    if fractions:
        asked["attained"] = _attained(fractions)
    if tensor or data or experts or pipeline:
        data, pipeline = data or 1, pipeline or 1
        devices = asked.pop("devices")
        tensor = tensor or max(1, (devices or 1) // data // pipeline)
        asked["layout"] = Layout(tensor, data, experts or "cut", pipeline=pipeline)
        asked["devices"] = devices
    return asked


def _attained(fractions: tuple[str, ...]) -> Attained:
    from ..cost.setting import Attained

    found = {}
    for text in fractions:
        name, _, value = text.partition("=")
        if name not in ("compute", "bandwidth", "network"):
            raise click.UsageError(f"--attained {text!r}: say compute=, bandwidth= or network= and a fraction")
        try:
            found[name] = float(value)
        except ValueError:
            raise click.UsageError(f"--attained {text!r}: {value!r} is not a fraction") from None
    return Attained(**found)
