"""Where each figure of a cost comes from: exact, published or estimated, its formula, and the numbers in it.

*Exact* follows from the definition alone. *Published* is what the makers of a model or a device say. *Estimated* rests
on an assumption, which the formula shows: attained fractions, evenly chosen experts, an engine's rules as they were
read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from .. import catalog
from ..spec import Decoder, StateEntry, walk
from .part import MTP, headed
from .quantity import flops, number, size
from .roofline import PartTime, Phase
from .state_formats import state_bits
from .training import CHINCHILLA, SECONDS, Training

if TYPE_CHECKING:
    from . import Cost

Origin = Literal["exact", "published", "estimated"]


@dataclass(frozen=True)
class Figure:
    """One figure: where it stands in the JSON, its unit and origin, the formula in symbols and in numbers, and the
    source of what is not the definition's."""

    name: str
    value: float | str
    unit: str
    origin: Origin
    formula: str
    numbers: str
    source: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        shown = self.value if isinstance(self.value, str) else number(self.value)
        lines = [f"{self.name} = {shown} {self.unit}".rstrip() + f"  ({self.origin})", f"  = {self.formula}"]
        lines += [f"  = {self.numbers}"] if self.numbers else []
        return "\n".join(lines + ([f"  source: {self.source}"] if self.source else []))


def explain(arch: Decoder, cost: Cost) -> list[Figure]:
    """All figures of `cost(arch, …)`, in its order."""
    found = [*_parameters(arch, cost), *_state(arch, cost), *_flops(arch, cost), *_memory(cost)]
    return found + (list(_time(arch, cost)) if cost.time else [])


def _parameters(arch: Decoder, cost: Cost) -> Iterator[Figure]:
    p = cost.parameters
    parts = {part: count for part, count in p.by_part.items() if part != MTP}
    yield Figure(
        "parameters.total", p.total, "", "exact", "Σ elements of every stored weight, a tied one once", _sum(parts)
    )
    numbers = ""
    if experts := _experts(arch):
        idle = number(p.total - p.active)
        numbers = f"{number(p.total)} − {idle} of experts not chosen (k = {experts[0]} of E = {experts[1]})"
    yield Figure("parameters.active", p.active, "", "exact", "total − Σ experts · (1 − k/E)", numbers)
    yield Figure(
        "parameters.active_without_input_embedding",
        p.active_without_input_embedding,
        "",
        "exact",
        "active − input embedding",
        f"{number(p.active)} − {number(p.active - p.active_without_input_embedding)}",
    )
    if arch.name in catalog.names():
        said = catalog.entry(arch.name).published
        for key in ("total", "active"):
            if said.get(key):
                yield Figure(
                    f"published.{key}", str(said[key]), "", "published", "as its makers say", "", said.get("source")
                )


def _state(arch: Decoder, cost: Cost) -> Iterator[Figure]:
    asked = cost.setting
    kinds: Counter[tuple[StateEntry, Fraction]] = Counter()
    for node, part in headed(arch):
        if part != MTP:
            entries = node.spec.state().values()
            kinds.update((state, state_bits(node.spec, state, asked.state) / 8) for state in entries)
    terms = [
        f"{count} · {_entry(state, asked.context)} · {float(size):g} bytes" for (state, size), count in kinds.items()
    ]
    yield Figure(
        "state.bytes",
        cost.state.bytes,
        "bytes",
        "exact",
        "batch · Σ layers · shape · min(context, window) · bytes of the dtype",
        f"{asked.batch} · ({' + '.join(terms) or 0})",
    )
    grown = [f"{n} · {_shape(s)} · {float(size):g}" for (s, size), n in kinds.items() if s.growth]
    yield Figure(
        "state.bytes_per_token",
        cost.state.bytes_per_token,
        "bytes",
        "exact",
        "Σ layers · shape · bytes, while no window is full",
        " + ".join(grown) or "0",
    )
    for policy, held in cost.state.policies.items():
        if policy not in ("minimum", "vitruvius"):
            rule = f"the rules of {policy} as its code has them"
            yield Figure(f"state.policies.{policy}", held, "bytes", "estimated", rule, "", "vitruvius.cost.policies")


