"""Sparse attention: a small scorer chooses which keys each query sees."""

from __future__ import annotations

from ... import spec as s
from ...cost.quantity import number
from ..description import Callout, Description, Picture, callout, describes
from ..drawing.indexer import indexer


@describes(s.Indexer)
def _(spec: s.Indexer) -> Description:
    best = number(spec.topk)
    return Description(
        title="indexer's choice",
        short=f"the best {best} keys",
        facts=[f"of {best} keys", f"{spec.heads} heads of {spec.dim}"],
        equation=f"the {best} earlier s with the highest Σₕ wₕ · relu(qₕ · kₛ)",
        names={"heads": "indexer's heads", "dim": "indexer's head dim", "topk": "keys chosen"},
        marks={"mask": "indexer"},
        tags=["sparse indexer"],
        picture=Picture(
            label=f"softmax over the {best} chosen",
            callouts=[
                callout(f"sees {best} earlier tokens, chosen", "topk"),
                callout(f"by an indexer of {spec.heads} heads of {spec.dim}", "heads dim"),
            ],
            heading="Indexer",
            inset=indexer,
            look=s.LayerIndexer(layer=0, topk=spec.topk),
        ),
    )


@describes(s.LayerIndexer)
def _(spec: s.LayerIndexer) -> Description:
    best = number(spec.topk)
    return Description(
        title="an earlier layer's choice",
        short="those of another layer",
        facts=[f"of {best} keys", f"made in layer {spec.layer}"],
        equation=f"the keys that layer {spec.layer} has chosen",
        names={"layer": "keys chosen in layer", "topk": "keys chosen"},
        marks={"mask": f"choice of layer {spec.layer}"},
        tags=["sparse indexer"],
        picture=Picture(
            label=f"softmax over the {best} chosen",
            callouts=[Callout(f"sees {best} earlier tokens, those"), Callout("that an earlier layer sees")],
            look=s.LayerIndexer(layer=0, topk=spec.topk),
            reference="layer",
        ),
    )
