"""What T5 brings to attention."""

from __future__ import annotations

from ... import spec as s
from ...cost.quantity import number
from ..description import Callout, Description, Picture, describes
from ..drawing.attention import from_elsewhere

BOX = "+ relative bias"
LOOK = s.LayerBias(layer=0)  # its own table or another layer's: an inset shows that it is added to the scores


@describes(s.RelativeBias)
def _(spec: s.RelativeBias) -> Description:
    buckets = f"in {spec.buckets} buckets up to {number(spec.max_distance)}"
    return Description(
        title="relative position bias",
        facts=[buckets],
        equation="scores + bias[head, bucket(distance)]",
        names={"buckets": "position buckets", "max_distance": "farthest distance", "bidirectional": "both directions"},
        picture=Picture(label=BOX, callouts=[Callout(f"relative position bias {buckets}")], look=LOOK),
    )


@describes(s.LayerBias)
def _(spec: s.LayerBias) -> Description:
    return Description(
        title=f"relative position bias of layer {spec.layer}",
        picture=Picture(
            label=BOX, callouts=[Callout("relative bias of an earlier layer")], look=LOOK, reference="layer"
        ),
    )


@describes(s.EncoderKeyValue)
def _(spec: s.EncoderKeyValue) -> Description:
    return Description(
        title="those of the encoder's output",
        equation="k = W_k · encoder's output,  v = W_v · encoder's output",
        names={"heads": "key/value heads"},
        picture=Picture(callouts=[Callout("keys and values of the encoder")], steps=from_elsewhere("of the encoder")),
    )