def _entry(state: StateEntry, context: int) -> str:
    size = prod(state.shape)
    return _shape(state) if state.stride is None else f"{_shape(state)} · {number(state.elements(context) // size)}"


def _shape(state: StateEntry) -> str:
    return " · ".join(map(number, state.shape))


def _flops(arch: Decoder, cost: Cost) -> Iterator[Figure]:
    split, asked = cost.flops.by_part, cost.setting
    yield Figure(
        "flops.decode_per_token",
        cost.flops.decode_per_token,
        "FLOP",
        "exact",
        "2 · matrices' elements of one token + Σ layers 2 · heads · (key + value channels) · visible keys",
        _sum(split["decode_per_token"]),
    )
    yield Figure(
        "flops.prefill",
        cost.flops.prefill,
        "FLOP",
        "exact",
        "batch · (context · 2 · matrices' elements + Σ layers 2 · heads · (key + value channels) · visible pairs)",
        _sum(split["prefill"]),
    )
    latent = [node.spec for node in walk(arch, arch.width) if node.spec.forms(1)]
    if latent:
        for phase, tokens in (("prefill", asked.context), ("decode", 1)):
            forms = latent[0].forms(asked.context, tokens)
            yield Figure(
                f"latent attention, {phase}",
                min(forms, key=forms.__getitem__),
                "",
                "exact",
                "the form of fewer operations: expanded 2·H·(nope + rope + v)·pairs, and 2·rank·H·(nope + v) for each"
                " earlier token; absorbed 2·H·(2·rank + rope)·pairs",
                ", ".join(f"{form} {flops(count)} a layer" for form, count in forms.items()),
                "arXiv 2405.04434, section 2.1",
            )


def _memory(cost: Cost) -> Iterator[Figure]:
    m, asked = cost.memory, cost.setting
    yield Figure(
        "memory.weights_bytes",
        m.weights_bytes,
        "bytes",
        "exact",
        f"Σ elements · bits of {m.weights_format}, scales included",
        f"{8 * m.weights_bytes / cost.parameters.total:.4g} bits for each of {number(cost.parameters.total)}",
    )
    yield Figure(
        "memory.activations_bytes",
        m.activations_bytes,
        "bytes",
        "estimated",
        "tokens · (2 · streams · width + outputs of the widest branch) · bytes + sequences · vocabulary · 4",
        f"tokens = min({number(asked.chunk)}, {asked.batch} · {number(asked.context)})",
    )
    share = m.per_device
    yield Figure(
        "memory.per_device.needed_bytes",
        share.needed_bytes,
        "bytes",
        "estimated",
        "weights + state + activations of the fullest device",
        f"{size(share.weights_bytes)} + {size(share.state_bytes)} + {size(share.activations_bytes)}",
    )


