"""What training costs: operations, memory on each device, device hours.

*Operations* are those of the matrices and of attention. Backward, each product of two matrices that both depend on
weights needs two more of the same size, so a step is 3 forward passes; with checkpointing the layers run forward once
more, which the utilisation does not count (PaLM, arXiv 2204.02311, appendix B: model FLOPs, "MFU"). The 3 does not hold
for what runs without gradients: a matrix whose input needs none saves one product, here the first layer's and so little
that it is not taken off.

*Weights, gradients and optimiser states* are exact for a recipe of bytes for each parameter. *Activations* are
estimated from the spec by one rule: what a product or a norm needs again for its gradient is kept, once. So each branch
keeps the stream and its normed copy, what its first matrices give, and what its last takes; attention's scores are made
again (arXiv 2205.14135); experts keep their own for each of the k. For GPT's layer that is 32 · W bytes for a token:
the 34 · W of Korthikanti et al. 2022 (arXiv 2205.05198, section 4.1) without its two dropout masks. With checkpointing
each layer keeps its input, and one layer at a time the rest.

*LoRA* (Hu et al. 2021, arXiv 2106.09685) trains two matrices of `rank` beside each matrix of the layers, experts' too,
and nothing else: the weights stay as they are stored (QLoRA, arXiv 2305.14314, with NF4), gradients and optimiser
states are of the adapters only, and backward each frozen matrix costs one product, not two.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import resources
from math import ceil, prod
from typing import Any, Literal

from ..errors import InputError
from ..sharding import Layout, on_one, stage_of, whole
from ..spec import Decoder, Node, Weight, walk
from .counting import Counted, counted
from .devices import Device
from .devices import device as device_named
from .formats import Format, Plain
from .part import MTP, headed

CHINCHILLA = 20  # tokens for each parameter: Hoffmann et al. 2022, arXiv 2203.15556, table 3
MFU = 0.4  # Llama 3 405B reports 0.38 to 0.43 (arXiv 2407.21783, table 4)
SECONDS = 3600  # of an hour


@dataclass(frozen=True)
class BytesPerParameter:
    """Bytes for each parameter: the weights that are computed with, gradients, the optimiser's own copy of the weights
    (0 without one) and one moment of it."""

    weights: int
    gradients: int
    master: int
    moment: int


RECIPES: Mapping[str, BytesPerParameter] = {
    "mixed": BytesPerParameter(
        2, 2, 4, 4
    ),  # 16 bytes with AdamW: Rajbhandari et al. 2019 (ZeRO), arXiv 1910.02054, section 3.1
    "mixed-f32-gradients": BytesPerParameter(2, 4, 4, 4),
    "deepseek-v3": BytesPerParameter(1, 4, 4, 2),  # FP8 weights, BF16 moments: arXiv 2412.19437, section 3.3
    "bf16": BytesPerParameter(2, 2, 0, 2),
    "f32": BytesPerParameter(4, 4, 0, 4),
}
MOMENTS = {"adamw": 2, "muon": 1}  # of matrices that Muon takes; all else has AdamW's two


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes on each device, and for how many parameters Muon keeps one moment only."""

    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    total_bytes: int
    capacity_bytes: int | None
    fits: bool | None
    muon_parameters: int
    adapter_parameters: int = 0


@dataclass(frozen=True)
class Run:
    """A training run: `mfu` is the share of the device's peak that the model's operations use."""

    device: str
    computed_in: str
    tokens: int
    mfu: float
    device_hours: float
    days: float
    dollars: float | None


@dataclass(frozen=True)
class PublishedRun:
    """What the makers say about their run, and the share of `peak` that it implies by the operations counted here; the
    peak is that of bf16, whatever it was computed in."""

    device: str
    tokens: int
    device_hours: float
    stages: Mapping[str, float]
    implied_mfu: float
    peak: float
    dollars: float | None
    source: str


@dataclass(frozen=True)
class Training:
    """Operations for a token, the average over a sequence of `sequence` tokens; multi-token prediction included, which
    is trained with the model. `chinchilla_tokens` are 20 for each parameter; for a mixture of experts, which the paper
    has not studied, also 20 for each active one."""

    sequence: int
    tokens: int
    forward_flops: int
    backward_flops: int
    recomputed_flops: int
    mtp_flops: int
    model_flops: int
    chinchilla_tokens: int
    chinchilla_tokens_active: int
    memory: TrainingMemory
    run: Run | None
    published: PublishedRun | None


