"""How long a step takes at least: for every part the slowest of computing, moving bytes and telling other devices.

Williams et al. 2009, "Roofline", doi 10.1145/1498765.1498785: a part's time is the largest of FLOPs / peak, bytes /
bandwidth and bytes sent / link, each peak times the fraction of it that programs attain. A step is the sum of its
parts. What is left out, so that the times are low rather than high: activations moved between kernels, norms and
softmax, launching kernels, latencies of the network, waiting for a slower device, uneven choices of experts.

Prefill is all prompts, `setting.chunk` tokens at a time, for which the weights are read once; the head is computed for
the last token of each (as engines do; `cost`'s prefill FLOPs count it for every token). Decoding is one token for each
sequence, at position `context`.

A pipeline of P stages works on as many parts of the batch at once, as far as there are sequences: a sequence's next
token takes as long as its part needs through all stages, or as the longest stage needs for all parts, whichever is
more. A prompt's first chunk goes through all stages, the others follow, each after the longest stage's time.

Weights in the processor's memory (`offload`) are read at its bandwidth, within the same part of a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil

from ..errors import InputError
from ..sharding import Layout, on_one, sent, share
from ..spec import Decoder
from .counting import Counted
from .dtypes import bits
from .memory import away
from .setting import Attained, Setting
from .state_formats import state_bits
from .work import Mixer, Sent, Work, forms, work, written

BOUNDS = ("compute", "memory", "network")
ACTIVATION_BITS = 16  # the fewest that devices send of a number


@dataclass(frozen=True)
class PartTime:
    """One part on one device: what it does, how long each of the three would take, and which is the longest."""

    flops: float
    bytes: float
    sent: float
    compute: float
    memory: float
    network: float
    seconds: float
    bound: str


@dataclass(frozen=True)
class Phase:
    """A prefill or a step of decoding. `bound` is what most of the seconds are spent on. Of a pipeline, `seconds` have
    the waiting for other stages in them, and the rest is of one part of the batch through all stages."""

    seconds: float
    bound: str
    bounds: Mapping[str, float]
    form: str | None
    distinct_experts: float | None
    parts: Mapping[str, PartTime]


@dataclass(frozen=True)
class Time:
    """Seconds on a device, or on several. `per_token` is a sequence's wait for its next token, `tokens_per_second` what
    all sequences get together; `computed_in` the dtype of the matrix products."""

    device: str
    layout: Layout
    attained: Attained
    computed_in: str
    first_token: float
    per_token: float
    tokens_per_second_each: float
    tokens_per_second: float
    prefill_tokens_per_second: float
    prefill: Phase
    decode: Phase


def time(arch: Decoder, setting: Setting, parts: tuple[Work, ...] | None = None) -> Time | None:
    """Of prefill and decoding; None without a device, for one of which only the memory is known, and where the tokens
    of a sequence are cut, which nothing here estimates. `parts` is `work(arch)`, for who asks often. Raises InputError
    where devices have no link."""
    if setting.device is None or not setting.device.peaks or setting.layout.context > 1:
        return None
    parts, rates = parts or work(arch), Rates.of(setting)
    kinds, stages = forms(parts, setting.context), setting.layout.pipeline
    group = ceil(setting.batch / setting.layout.data)  # sequences of one group of devices
    at_once = ceil(group / stages)  # of them in each part of the batch that goes through a pipeline
    some = replace(setting, batch=at_once * setting.layout.data) if stages > 1 else setting
    prefill = _phase([*_steps(parts, setting, True), *_between(arch, setting, True)], rates, kinds.get("prefill"))
    decode = _phase([*_steps(parts, some, False), *_between(arch, some, False)], rates, kinds.get("decode"))
    if stages > 1:
        longest = ceil(len(arch.layers) / stages) / len(arch.layers)  # the share of the longest stage
        chunks = ceil(group * setting.context / setting.chunk)
        prefill = _stretched(prefill, (1 + (chunks - 1) * longest) / chunks)
        decode = _stretched(decode, max(1.0, ceil(group / at_once) * longest))
    return Time(
        device=setting.device.name,
        layout=setting.layout,
        attained=setting.attained,
        computed_in=rates.dtype,
        first_token=prefill.seconds,
        per_token=decode.seconds,
        tokens_per_second_each=1 / decode.seconds,
        tokens_per_second=setting.batch / decode.seconds,
        prefill_tokens_per_second=setting.batch * setting.context / prefill.seconds,
        prefill=prefill,
        decode=decode,
    )


@dataclass(frozen=True)
class Rates:
    """What a device attains, per second: operations of products and of scores, bytes of memory, of its node's link, of
    the network between nodes, and of the processor's memory."""

    products: float
    scores: float
    memory: float
    link: float | None
    network: float | None
    host: float
    dtype: str

    @classmethod
    def of(cls, setting: Setting) -> Rates:
        """The device's peaks times the attained fractions."""
        device, attained = setting.device, setting.attained
        assert device is not None
        products, dtype = device.peak(setting.weights.compute(setting.dtype))
        scores, _ = device.peak(setting.dtype)
        return cls(
            products * attained.compute,
            scores * attained.compute,
            device.bandwidth * attained.bandwidth,
            device.link and device.link * attained.network,
            device.network and device.network * attained.network,
            (setting.offload.bandwidth if setting.offload else device.bandwidth) * attained.bandwidth,
            dtype,
        )


