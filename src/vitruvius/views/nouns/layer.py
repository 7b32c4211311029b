"""A layer and its branches."""

from __future__ import annotations

from collections.abc import Iterable

from ... import spec as s
from ...cost.quantity import number
from ..description import (
    Aspect,
    Description,
    Picture,
    describe,
    describes,
    factor,
    facts,
    marks,
    phrase,
    root,
    times,
    title,
)
from ..knob import Knob, TreeEdit, choice_knob


@describes(s.Scale)
def _(spec: s.Scale) -> Description:
    return Description(
        title="scale",
        facts=[f"factor {number(spec.factor)}"],
        equation=f"{number(spec.factor)} · x",
        names={"factor": "scaled by"},
        picture=Picture(label=factor(spec.factor), pill=True),
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
        knobs=_norm_knobs(spec),
        picture=Picture(frame=True),
    )


def _norm_knobs(spec: s.Branch) -> list[Knob]:
    """Where its norm stands. The one that is there is taken; a branch without one has nothing to be moved."""
    norm = spec.pre or spec.post
    if norm is None or describe(norm).picture.pill:
        return []
    places = {"before": (True, False), "after": (False, True), "both": (True, True), "nowhere": (False, False)}
    choices = {
        name: (
            name if name == "nowhere" else WHERE[there].replace(" each branch", ""),
            [
                TreeEdit("pre", (spec.pre or norm) if there[0] else None),
                TreeEdit("post", (spec.post or norm) if there[1] else None),
            ],
        )
        for name, there in places.items()
    }
    now = next(name for name, there in places.items() if there == (bool(spec.pre), bool(spec.post)))
    return [choice_knob("norm", f"norm of {'feed-forward' if spec.name == 'mlp' else spec.name}", now, choices)]


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
