"""Mixers whose memory does not grow with the sequence: a short convolution, and a matrix for each head."""

from __future__ import annotations

from ... import spec as s
from ...cost.quantity import number
from ..description import Aspect, Description, Picture, describe, describes, phrase, times, title
from ..drawing.recurrent import gated_delta_net, kimi_delta, mamba2, short_convolution
from .feedforward import ACTIVATIONS

RECURRENT = {"memory": "recurrent"}


@describes(s.Convolution)
def _(spec: s.Convolution) -> Description:
    act = ACTIVATIONS[spec.act] if spec.act else None
    return Description(
        title="convolution",
        facts=[f"over {number(spec.kernel)} tokens", *([act] if act else []), *(["with bias"] if spec.bias else [])],
        equation=_activated(act, f"{'b + ' if spec.bias else ''}Σᵢ wᵢ · x₍t−i₎") + f",  i < {spec.kernel}",
        names={"kernel": "convolution over tokens", "bias": ("biases", "convolution")},
        aspects=[Aspect("activation", act, ("act",), "convolution")],
    )


def _activated(act: str | None, inside: str) -> str:
    return f"{act}({inside})" if act else inside


def _memory(dtype: str | None) -> list[str]:
    return [f"memory in {dtype}"] if dtype else []


DTYPE = {"memory_dtype": "memory in"}


@describes(s.GatedDeltaNet)
def _(spec: s.GatedDeltaNet) -> Description:
    beta, normed = times(spec.beta_scale, "σ(W_β x)"), describe(spec.norm).equation
    return Description(
        title="Gated DeltaNet",
        facts=[
            f"{spec.v_heads} heads of {number(spec.k_dim)} × {number(spec.v_dim)}",
            *([f"{spec.k_heads} heads of queries and keys"] if spec.k_heads != spec.v_heads else []),
            phrase(spec.conv),
            phrase(spec.norm),
            *([] if spec.beta_scale == 1.0 else [f"beta up to {number(spec.beta_scale)}"]),
            *_memory(spec.memory_dtype),
        ],
        equation=f"S ← αS;  S ← S + k (β (v − kᵀS))ᵀ;  y = W_o ({normed}) of x = qᵀS,  β = {beta}",
        names={
            "k_heads": "query and key heads",
            "v_heads": "memory heads",
            "k_dim": "query and key dim",
            "v_dim": "memory value dim",
            "conv": "convolution",
            "norm": ("norm", "output"),
            "beta_scale": "beta scaled by",
            **DTYPE,
        },
        filters={"attention": "Gated DeltaNet", **RECURRENT},
        picture=Picture(inset=gated_delta_net),
    )


@describes(s.KimiDelta)
def _(spec: s.KimiDelta) -> Description:
    return Description(
        title="Kimi Delta Attention",
        short="KDA",
        facts=[
            f"{spec.heads} heads of {number(spec.head_dim)}",
            f"decay and gate through {number(spec.gate_rank)} channels",
            phrase(spec.conv),
            phrase(spec.norm),
            *_memory(spec.memory_dtype),
        ],
        equation=f"S ← diag(α) S;  S ← S + k (β (v − kᵀS))ᵀ;  y = W_o ({describe(spec.norm).equation}) of x = qᵀS",
        names={
            "heads": "memory heads",
            "head_dim": "memory head dim",
            "gate_rank": "rank of decay and gate",
            "conv": "convolution",
            "norm": ("norm", "output"),
            **DTYPE,
        },
        filters={"attention": "Kimi Delta Attention", **RECURRENT},
        picture=Picture(inset=kimi_delta),
    )


@describes(s.Mamba2)
def _(spec: s.Mamba2) -> Description:
    least, most = spec.dt_limit
    limits = [f"at least {number(least)}"] if least else []
    limits += [f"at most {number(most)}"] if most is not None else []
    output = f"({describe(spec.norm).equation}) of x = y" if spec.norm else "(y ⊙ SiLU(z))"
    projections = [name for name, there in (("in", spec.in_bias), ("out", spec.out_bias)) if there]
    return Description(
        title="Mamba-2",
        facts=[
            f"{spec.heads} heads of {number(spec.state_dim)} × {number(spec.head_dim)}",
            f"b and c in {number(spec.groups)} groups",
            phrase(spec.conv),
            phrase(spec.norm) if spec.norm else "output gated by SiLU, not normed",
            *([f"dt {' and '.join(limits)}"] if limits else []),
            *([f"gate, x, b, c, dt × {', '.join(map(number, spec.multipliers))}"] if spec.multipliers else []),
            *([f"biases on the way {' and '.join(projections)}"] if projections else []),
            *_memory(spec.memory_dtype),
        ],
        equation=f"S ← exp(−A·dt) S + dt · b ⊗ x;  y = cᵀS + D·x;  W_out {output}",
        names={
            "heads": "memory heads",
            "head_dim": "memory head dim",
            "groups": "groups of b and c",
            "state_dim": "state dim",
            "conv": "convolution",
            "norm": ("norm", "output"),
            "in_bias": ("biases", "input projection"),
            "out_bias": ("biases", "output projection"),
            **DTYPE,
        },
        aspects=[
            Aspect("dt", " and ".join(limits) or "without limits", ("dt_limit",)),
            Aspect("gate, x, b, c, dt scaled by", spec.multipliers, ("multipliers",)),
        ],
        filters={"attention": "Mamba-2", **RECURRENT},
        picture=Picture(inset=mamba2),
    )


@describes(s.ShortConv)
def _(spec: s.ShortConv) -> Description:
    bias = " + b" if spec.bias else ""
    return Description(
        title="short convolution",
        facts=[f"{number(spec.dim)} channels", phrase(spec.conv), *(["biases"] if spec.bias else [])],
        equation=f"W_out (c ⊙ {title(spec.conv)}(b ⊙ x)){bias},  (b, c, x) = W_in x{bias}",
        names={"dim": "channels", "conv": "convolution", "bias": ("biases", "{role}")},
        filters={"attention": "short convolution", **RECURRENT},
        picture=Picture(inset=short_convolution),
    )
