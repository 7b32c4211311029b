"""What there is to say about differential attention."""

from __future__ import annotations

from vitruvius.views import Description, describes
from vitruvius.views.nouns import phrase

from .spec import DifferentialAttention


@describes(DifferentialAttention)
def _(spec: DifferentialAttention) -> Description:
    softmax = [f"softmax(q{i} k{i}ᵀ / √{spec.head_dim})" for i in "₁₂"]
    return Description(
        title="differential attention",
        short="differential",
        facts=[
            f"{spec.heads} heads with two queries each",
            f"{spec.kv_heads} key/value heads with two keys each",
            f"λ from {spec.lambda_init:.3g}",
            phrase(spec.mask),
            *([phrase(spec.positions)] if spec.positions else []),
        ],
        equation=(
            f"{1 - spec.lambda_init:.3g} · norm(({softmax[0]} − λ {softmax[1]}) v),  "
            f"λ = exp(λq₁ · λk₁) − exp(λq₂ · λk₂) + {spec.lambda_init:.3g}"
        ),
        names={"heads": "heads", "kv_heads": "key/value heads", "head_dim": "query dim", "lambda_init": "λ init"},
        marks={"mixer": "differential attention", "mask": phrase(spec.mask)},
        tags=["differential attention"],
        filters={"attention": "differential"},
    )
