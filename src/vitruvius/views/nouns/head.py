"""What is made of the last hidden states."""

from __future__ import annotations

from ... import spec as s
from ...cost.quantity import number
from ..description import Description, Picture, describes, factor, times


@describes(s.Head)
def _(spec: s.Head) -> Description:
    product = "x Wᵀ + b" if spec.bias else "x Wᵀ"
    scaled = times(spec.scale, f"({product})" if spec.bias and spec.scale != 1.0 else product)
    cap = None if spec.softcap is None else number(spec.softcap)
    pills = [] if spec.scale == 1.0 else [("scale", factor(spec.scale), 84.0)]
    pills += [] if cap is None else [("softcap", f"{cap} · tanh(logits ÷ {cap})", 148.0)]
    return Description(
        title="head",
        facts=[
            f"{number(spec.vocab)} tokens",
            *(["bias"] if spec.bias else []),
            *([] if spec.scale == 1.0 else [f"logits {factor(spec.scale)}"]),
            *([] if cap is None else [f"logits capped at {cap}"]),
        ],
        equation=scaled if cap is None else f"{cap} · tanh({scaled} / {cap})",
        names={
            "vocab": "vocabulary",
            "softcap": "logits capped at",
            "scale": "logits scaled by",
            "bias": "bias of the head",
        },
        tags=[] if cap is None else ["softcap"],
        picture=Picture(label="Output layer", steps=("logits", pills)),
    )


@describes(s.Classifier)
def _(spec: s.Classifier) -> Description:
    return Description(
        title="classifier",
        facts=[f"{spec.labels} label{'s' if spec.labels > 1 else ''}", *(["bias"] if spec.bias else [])],
        equation="x Wᵀ + b" if spec.bias else "x Wᵀ",
        names={"labels": "labels", "bias": "bias of the classifier"},
        tags=["classifier"],
        picture=Picture(steps=("scores", [])),
    )
