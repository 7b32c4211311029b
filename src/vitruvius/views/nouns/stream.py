"""What surrounds layers: several residual streams, a low-rank residual, an input of its own for each layer."""

from __future__ import annotations

from ... import spec as s
from ...cost.quantity import number
from ..description import Aspect, Description, describe, describes, phrase, title
from .feedforward import ACTIVATIONS


@describes(s.PerLayerTable)
def _(spec: s.PerLayerTable) -> Description:
    return Description(
        title="per-layer table",
        facts=[f"{number(spec.vocab)} tokens", f"{spec.layers} layers of {number(spec.dim)}"],
        equation="table[token]",
        names={"vocab": "per-layer vocabulary", "dim": "per-layer input dim"},
        aspects=[Aspect("", spec.layers, ("layers",))],  # as many as the decoder has
    )


@describes(s.PerLayerEmbedding)
def _(spec: s.PerLayerEmbedding) -> Description:
    return Description(
        title="per-layer embeddings",
        facts=[
            f"of {spec.table.dim} for {number(spec.table.vocab)} tokens",
            "in a table that may live on slower memory",
        ],
        equation=f"({title(spec.norm)}(W x / √W) + √{number(spec.table.dim)} · table[token]) / √2",
        names={"table": "per-layer table", "norm": ("norm", "per-layer")},
    )


@describes(s.PerLayerInput)
def _(spec: s.PerLayerInput) -> Description:
    act = ACTIVATIONS[spec.act]
    return Description(
        title="per-layer input",
        facts=[f"of {spec.dim}", act],
        equation=f"{title(spec.norm)}(W ({act}(W_gate x) ⊙ e))",
        names={"dim": "per-layer input dim", "norm": ("norm", "per-layer input")},
        aspects=[Aspect("activation", act, ("act",), "per-layer input")],
    )


@describes(s.Laurel)
def _(spec: s.Laurel) -> Description:
    return Description(
        title="LAuReL",
        facts=[f"of rank {spec.rank}", f"then {phrase(spec.norm)}"],
        equation=f"x + {title(spec.norm)}(W_right W_left x)",
        names={"rank": "LAuReL rank", "norm": ("norm", "LAuReL")},
    )


@describes(s.AltUp)
def _(spec: s.AltUp) -> Description:
    return Description(
        title="AltUp",
        facts=[
            f"over {spec.streams} streams",
            f"computing on stream {spec.active}",
            phrase(spec.inject),
            *(["with a learned scale"] if spec.scaled else []),
        ],
        equation=f"x̂ᵢ = xᵢ + Σⱼ pᵢⱼ xⱼ;  xᵢ ← x̂ᵢ + (1 + cᵢ) (layer(x̂) − x̂) of stream {spec.active};  "
        f"xᵢ ← xᵢ + {describe(spec.inject).title} for i > 0",
        names={
            "streams": "residual streams",
            "active": "stream that layers compute on",
            "norm": ("norm", "AltUp"),
            "scaled": "learned scale of the stream",
            "inject": "per-layer input",
        },
    )


@describes(s.AltUpEnds)
def _(spec: s.AltUpEnds) -> Description:
    return Description(
        title="AltUp's ends",
        facts=[f"{spec.streams} streams from one, and one from {spec.streams}"],
        equation="xᵢ = Wᵢ x · rms(x) / rms(Wᵢ x)  before the layers;  mean of Vᵢ xᵢ · rms(x₀) / rms(Vᵢ xᵢ)  after them",
        names={"streams": "residual streams"},
    )


@describes(s.LayerScalar)
def _(spec: s.LayerScalar) -> Description:
    return Description(title="layer scalar", equation="s · x")