def training(
    arch: Decoder,
    tokens: int | None = None,
    *,
    sequence: int | None = None,
    micro_batch: int = 1,
    device: Device | None = None,
    layout: Layout | None = None,
    zero: Literal[0, 1, 2, 3] = 0,
    checkpointing: bool = False,
    optimizer: Literal["adamw", "muon"] = "adamw",
    recipe: str = "mixed",
    dtype: str = "bf16",
    mfu: float = MFU,
    price: float | None = None,
    lora: int | None = None,
    weights: Format | None = None,
) -> Training:
    """What it costs to train `arch`.

    Args:
        tokens: of the whole run; by default 20 for each parameter.
        sequence: tokens of a sequence, by default 4,096 or the model's own context, whichever is shorter.
        micro_batch: sequences that pass through one group of devices at once.
        layout: how the model lies on several devices; `data` groups share the batch.
        zero: what the groups share out among themselves: 1 optimiser states, 2 gradients too, 3 weights too (FSDP).
        checkpointing: whether layers run forward again for their gradients.
        optimizer: "muon" takes the layers' matrices (Jordan 2024; Liu et al. 2025, arXiv 2502.16982), AdamW the
            embedding, the head, and all that is no matrix.
        recipe: a key of `RECIPES`.
        dtype: of the products, whose peak the utilisation is of.
        price: dollars for an hour of a device; by default what the device says.
        lora: the rank of adapters that are trained, and nothing else; None trains all weights.
        weights: the format of what is not trained, by default `dtype`.

    Raises InputError for values that cannot be.
    """
    sequence = min(arch.context, 4096) if sequence is None else sequence
    for name, value in (
        ("sequence", sequence),
        ("micro-batch", micro_batch),
        ("tokens", 1 if tokens is None else tokens),
    ):
        whole(name, value)
    if recipe not in RECIPES:
        raise InputError(f"recipe {recipe!r} is not known: it is one of {', '.join(RECIPES)}")
    if optimizer not in MOMENTS:
        raise InputError(f"optimizer {optimizer!r} is not known: it is one of {', '.join(MOMENTS)}")
    if zero not in (0, 1, 2, 3):
        raise InputError(f"ZeRO has the stages 0 to 3, got {zero!r}")
    if not 0 < mfu <= 1:
        raise InputError(f"the utilisation must lie above 0 and at most at 1, got {mfu!r}")
    if lora is not None:
        whole("lora", lora)
    every, layout = counted(arch), layout or Layout()
    forward, layers = forward_flops(arch, every, sequence)
    apart = mtp_flops(arch, every, sequence)
    total = sum(w.elements for w in every if w.part != MTP)
    active = sum(w.active for w in every if w.part != MTP)
    tokens = CHINCHILLA * total if tokens is None else tokens
    backward = 2 if lora is None else 1
    model = round((1 + backward) * (forward + apart) * tokens)
    run = None if device is None or not device.peaks else _run(device, dtype, model, tokens, mfu, layout.devices, price)
    passing = sequence * micro_batch
    kept = ceil(Fraction(activations(arch, checkpointing)) * passing / (layout.tensor * layout.context))
    if lora is None:
        sizes, matrices, adapters = *_trained(arch, every, layout, zero, optimizer, RECIPES[recipe]), 0
    else:
        sizes, adapters = _adapted(arch, every, layout, zero, lora, weights or Plain(dtype), dtype, RECIPES[recipe])
        matrices, kept = 0, kept + 2 * lora * passing * sum(map(_adaptable, every))
    held = _memory(sizes, kept, device, matrices, adapters)
    return Training(
        sequence=sequence,
        tokens=tokens,
        forward_flops=round(forward + apart),
        backward_flops=round(backward * (forward + apart)),
        recomputed_flops=round(layers + apart) if checkpointing else 0,
        mtp_flops=round(apart),
        model_flops=model,
        chinchilla_tokens=CHINCHILLA * total,
        chinchilla_tokens_active=CHINCHILLA * active,
        memory=held,
        run=run,
        published=published(arch, forward + apart),
    )


