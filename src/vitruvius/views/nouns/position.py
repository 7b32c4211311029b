"""How a model knows where a token stands."""

from __future__ import annotations

from ... import spec as s
from ...cost.quantity import number
from ..description import Aspect, Callout, Description, Picture, describes, phrase, title
from ..drawing.attention import ROTATION


@describes(s.LearnedPositions)
def _(spec: s.LearnedPositions) -> Description:
    return Description(
        title="learned positions",
        facts=[number(spec.count)],
        equation="x + P[position]",
        names={"count": "learned positions"},
    )


@describes(s.RoPE)
def _(spec: s.RoPE) -> Description:
    scaled = f", scaled by {title(spec.scaling)}" if spec.scaling else ""
    theta = f"θᵢ = {number(spec.theta)}^(−2i/{spec.dim}){scaled}"
    return Description(
        title="RoPE",
        facts=[
            f"theta {number(spec.theta)}",
            *(["interleaved"] if spec.interleaved else []),
            *([phrase(spec.scaling)] if spec.scaling else []),
            *([phrase(spec.sections)] if spec.sections else []),
        ],
        equation=f"(x₁ cos mθᵢ − x₂ sin mθᵢ,  x₁ sin mθᵢ + x₂ cos mθᵢ),  {theta}",
        names={"theta": "RoPE theta", "dim": "RoPE channels", "scaling": "RoPE scaling", "sections": "M-RoPE"},
        aspects=[Aspect("RoPE pairs", "neighbours" if spec.interleaved else "halves", ("interleaved",))],
        picture=Picture(look=s.RoPE(theta=1.0, dim=spec.dim, interleaved=spec.interleaved), steps=ROTATION),
    )


@describes(s.Sections)
def _(spec: s.Sections) -> Description:
    sizes, axes = ", ".join(map(number, spec.sizes)), "time, height and width" if len(spec.sizes) == 3 else "each axis"
    return Description(
        title="M-RoPE",
        facts=[f"{sizes} pairs of channels for {axes}", *(["interleaved"] if spec.interleaved else [])],
        equation="m of each pair is the position on its axis",
        names={"sizes": "M-RoPE sections"},
        aspects=[Aspect("M-RoPE pairs", "in turn" if spec.interleaved else "in sections", ("interleaved",))],
    )


def _scaling(words: str) -> Picture:
    return Picture(callouts=[Callout(words)])


@describes(s.LinearScaling)
def _(spec: s.LinearScaling) -> Description:
    factor = number(spec.factor)
    return Description(
        title="linear scaling",
        facts=[f"factor {factor}"],
        equation=f"θᵢ / {factor}",
        names={"factor": "RoPE scaling factor"},
        picture=_scaling(f"RoPE positions ÷ {factor}"),
    )


@describes(s.Llama3Scaling)
def _(spec: s.Llama3Scaling) -> Description:
    factor, start = number(spec.factor), number(spec.original_context)
    low, high = number(spec.low_freq_factor), number(spec.high_freq_factor)
    return Description(
        title="Llama 3 scaling",
        facts=[f"factor {factor} from {start}", f"low {low}", f"high {high}"],
        equation=f"θᵢ / {factor} for wavelengths above {start} / {low}, θᵢ below {start} / {high}, mixed in between",
        names={
            "factor": "RoPE scaling factor",
            "original_context": "RoPE original context",
            "low_freq_factor": "RoPE low frequency factor",
            "high_freq_factor": "RoPE high frequency factor",
        },
        picture=_scaling(f"Llama 3 scaling × {factor} of {start}"),
    )


@describes(s.YaRN)
def _(spec: s.YaRN) -> Description:
    factor, start = number(spec.factor), number(spec.original_context)
    stretched = spec.attention_factor != 1.0
    return Description(
        title="YaRN",
        facts=[
            f"factor {factor} from {start}",
            f"beta {number(spec.beta_fast)}/{number(spec.beta_slow)}",
            *([f"attention factor {number(spec.attention_factor)}"] if stretched else []),
            *([] if spec.truncate else ["not truncated"]),
        ],
        equation=f"θᵢ · (1 − rᵢ + rᵢ / {factor}),  r a ramp between the wavelengths of {number(spec.beta_fast)} and "
        f"{number(spec.beta_slow)} turns in {start} tokens"
        + (f";  cos and sin times {number(spec.attention_factor)}" if stretched else ""),
        names={
            "factor": "RoPE scaling factor",
            "original_context": "RoPE original context",
            "beta_fast": "YaRN's fast beta",
            "beta_slow": "YaRN's slow beta",
            "attention_factor": "YaRN's attention factor",
            "truncate": "YaRN's ramp truncated",
        },
        picture=_scaling(f"YaRN × {factor} of {start}"),
    )


@describes(s.LongRoPE)
def _(spec: s.LongRoPE) -> Description:
    low, high, start = number(min(spec.factors)), number(max(spec.factors)), number(spec.original_context)
    stretched = spec.attention_factor != 1.0
    return Description(
        title="LongRoPE",
        facts=[
            f"factors {low} to {high} from {start}",
            *([f"attention factor {number(spec.attention_factor)}"] if stretched else []),
        ],
        equation=f"θᵢ / fᵢ,  f from {low} to {high}, found by a search"
        + (f";  cos and sin times {number(spec.attention_factor)}" if stretched else ""),
        names={
            "factors": "RoPE factors of the pairs",
            "original_context": "RoPE original context",
            "attention_factor": "LongRoPE's attention factor",
        },
        picture=_scaling(f"LongRoPE beyond {start}"),
    )


@describes(s.Proportional)
def _(spec: s.Proportional) -> Description:
    share, divided = f"on {number(100 * spec.share)} % of the channels", spec.factor != 1.0
    facts = [share, *([f"factor {number(spec.factor)}"] if divided else [])]
    scaled = f" / {number(spec.factor)}" if divided else ""
    return Description(
        title="proportional",
        facts=facts,
        equation=f"θᵢ{scaled} for the first {number(100 * spec.share)} % of the pairs, 0 for the others",
        names={"share": "share of the channels that turn", "factor": "RoPE scaling factor"},
        picture=_scaling(f"proportional {', '.join(facts)}"),
    )