@dataclass(frozen=True)
class Step:
    """One part's share on one device: operations, bytes of its memory and of the processor's (`away`), bytes to others
    of its node and beyond it."""

    part: str
    products: float
    scores: float
    bytes: float
    inside: float
    outside: float
    distinct_experts: float | None
    away: float = 0.0


def _steps(parts: Iterable[Work], setting: Setting, prompt: bool) -> list[Step]:
    group = ceil(setting.batch / setting.layout.data)  # sequences of one group of devices
    tokens = group * (setting.context if prompt else 1)
    return [_step(part, setting, group, tokens, prompt) for part in parts]


def _step(part: Work, setting: Setting, group: int, tokens: int, prompt: bool) -> Step:
    """`group` sequences, of which `tokens` tokens pass through the layers."""
    tensor = setting.layout.tensor
    seen = group if part.last else tokens
    passes = ceil(seen / setting.chunk)
    running = [weight for weight in part.weights if prompt or not weight.encoder_side]
    read = [(passes * weight_bytes(weight, setting, seen / passes), away(weight, setting)) for weight in running]
    moved: float = sum(size for size, there in read if not there)
    moved += group * sum(_state_bytes(mixer, setting, prompt) for mixer in part.mixers)
    moves = [sent_bytes(each, setting, seen) for each in part.sent if prompt or not each.encoder_side]
    return Step(
        part=part.part,
        products=float(seen * part.products(prompt, tensor)),
        scores=float(group * part.scores(setting.context, prompt, tensor)),
        bytes=moved,
        inside=sum(near for near, _ in moves),
        outside=sum(far for _, far in moves),
        distinct_experts=next((_experts(w, setting, seen / passes) for w in running if w.copies > 1), None),
        away=sum(size for size, there in read if there),
    )


def _between(arch: Decoder, setting: Setting, prompt: bool) -> list[Step]:
    """The stream that a stage of a pipeline sends to the next, at every boundary."""
    layout, device = setting.layout, setting.device
    assert device is not None
    if layout.pipeline == 1:
        return []
    tokens = ceil(setting.batch / layout.data) * (setting.context if prompt else 1)
    elements = (layout.pipeline - 1) * tokens * arch.streams * arch.width / layout.tensor
    size = elements * max(bits(setting.dtype), ACTIVATION_BITS) / 8
    near = layout.devices <= device.devices_per_node
    return [Step("pipeline", 0.0, 0.0, 0.0, size if near else 0.0, 0.0 if near else size, None)]