# ------------------------------------------------------------------ operations


def forward_flops(arch: Decoder, weights: Iterable[Counted], sequence: int) -> tuple[Fraction, Fraction]:
    """For one token of a sequence: of the whole model, and of its layers (without the head)."""
    products = dict.fromkeys(("head", "layers"), 0)
    for weight in weights:
        if weight.product and weight.part != MTP:
            products["head" if weight.part == "head" else "layers"] += 2 * weight.passes
    layers = products["layers"] + _scores((node for node, part in headed(arch) if part != MTP), sequence)
    return layers + products["head"], layers


def mtp_flops(arch: Decoder, weights: Iterable[Counted], sequence: int) -> Fraction:
    """Of multi-token prediction, for one token: its own layers, and the head once more for each."""
    own = sum(2 * weight.passes for weight in weights if weight.product and weight.part == MTP)
    heads = len(arch.mtp) * 2 * arch.width * arch.output_width
    inside = (node for module in arch.mtp for node in walk(module, arch.width))
    return own + heads + _scores(inside, sequence)


def _scores(nodes: Iterable[Node], sequence: int) -> Fraction:
    """The average over a sequence."""
    return Fraction(sum(node.spec.flops(sequence, tokens=sequence) for node in nodes), sequence)


def _run(device: Device, dtype: str, model: int, tokens: int, mfu: float, devices: int, price: float | None) -> Run:
    peak, computed_in = device.peak(dtype)
    hours = model / (peak * mfu * SECONDS)
    price = device.price if price is None else price
    return Run(
        device=device.name,
        computed_in=computed_in,
        tokens=tokens,
        mfu=mfu,
        device_hours=hours,
        days=hours / devices / 24,
        dollars=None if price is None else hours * price,
    )


def published(arch: Decoder, forward: Fraction) -> PublishedRun | None:
    """The run that the model's makers have published, if one is recorded. Its utilisation is that of the pre-training
    stage, in operations at bf16 whatever it was computed in."""
    record = _published().get(arch.name)
    if record is None:
        return None
    stages = record["stages"]
    peak, _ = device_named(record["peak_of"]).peak("bf16")
    operations = float(3 * forward * record["tokens"])
    return PublishedRun(
        device=record["device"],
        tokens=record["tokens"],
        device_hours=sum(stages.values()),
        stages=stages,
        implied_mfu=operations / (peak * SECONDS * next(iter(stages.values()))),
        peak=peak,
        dollars=record.get("dollars"),
        source=record["source"],
    )


@cache
def _published() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(resources.files(__package__).joinpath("training_runs.json").read_text("utf-8"))
    return found


# ------------------------------------------------------------------ memory


Sizes = Counter[str]  # bytes of weights, gradients, optimizer


def _memory(
    stages: list[Sizes], active: int, device: Device | None, muon_parameters: int, adapter_parameters: int
) -> TrainingMemory:
    """Of the fullest device."""
    fullest = max(stages, key=Counter.total)
    total = fullest.total() + active
    capacity = device.capacity if device else None
    return TrainingMemory(
        weights_bytes=fullest["weights"],
        gradients_bytes=fullest["gradients"],
        optimizer_bytes=fullest["optimizer"],
        activations_bytes=active,
        total_bytes=total,
        capacity_bytes=capacity,
        fits=None if capacity is None else total <= capacity,
        muon_parameters=muon_parameters,
        adapter_parameters=adapter_parameters,
    )


def _trained(
    arch: Decoder, weights: list[Counted], layout: Layout, zero: int, optimizer: str, recipe: BytesPerParameter
) -> tuple[list[Sizes], int]:
    """Where all weights are trained: bytes of each stage, and how many parameters Muon takes."""
    stages: list[Sizes] = [Counter() for _ in range(layout.pipeline)]
    matrices = 0
    for weight in (weight for weight in weights if weight.weight.role != "buffer"):
        held = weight.elements * on_one(weight.weight.dimensions, weight.node.copies, layout)
        moments = MOMENTS["muon"] if optimizer == "muon" and by_muon(weight) else MOMENTS["adamw"]
        stage = stages[stage_of(weight.node.path, arch, layout)]
        _add(stage, held, recipe, moments, _groups(weight, layout), zero)
        stage["weights"] += ceil(held * recipe.weights / (_groups(weight, layout) if zero >= 3 else 1))
        matrices += weight.elements if optimizer == "muon" and by_muon(weight) else 0
    return stages, matrices


