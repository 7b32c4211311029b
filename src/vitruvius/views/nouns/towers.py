"""What surrounds a language model that sees or hears."""

from __future__ import annotations

from ... import spec as s
from ..description import Description, describes


@describes(s.Tower)
def _(spec: s.Tower) -> Description:
    return Description(
        title=f"{spec.name} tower",
        facts=[f"in the places of token {spec.placeholder}"],
        names={"name": "tower", "placeholder": "token whose places its embeddings take"},
    )


@describes(s.Model)
def _(spec: s.Model) -> Description:
    return Description(title="model", facts=[f"{tower.name} tower" for tower in spec.towers])
