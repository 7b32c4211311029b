"""Multi-token prediction."""

from __future__ import annotations

from ... import spec as s
from ..description import Description, describes, title


@describes(s.MTP)
def _(spec: s.MTP) -> Description:
    norm = title(spec.norm)
    return Description(
        title="multi-token prediction",
        facts=["of the token after the next"],
        equation=f"layer(W_join [{norm}(h), {norm}(E[next token])])",
        names={"norm": ("norm", "module's")},
    )
