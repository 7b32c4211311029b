"""Normalisation over the last axis."""

from __future__ import annotations

from ... import spec as s
from ...cost.quantity import number
from ..description import Aspect, Description, Picture, callout, describes, shown

EPS = {"eps": "norm eps"}


def _callouts(eps: float, said: str, field: str) -> Picture:
    small = callout(f"ε = {number(eps).replace('e-0', 'e-')}", "eps", quiet=True)
    return Picture(callouts=[small, callout(said, field, quiet=True)])


@describes(s.RMSNorm)
def _(spec: s.RMSNorm) -> Description:
    stored = f"({number(spec.offset)} + w)" if spec.offset else "w"
    weight = f"{shown(spec.offset)} + w" if spec.offset else "w"
    return Description(
        title="RMSNorm",
        facts=[f"eps {number(spec.eps)}", *([f"weight {weight}"] if spec.offset else [])],
        equation=f"{stored} ⊙ x / √(mean(x²) + ε)",
        names=EPS,
        aspects=[Aspect("norm weight", weight, ("offset",), "{role}")],
        picture=_callouts(spec.eps, f"× {stored.replace('w', 'weight')}", "offset"),
    )


@describes(s.LayerNorm)
def _(spec: s.LayerNorm) -> Description:
    return Description(
        title="LayerNorm",
        facts=[f"eps {number(spec.eps)}", *([] if spec.bias else ["no bias"])],
        equation=f"w ⊙ (x − mean) / √(var + ε){' + b' if spec.bias else ''}",
        names=EPS | {"bias": "norm bias"},
        picture=_callouts(spec.eps, "with bias" if spec.bias else "no bias", "bias"),
    )


@describes(s.WeightlessNorm)
def _(spec: s.WeightlessNorm) -> Description:
    return Description(
        title="weightless RMSNorm",
        facts=[f"eps {number(spec.eps)}"],
        equation="x / √(mean(x²) + ε)",
        names=EPS,
    )


@describes(s.UnitNorm)
def _(spec: s.UnitNorm) -> Description:
    return Description(title="unit norm", facts=[f"eps {number(spec.eps)}"], equation="w ⊙ x / √(Σx² + W ε)", names=EPS)


@describes(s.GatedNorm)
def _(spec: s.GatedNorm) -> Description:
    act = {"silu": "SiLU", "sigmoid": "sigmoid"}[spec.act]
    gate = "SiLU(z)" if spec.act == "silu" else "σ(z)"
    order = f"gated by {act} before it is normed" if spec.gate_first else f"then gated by {act}"
    groups = [f"in {number(spec.groups)} groups"] if spec.groups > 1 else []
    return Description(
        title="gated RMSNorm",
        facts=[f"eps {number(spec.eps)}", order, *groups],
        equation=f"w ⊙ norm(x ⊙ {gate})" if spec.gate_first else f"w ⊙ norm(x) ⊙ {gate}",
        names=EPS | {"act": "norm's gate", "gate_first": "gate before the norm", "groups": "norm groups"},
    )
