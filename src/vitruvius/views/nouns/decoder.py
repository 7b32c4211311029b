"""Layers around the residual stream, and the encoder and decoder that hold them."""

from __future__ import annotations

from collections.abc import Iterable
from math import isclose

from ... import spec as s
from ...cost.quantity import number
from ..description import Aspect, Description, Picture, describe, describes, facts, marks, phrase, root, times, title


@describes(s.Scale)
def _(spec: s.Scale) -> Description:
    return Description(
        title="scale",
        facts=[f"factor {number(spec.factor)}"],
        equation=f"{number(spec.factor)} · x",
        names={"factor": "scaled by"},
    )


@describes(s.Branch)
def _(spec: s.Branch) -> Description:
    return Description(
        title=spec.name,
        facts=facts(spec.body),
        equation=_equation(spec),
        names={"scale": "branch scale", "skip": "residual scale"},
        aspects=_branch_aspects(spec),
        marks=marks(spec.body),
        picture=Picture(frame=True),
    )


def _equation(branch: s.Branch) -> str:
    """Where the norms and the residual are: "x + RMSNorm(attention(RMSNorm(x)))"."""
    skip, factor = ("" if each == 1.0 else f"{_factor(each)} · " for each in (branch.skip, branch.scale))
    return f"{skip}x + {factor}{_normed(branch)}"


def _factor(value: float) -> str:
    return number(value) if float(number(value).replace(",", "")) == value else root(value)


def _normed(branch: s.Branch) -> str:
    inside = f"{title(branch.pre)}(x)" if branch.pre else "x"
    if branches := describe(branch.body).picture.side_by_side:
        both = " + ".join(map(_normed, branches))
        result = f"{title(branch.post)}({both})" if branch.post else f"({both})"
        return result if inside == "x" else f"{result} with x = {inside}"
    result = f"{branch.body.part or title(branch.body)}({inside})"
    return f"{title(branch.post)}({result})" if branch.post else result


WHERE = {
    (True, False): "before each branch",
    (False, True): "after each branch, inside the residual",
    (True, True): "before and after each branch",
}


def _branch_aspects(spec: s.Branch) -> list[Aspect]:
    role = "feed-forward" if spec.name == "mlp" else spec.name
    slots = {"pre": spec.pre, "post": spec.post}
    places = WHERE.get((bool(spec.pre) and not isinstance(spec.pre, s.Scale), bool(spec.post)))
    found = [Aspect("norms", places, (), role)]
    if norm := spec.pre or spec.post:
        both = {name: there or norm for name, there in slots.items()}  # a single one is compared with either
        alike = len(set(both.values())) == 1
        found += [Aspect("norm", there, (name,), role if alike else f"{role} {name}") for name, there in both.items()]
    return [
        *found,
        *(Aspect("", bool(norm), (name,)) for name, norm in slots.items()),
        Aspect("", None, ("name",)),
        Aspect(role, spec.body, ("body",), role),
    ]


def _joined_marks(branches: Iterable[s.Branch]) -> dict[str, str]:
    return {key or branch.name: word for branch in branches for key, word in marks(branch).items()}


@describes(s.Parallel)
def _(spec: s.Parallel) -> Description:
    found: list[str] = []
    for body in (branch.body for branch in spec.branches):
        found += [phrase(body)] if len(facts(body)) <= 3 else [title(body), *facts(body)]
    return Description(
        title="side by side",
        facts=found,
        equation=" + ".join(times(branch.scale, _normed(branch)) for branch in spec.branches),
        marks=_joined_marks(spec.branches),
        picture=Picture(side_by_side=spec.branches),
    )


@describes(s.Layer)
def _(spec: s.Layer) -> Description:
    return Description(
        title="layer",
        facts=[f"{branch.name}: {_equation(branch)}, {phrase(branch.body)}" for branch in spec.branches],
        aspects=[Aspect("branches", ", then ".join(branch.name for branch in spec.branches), ())],
        marks=_joined_marks(spec.branches),
        picture=Picture(frame=True),
    )


@describes(s.Embedding)
def _(spec: s.Embedding) -> Description:
    return Description(
        title="token embedding",
        facts=[
            f"{number(spec.vocab)} tokens",
            *([] if spec.scale == 1.0 else [f"× {root(spec.scale)}"]),
            *(["tied to the head"] if spec.tied else []),
            *([phrase(spec.per_layer)] if spec.per_layer else []),
        ],
        equation=times(spec.scale, "E[token]"),
        names={"vocab": "vocabulary", "scale": "embedding scale", "per_layer": "per-layer embeddings"},
        aspects=[Aspect("head's matrix", "the embedding's" if spec.tied else "its own", ("tied",))],
        tags=["tied embeddings"] if spec.tied else [],
    )


@describes(s.Head)
def _(spec: s.Head) -> Description:
    scaled, cap = times(spec.scale, "x Wᵀ"), None if spec.softcap is None else number(spec.softcap)
    return Description(
        title="head",
        facts=[
            f"{number(spec.vocab)} tokens",
            *([] if spec.scale == 1.0 else [f"logits × {number(spec.scale)}"]),
            *([] if cap is None else [f"logits capped at {cap}"]),
        ],
        equation=scaled if cap is None else f"{cap} · tanh({scaled} / {cap})",
        names={"vocab": "vocabulary", "softcap": "logits capped at", "scale": "logits scaled by"},
        tags=[] if cap is None else ["softcap"],
    )


@describes(s.MTP)
def _(spec: s.MTP) -> Description:
    norm = title(spec.norm)
    return Description(
        title="multi-token prediction",
        facts=["of the token after the next"],
        equation=f"layer(W_join [{norm}(h), {norm}(E[next token])])",
        names={"norm": ("norm", "module's")},
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
    )
