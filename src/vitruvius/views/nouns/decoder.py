"""The encoder and the decoder, and what is before and after their layers."""

from __future__ import annotations

from functools import partial
from math import isclose

from ... import spec as s
from ...cost.quantity import number
from ..description import Aspect, Description, describes, factor, phrase, times
from ..knob import Knob, TreeEdit, number_knob

MOST_LAYERS = 256


@describes(s.Embedding)
def _(spec: s.Embedding) -> Description:
    return Description(
        title="token embedding",
        facts=[
            f"{number(spec.vocab)} tokens",
            *([] if spec.scale == 1.0 else [factor(spec.scale)]),
            *(["tied to the head"] if spec.tied else []),
            *([phrase(spec.per_layer)] if spec.per_layer else []),
        ],
        equation=times(spec.scale, "E[token]"),
        names={"vocab": "vocabulary", "scale": "embedding scale", "per_layer": "per-layer embeddings"},
        aspects=[Aspect("head's matrix", "the embedding's" if spec.tied else "its own", ("tied",))],
        tags=["tied embeddings"] if spec.tied else [],
    )


@describes(s.Encoder)
def _(spec: s.Encoder) -> Description:
    return Description(
        title="encoder",
        facts=[f"of {len(spec.layers)} layers"],
        aspects=[Aspect("layers", len(spec.layers), ("layers",))],
        names={"final_norm": ("norm", "encoder's final")},
        tags=["encoder"],
    )


def _layers(now: int, count: int) -> list[TreeEdit]:
    """The first ones, or all of them again and again."""
    if count <= now:
        return [TreeEdit("layers", lambda layers: layers[:count], f"lambda layers: layers[:{count}]")]
    times = -(-count // now)
    code = f"lambda layers: (layers * {times})[:{count}]"
    return [TreeEdit("layers", lambda layers: (layers * times)[:count], code)]


@describes(s.Decoder)
def _(spec: s.Decoder) -> Description:
    factor = spec.embedding.scale
    modules = f"{len(spec.mtp)} {'modules' if len(spec.mtp) > 1 else 'module'}" if spec.mtp else None
    return Description(
        title="decoder",
        facts=[
            f"{len(spec.layers)} layers",
            f"width {number(spec.width)}",
            f"vocabulary {number(spec.embedding.vocab)}",
            f"context {number(spec.context)}",
        ],
        names={
            "embedding": ("token embedding", "embedding"),
            "positions": ("positions", "absolute"),
            "final_norm": ("norm", "final"),
            "head": ("head", "head"),
        },
        aspects=[
            Aspect("", None, ("family",)),  # which file read it is not part of the architecture
            Aspect("layers", len(spec.layers), ("layers",)),
            Aspect("embedding scale", "√width" if isclose(factor, spec.width**0.5) else factor, ("embedding.scale",)),
            Aspect("multi-token prediction", modules, ("mtp",)),
        ],
        tags=["multi-token prediction"] if spec.mtp else [],
        knobs=[
            Knob("layers", "layers", str(len(spec.layers)), partial(_layers, len(spec.layers)), most=MOST_LAYERS),
            number_knob("width", "width", spec.width, "width", most=2**17),
        ]
        if spec.encoder is None
        else [],
    )