def _adapted(
    arch: Decoder,
    weights: list[Counted],
    layout: Layout,
    zero: int,
    rank: int,
    stored: Format,
    dtype: str,
    recipe: BytesPerParameter,
) -> tuple[list[Sizes], int]:
    """Where adapters are trained: bytes of each stage, and the parameters of the adapters."""
    stages: list[Sizes] = [Counter() for _ in range(layout.pipeline)]
    adapters = 0
    for weight in weights:
        stage, groups = stages[stage_of(weight.node.path, arch, layout)], _groups(weight, layout)
        share = on_one(weight.weight.dimensions, weight.node.copies, layout)
        stage["weights"] += ceil(stored.stored(weight, dtype) * share / (groups if zero >= 3 else 1))
        if _adaptable(weight):
            own = rank * sum(weight.weight.shape) * weight.copies
            adapters += own
            held = own * share
            stage["weights"] += ceil(held * recipe.weights / (groups if zero >= 3 else 1))
            _add(stage, held, recipe, MOMENTS["adamw"], groups, zero)
    return stages, adapters


def _adaptable(weight: Counted) -> bool:
    """Whether it gets an adapter: the matrices of the layers ("all-linear"), routers and the head aside."""
    return weight.product and len(weight.weight.shape) == 2 and weight.part not in ("head", "router", MTP)


def _add(stage: Sizes, held: Fraction, recipe: BytesPerParameter, moments: int, groups: int, zero: int) -> None:
    stage["gradients"] += ceil(held * recipe.gradients / (groups if zero >= 2 else 1))
    stage["optimizer"] += ceil(held * (recipe.master + moments * recipe.moment) / (groups if zero >= 1 else 1))


def _groups(weight: Counted, layout: Layout) -> int:
    """Devices that hold the same of a weight."""
    spread = layout.spread if weight.copies > 1 else None
    return layout.stage // spread if spread else layout.data * layout.context


def by_muon(weight: Counted) -> bool:
    """Whether Muon takes it: the matrices between the embedding and the head, of each expert for itself."""
    return weight.product and len(weight.weight.shape) == 2 and weight.part != "head"


def activations(arch: Decoder, checkpointing: bool) -> int:
    """Bytes for one token that are kept from the forward pass to the backward one; see the module. The logits are kept
    in bf16 and float32, for each head once. With tensor parallelism all is cut among the devices, the stream along the
    sequence (arXiv 2205.05198, section 4.2.2)."""
    inside = [2 * ceil(_kept(node)) for node in walk(arch, arch.width) if node.spec.rerun]
    logits = (1 + len(arch.mtp)) * (2 + 4) * arch.output_width
    layers = len(inside) * 2 * arch.width + max(inside) if checkpointing else sum(inside)
    return layers + 2 * 2 * arch.width + logits  # the last norm's input and output


def _kept(layer: Node) -> Fraction:
    """Elements for one token that a layer keeps."""
    elements = Fraction(0)
    for node in walk(layer.spec, layer.width):
        spec = node.spec
        elements += spec.activations(node.width)
        passes = prod(axis.size for axis in node.copies) * Fraction(node.uses).limit_denominator(1 << 20)
        elements += passes * sum(map(_kept_by, spec.weights(node.width).values()))
    return elements


def _kept_by(weight: Weight) -> int:
    """Channels that a matrix gives, unless they join the stream, and that it takes, unless others take them too."""
    if weight.role != "matmul" or len(weight.shape) < 2:
        return 0
    out, into = ([axis.name for axis in dimension] for dimension in weight.dimensions[:2])
    gives = 0 if out == ["width"] else weight.shape[0]
    return gives + (0 if into == ["width"] or len(weight.shape) > 2 else weight.shape[1])