def weight_bytes(weight: Counted, setting: Setting, tokens: float) -> float:
    """Bytes of a weight that one device reads for the `tokens` tokens of its group: of a table a row for each, of
    experts those that are touched."""
    whole, layout = setting.weights.stored(weight, setting.dtype), setting.layout
    part = whole * float(on_one(weight.weight.dimensions, weight.node.copies, layout))
    if weight.copies > 1 and layout.spread:
        return whole * touched(weight.uses, tokens * layout.spread / layout.tensor) / layout.spread
    if weight.weight.role == "table":
        return part * min(tokens / weight.weight.shape[0], 1)
    return part * touched(weight.uses, tokens)


def touched(uses: float, tokens: float) -> float:
    """The share of the experts that `tokens` tokens touch, 1 − (1 − k/E)^tokens; all of what every token uses."""
    return 1.0 if uses >= 1 else 1 - (1 - uses) ** tokens


def _experts(weight: Counted, setting: Setting, tokens: float) -> float:
    """How many distinct experts a step touches, on all devices."""
    spread, tensor = setting.layout.spread, setting.layout.tensor
    everywhere = tokens * (spread / tensor if spread else 1)
    return weight.copies * touched(weight.uses, everywhere)


def _state_bytes(mixer: Mixer, setting: Setting, prompt: bool) -> float:
    """Of one sequence, on one of the devices that its heads are cut among."""
    if mixer.encoder_side and not prompt:
        return 0.0
    moved = written(mixer.spec, setting.context) if prompt else mixer.spec.reads(setting.context)
    return mixer.count * sum(
        float(
            elements * state_bits(mixer.spec, entry, setting.state) / 8 * share(entry.dimensions, setting.layout.tensor)
        )
        for entry, elements in moved
    )


def sent_bytes(each: Sent, setting: Setting, tokens: int) -> tuple[float, float]:
    """Bytes that one device sends for its group's `tokens` tokens, to its own node and beyond
    it."""
    layout, device = setting.layout, setting.device
    assert device is not None
    elements = float(tokens * each.count * sent(each.exchange, layout))
    volume = elements * max(bits(setting.dtype), ACTIVATION_BITS) / 8
    n = (layout.spread or 1) if each.exchange.kind == "spread" else layout.tensor
    if each.exchange.kind != "spread":
        return (volume, 0.0) if n <= device.devices_per_node else (0.0, volume)
    far = max(n - device.devices_per_node, 0) / (n - 1) if n > 1 else 0.0
    return volume * (1 - far), volume * far


# ------------------------------------------------------------------ from work to seconds


def _phase(steps: Iterable[Step], rates: Rates, form: str | None) -> Phase:
    steps = list(steps)
    parts = {step.part: part_time(step, rates) for step in steps}
    bounds = dict.fromkeys(BOUNDS, 0.0)
    for part in parts.values():
        bounds[part.bound] += part.seconds
    return Phase(
        seconds=sum(part.seconds for part in parts.values()),
        bound=max(BOUNDS, key=bounds.__getitem__),
        bounds=bounds,
        form=form,
        distinct_experts=next((s.distinct_experts for s in steps if s.distinct_experts is not None), None),
        parts=parts,
    )


def _stretched(phase: Phase, factor: float) -> Phase:
    """Longer by waiting, or shorter since stages work at once."""
    bounds = {bound: seconds * min(factor, 1.0) for bound, seconds in phase.bounds.items()}
    return replace(phase, seconds=phase.seconds * factor, bounds=bounds)


def part_time(step: Step, rates: Rates) -> PartTime:
    """The longest of the three, taken to overlap within a part but not between parts."""
    each = {
        "compute": step.products / rates.products + step.scores / rates.scores,
        "memory": step.bytes / rates.memory + step.away / rates.host,
        "network": max(_over(step.inside, rates.link), _over(step.outside, rates.network)),
    }
    bound = max(BOUNDS, key=each.__getitem__)
    return PartTime(
        flops=step.products + step.scores,
        bytes=step.bytes + step.away,
        sent=step.inside + step.outside,
        compute=each["compute"],
        memory=each["memory"],
        network=each["network"],
        seconds=each[bound],
        bound=bound,
    )


def _over(size: float, rate: float | None) -> float:
    if not size:
        return 0.0
    if rate is None:
        raise InputError("the device's link to others is not known, so a model cannot be spread over several of it")
    return size / rate