def _time(arch: Decoder, cost: Cost) -> Iterator[Figure]:
    time, device, attained = cost.time, cost.setting.device, cost.setting.attained
    assert time is not None
    assert device is not None
    peak, dtype = device.peak(time.computed_in)
    for name, value, unit in ((f"peaks.{dtype}", peak, "FLOP/s"), ("bandwidth", device.bandwidth, "bytes/s")):
        doubt = " (not confirmed)" if {name, name.partition(".")[0]} & {*device.unconfirmed} else ""
        source = device.sources.get(name) or device.sources.get(name.partition(".")[0])
        yield Figure(f"{device.name}.{name}", value, unit, "published", f"{device.title}'s sheet{doubt}", "", source)
    rule = (
        f"Σ parts max(FLOPs / ({attained.compute:g} · peak), bytes / ({attained.bandwidth:g} · bandwidth), "
        f"bytes sent / ({attained.network:g} · link))"
    )
    for name, phase in (("first_token", time.prefill), ("per_token", time.decode)):
        yield Figure(
            f"time.{name}", phase.seconds, "s", "estimated", rule, _seconds(phase), "doi 10.1145/1498765.1498785"
        )
    yield Figure(
        "time.tokens_per_second",
        time.tokens_per_second,
        "tokens/s",
        "estimated",
        "batch / time per token",
        f"{number(cost.setting.batch)} / {time.per_token:.4g}",
    )
    experts = _experts(arch)
    if experts and time.decode.distinct_experts is not None:
        k, e = experts
        tokens = -(-cost.setting.batch // (1 if time.layout.experts == "spread" else time.layout.data))
        yield Figure(
            "time.decode.distinct_experts",
            time.decode.distinct_experts,
            f"of {e}",
            "estimated",
            "E · (1 − (1 − k/E)^tokens), each expert equally likely",
            f"{e} · (1 − (1 − {k}/{e})^{tokens})",
        )


def _experts(arch: Decoder) -> tuple[int, int] | None:
    """Of how many experts a token takes how many (k, E), in the first layer that has any."""
    for node in walk(arch, arch.width):
        for axis in node.copies:
            return round(node.uses * axis.count), axis.count
    return None


def _seconds(phase: Phase) -> str:
    longest: list[tuple[str, PartTime]] = sorted(phase.parts.items(), key=lambda item: -item[1].seconds)
    shown = [f"{part} {_of(each)}" for part, each in longest[:6] if each.seconds]
    rest = sum(each.seconds for _, each in longest[6:])
    return " + ".join(shown) + (f" + {rest:.3g} s of the rest" if rest else "")


def _of(part: PartTime) -> str:
    terms = [f"{value:.3g}" for value in (part.compute, part.memory, part.network) if value]
    return f"max({', '.join(terms)}) s, {part.bound}" if len(terms) > 1 else f"{terms[0]} s, {part.bound}"


def _sum(parts: Mapping[str, int]) -> str:
    return " + ".join(f"{part} {number(count)}" for part, count in parts.items() if count)


# ------------------------------------------------------------------ training


def explain_training(arch: Decoder, found: Training) -> list[Figure]:
    """All figures of `training(arch, …)`."""
    figures = [
        Figure(
            "training.forward_flops",
            found.forward_flops,
            "FLOP per token",
            "exact",
            f"2 · matrices' elements of one token + scores, over {found.sequence:,} tokens, + multi-token prediction",
            f"{number(found.forward_flops - found.mtp_flops)} + {number(found.mtp_flops)}",
        ),
        Figure(
            "training.model_flops",
            found.model_flops,
            "FLOP",
            "exact",
            "3 · forward · tokens: backward, each product needs two",
            f"3 · {number(found.forward_flops)} · {number(found.tokens)}",
            "arXiv 2204.02311, appendix B",
        ),
        Figure(
            "training.chinchilla_tokens",
            found.chinchilla_tokens,
            "tokens",
            "estimated",
            f"{CHINCHILLA} · parameters",
            f"{CHINCHILLA} · {number(found.chinchilla_tokens // CHINCHILLA)}",
            "arXiv 2203.15556, table 3",
        ),
    ]
    if run := found.run:
        peak = found.model_flops / (run.device_hours * SECONDS * run.mfu)
        figures.append(
            Figure(
                "training.run.device_hours",
                run.device_hours,
                f"hours of {run.device}",
                "estimated",
                "model FLOPs / (peak · MFU · 3,600)",
                f"{found.model_flops:.4g} / ({peak:.4g} · {run.mfu:g} · 3,600)",
            )
        )
    if said := found.published:
        stages = " + ".join(f"{name} {number(hours)}" for name, hours in said.stages.items())
        hours = next(iter(said.stages.values()))
        figures += [
            Figure(
                "training.published.device_hours",
                said.device_hours,
                f"hours of {said.device}",
                "published",
                stages,
                "",
                said.source,
            ),
            Figure(
                "training.published.implied_mfu",
                said.implied_mfu,
                "",
                "estimated",
                f"3 · forward · tokens / (peak in bf16 · 3,600 · hours of {next(iter(said.stages))})",
                f"{3 * found.forward_flops:.5g} · {said.tokens:.4g} / ({said.peak:.5g} · 3,600 · {number(hours)})",
            ),
        ]
    return figures
