"""How much memory a model needs: weights, state, activations; on one device or spread over several.

*Weights* are exact, in the format that is asked for. Multi-token prediction and a vision tower stand apart: an engine
loads them only where they are used. *State* is what the chosen policy reserves. *Activations* are estimated, as the
most that is alive at once while `tokens` tokens pass through the layers together:

    tokens · (2 · streams · width + outputs) · bytes + sequences · vocabulary · 4

with the residual stream and its normed copy, `outputs` the results of all matrices of the widest branch (attention's
scores are never written out: Dao et al. 2022, arXiv 2205.14135), and the last tokens' logits in float32. A program's
own context, its workspaces and what its allocator wastes are not in it; devices' capacities leave room for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from .. import catalog
from ..sharding import Layout, on_one, share_of, stage_of
from ..spec import Branch, Decoder, walk
from .counting import Counted
from .dtypes import bits, stored
from .part import MTP
from .policies import kept_by_stage, reserved_by
from .setting import Setting


@dataclass(frozen=True)
class Share:
    """Bytes that one device needs, of the fullest; `capacity_bytes` is what it has."""

    devices: int
    weights_bytes: int
    state_bytes: int
    activations_bytes: int
    needed_bytes: int
    capacity_bytes: int | None


@dataclass(frozen=True)
class Memory:
    """Bytes of weights and state. `fits` says whether every device holds its share, None without one.

    `state_bytes` is what the policy reserves; `activations_bytes` is estimated, and in no total but `per_device`'s.
    Multi-token prediction, unless it drafts, and vision are in none; `vision_bytes` is None where the catalog knows of
    no tower. `offloaded_bytes` of the weights lie in the processor's memory, and on no device.
    """

    weights_bytes: int
    state_bytes: int
    total_bytes: int
    fits: bool | None
    weights_format: str
    policy: str
    activations_bytes: int
    mtp_bytes: int
    vision_bytes: int | None
    per_device: Share
    offloaded_bytes: int


def needed(arch: Decoder, setting: Setting, every: Sequence[Counted]) -> Memory:
    """What `arch`, whose weights `every` are, needs in this setting."""
    sizes = [(weight.part, setting.weights.stored(weight, setting.dtype)) for weight in every]
    weights = sum(size for part, size in sizes if part != MTP or setting.serving.draft)
    (state,) = _states(arch, setting, Layout(), setting.batch)
    share = per_device(arch, setting, weights_on_one(arch, every, setting))
    return Memory(
        weights_bytes=weights,
        state_bytes=state,
        total_bytes=weights + state,
        fits=None if share.capacity_bytes is None else share.needed_bytes <= share.capacity_bytes,
        weights_format=setting.weights.name,
        policy=setting.policy,
        activations_bytes=activations(arch, setting, Layout(), setting.batch),
        mtp_bytes=sum(size for part, size in sizes if part == MTP),
        vision_bytes=vision(arch, setting.dtype),
        per_device=share,
        offloaded_bytes=sum(setting.weights.stored(each, setting.dtype) for each in every if away(each, setting)),
    )


def per_device(arch: Decoder, setting: Setting, weights: Sequence[int]) -> Share:
    """What the fullest of the layout's devices needs, given the bytes of weights of each stage."""
    layout, sequences = setting.layout, -(-setting.batch // setting.layout.data)
    states = _states(arch, setting, layout, sequences)
    held, state = max(zip(weights, states, strict=True), key=sum)
    active = activations(arch, setting, layout, sequences)
    capacity = setting.device.capacity if setting.device else None
    return Share(layout.devices, held, state, active, held + state + active, capacity)


def weights_on_one(arch: Decoder, weights: Iterable[Counted], setting: Setting) -> list[int]:
    """Bytes of weights on the fullest device of each stage; multi-token prediction's only where it drafts. A tied
    head's matrix is on the first stage too, where it is the embedding."""
    layout = setting.layout
    stages = [0] * layout.pipeline
    for weight in weights:
        if (weight.part == MTP and not setting.serving.draft) or away(weight, setting):
            continue
        size = setting.weights.stored(weight, setting.dtype)
        some = on_one(weight.weight.dimensions, weight.node.copies, layout)
        own = stage_of(weight.node.path, arch, layout)
        for stage in {own, 0} if weight.part == "head" and arch.embedding.tied else {own}:
            stages[stage] += -(-size * some.numerator // some.denominator)
    return stages


def away(weight: Counted, setting: Setting) -> bool:
    """Whether a weight lies in the processor's memory."""
    return setting.offload is not None and setting.offload.holds(weight)


def activations(arch: Decoder, setting: Setting, layout: Layout, sequences: int) -> int:
    """Estimated bytes while at most `setting.chunk` tokens of `sequences` sequences pass through; see the module."""
    tokens = -(-min(setting.chunk, sequences * setting.context) // layout.context)
    elements = tokens * (2 * arch.streams * arch.width + _outputs(arch, layout.tensor))
    logits = sequences * -(-arch.output_width // layout.tensor)
    return -(-elements * bits(setting.dtype) // 8) + 4 * logits


def vision(arch: Decoder, dtype: str) -> int | None:
    """Bytes of the vision tower, at `dtype`, of a model of the catalog; the count is recorded from transformers."""
    if arch.name not in catalog.names():
        return None
    exact = catalog.entry(arch.name).exact
    return None if exact["with_vision"] is None else stored(exact["with_vision"] - exact["total"], dtype)


def _states(arch: Decoder, setting: Setting, layout: Layout, sequences: int) -> list[int]:
    """Bytes of state on one device of each stage."""
    tokens = -(-setting.context // layout.context)
    return [
        reserved_by(setting.policy, layers, tokens, setting.state, sequences, setting.chunk, setting.serving)
        for layers in kept_by_stage(arch, layout, setting.serving.draft)
    ]


def _outputs(arch: Decoder, tensor: int) -> int:
    """Channels that the matrices of the widest branch give for one token, k of E experts counted."""
    branches = {branch for layer in arch.layers for branch in layer.branches}
    return max(_branch(branch, arch.width, tensor) for branch in branches)


def _branch(branch: Branch, width: int, tensor: int) -> int:
    total = Fraction(0)
    for node in walk(branch, width):
        for weight in node.spec.weights(node.width).values():
            if weight.role == "matmul" and len(weight.shape) == 2:
                copies = Counted("", "", weight, node).copies
                rows = weight.shape[0] * share_of(weight.dimensions[0], tensor)
                total += rows * copies * Fraction(node.uses * weight.uses).limit_denominator(1 << 20)
    return -(-total.numerator // total.denominator)
