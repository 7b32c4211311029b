"""Feed-forward layers: plain, gated, and mixtures of experts."""

from __future__ import annotations

from ... import spec as s
from ...cost.quantity import number
from ..description import (
    Aspect,
    Callout,
    Description,
    Inner,
    Picture,
    callout,
    callouts,
    capital,
    counted,
    describe,
    describes,
    facts,
    label,
    phrase,
    shown,
    times,
    title,
)
from ..drawing.feedforward import experts, feed_forward, gated_feed_forward
from ..knob import Knob, TreeEdit, choice_knob, number_knob

ACTIVATIONS = {"silu": "SiLU", "gelu": "GELU", "gelu_tanh": "tanh GELU", "relu": "ReLU", "relu2": "ReLU²"}
GATED = {"silu": "SwiGLU", "gelu": "GeGLU", "gelu_tanh": "GeGLU", "relu": "ReGLU"}  # Shazeer 2020, arXiv 2002.05202
BEST = {"max": "best expert", "top2_sum": "best two experts"}  # what a group of experts is scored by


# Activations


@describes(s.ClampedSwiGLU)
def _(spec: s.ClampedSwiGLU) -> Description:
    limit, alpha, offset = number(spec.limit), number(spec.alpha), number(spec.offset)
    product = f"{f'(up + {offset})' if spec.offset else 'up'} · gate · σ({alpha} · gate)"
    return Description(
        title="clamped SwiGLU",
        facts=[product, f"clamped at {limit}"],
        equation=f"{product},  gate ≤ {limit},  |up| ≤ {limit}",
        names={"limit": "clamped at", "alpha": "gate's alpha", "offset": "up's offset"},
        picture=Picture(
            steps=(f"z · σ({alpha} z), z ≤ {limit}", f"clamped to ±{limit}{f', + {offset}' if spec.offset else ''}")
        ),
    )


@describes(s.GaussianTopK)
def _(spec: s.GaussianTopK) -> Description:
    act, share = ACTIVATIONS[spec.act], f"{number(100 * (1 - spec.sparsity))} %"
    return Description(
        title=act,
        facts=[f"of the highest {share}, by a normal distribution"],
        equation=f"{act}(relu(x − mean − deviation · z)),  z with {share} of a normal distribution above it",
        names={"act": "sparse activation"},
        picture=Picture(label=f"{act} of the top {share}"),
    )


def _act(spec: s.MLP | s.GatedMLP) -> str:
    """What the activation is called where it stands by itself."""
    if isinstance(spec.act, str):
        return ACTIVATIONS[spec.act]
    return describe(spec.act).picture.label or title(spec.act)


def _glu(spec: s.GatedMLP) -> str | None:
    """The name of a gate with this activation, where it has one: SwiGLU."""
    if isinstance(spec.act, s.ClampedSwiGLU):
        return capital(title(spec.act))
    return GATED.get(spec.act.act if isinstance(spec.act, s.GaussianTopK) else spec.act)


# Feed-forward layers


def _feed_forward_aspects(spec: s.MLP | s.GatedMLP) -> list[Aspect]:
    act = ACTIVATIONS[spec.act] if isinstance(spec.act, str) else spec.act
    return [
        Aspect("{role} width", spec.dim, ("dim",)),
        Aspect("activation", act, ("act",), "{role}"),
        Aspect("biases", spec.bias, ("bias",), "{role}"),
    ]


def _feed_forward_callouts(spec: s.MLP | s.GatedMLP, quiet: bool) -> list[Callout]:
    return [
        callout(f"hidden dimension {number(spec.dim)}", "dim"),
        callout(_act(spec), "act", quiet=quiet),
        callout("biases" if spec.bias else "no biases", "bias", quiet=not spec.bias),
    ]


@describes(s.MLP)
def _(spec: s.MLP) -> Description:
    bias = " + b" if spec.bias else ""
    return Description(
        title="MLP",
        facts=[f"{number(spec.dim)} wide", _act(spec), *(["biases"] if spec.bias else [])],
        equation=f"W_down {_act(spec)}(W_up x{bias}){bias}",
        aspects=_feed_forward_aspects(spec),
        marks={"feed-forward": "dense"},
        figures={"hidden": spec.dim},
        knobs=[_width_knob(spec.dim, "dim")],
        picture=Picture(
            label="Feed-forward",
            callouts=_feed_forward_callouts(spec, quiet=False),
            inset=feed_forward,
            look=s.MLP(dim=1, act=spec.act, bias=spec.bias),
            steps=(_act(spec), ""),
        ),
    )


@describes(s.GatedMLP)
def _(spec: s.GatedMLP) -> Description:
    bias, glu = " + b" if spec.bias else "", _glu(spec)
    gate, up = times(spec.gate_scale, f"W_gate x{bias}"), f"W_up x{bias}"
    known = f" ({GATED[spec.act]})" if isinstance(spec.act, str) and spec.act in GATED else ""
    act = _act(spec) if isinstance(spec.act, str) else phrase(spec.act)
    scale = "gate not scaled" if spec.gate_scale == 1.0 else f"gate × {number(spec.gate_scale)}"
    if isinstance(spec.act, s.ClampedSwiGLU):
        equation = f"W_down ({describe(spec.act).equation}){bias},  gate = {gate},  up = {up}"
    else:
        equation = f"W_down ({_act(spec)}({gate}) ⊙ {f'({up})' if bias else up}){bias}"
    return Description(
        title="gated MLP",
        facts=[
            f"{number(spec.dim)} wide",
            f"{act}{known}",
            *(["biases"] if spec.bias else []),
            *([] if spec.gate_scale == 1.0 else [scale]),
        ],
        equation=equation,
        aspects=_feed_forward_aspects(spec),
        marks={"feed-forward": "sparse" if isinstance(spec.act, s.GaussianTopK) else "dense"},
        figures={"hidden": spec.dim},
        knobs=[_width_knob(spec.dim, "dim")],
        picture=Picture(
            label=f"{glu or f'Gated {_act(spec)}'} feed-forward",
            callouts=[
                *_feed_forward_callouts(spec, quiet=glu is not None),  # SwiGLU says SiLU
                callout(scale, "gate_scale", quiet=spec.gate_scale == 1.0),
            ],
            inset=gated_feed_forward,
            look=s.GatedMLP(dim=1, act=spec.act, bias=spec.bias, gate_scale=spec.gate_scale),
            steps=describe(spec.act).picture.steps if isinstance(spec.act, s.ClampedSwiGLU) else (_act(spec), ""),
        ),
    )


@describes(s.ScalarGated)
def _(spec: s.ScalarGated) -> Description:
    return Description(
        title=title(spec.body),
        facts=[*facts(spec.body), "times a gate for each token"],
        equation="σ(w·x) · body(x)",
        figures=describe(spec.body).figures,
        picture=Picture(inner=[Inner("body", spec.body, "gated")]),
    )


# Mixtures of experts


@describes(s.ExpertGroups)
def _(spec: s.ExpertGroups) -> Description:
    return Description(
        title="expert groups",
        facts=[f"best {spec.active} of {spec.count} groups by their {BEST[spec.score]}"],
        equation=f"the {spec.active} groups with the highest score of their {BEST[spec.score]}",
        names={"count": "number of groups", "active": "groups per token"},
        aspects=[Aspect("groups scored by", BEST[spec.score], ("score",))],
    )


@describes(s.Router)
def _(spec: s.Router) -> Description:
    groups = spec.groups if spec.groups and spec.groups.count > 1 else None  # one group limits nothing
    eps = spec.norm_topk_eps
    capped = spec.softcap is not None
    return Description(
        title="router",
        facts=[
            f"{spec.score} scores",
            *(["selection bias"] if spec.selection_bias else []),
            *(facts(groups) if groups else []),
            *([f"of {phrase(spec.norm)}"] if spec.norm else []),
            *(["a learned number for each expert"] if spec.expert_scale else []),
            *(["biases"] if spec.bias else []),
            *([f"logits capped at {number(spec.softcap)}"] if spec.softcap is not None else []),
            *([f"at most {number(spec.capacity)} tokens for an expert"] if spec.capacity is not None else []),
            *(["weights normalised"] if eps is not None else []),
            *([f"weights × {number(spec.scale)}"] if spec.scale != 1.0 else []),
        ],
        equation=_router_equation(spec),
        names={
            "experts": "experts",
            "active": "experts per token",
            "score": "router scores",
            "selection_bias": "selection bias",
            "groups": "expert groups",
            "scale": "expert weights scaled by",
            "bias": ("biases", "router"),
            "softcap": "router logits capped at",
            "norm": ("norm", "router"),
            "expert_scale": "learned number for each expert",
        },
        aspects=[
            *([Aspect("expert groups", None, ("groups",))] if spec.groups and not groups else []),
            Aspect("expert weights", eps, ("norm_topk_eps",), show=_weights),
        ],
        figures={"experts": spec.experts, "experts per token": spec.active},
        picture=Picture(
            callouts=[
                callout(
                    f"router: {spec.score}{' + selection bias' if spec.selection_bias else ''}",
                    "score selection_bias",
                ),
                callout(
                    f"chosen in the best {groups.active} of {groups.count} groups" if groups else "chosen among all",
                    "groups",
                    quiet=not groups,
                ),
                callout(
                    f"router reads x through {title(spec.norm)}" if spec.norm else "router reads x itself",
                    "norm",
                    not spec.norm,
                ),
                callout(_weights_callout(spec), "norm_topk_eps scale"),
                callout(
                    "× a learned number of each expert" if spec.expert_scale else "no number of each expert",
                    "expert_scale",
                    quiet=not spec.expert_scale,
                ),
                callout("router biases" if spec.bias else "no router biases", "bias", quiet=not spec.bias),
                callout(
                    f"router capped at {number(spec.softcap)}" if spec.softcap is not None else "router not capped",
                    "softcap",
                    quiet=not capped,
                ),
            ]
        ),
    )


def _weights(eps: float | None) -> str:
    return "as scored" if eps is None else f"normalised (eps {shown(eps)})" if eps else "normalised"


def _weights_callout(spec: s.Router) -> str:
    scale = "" if spec.scale == 1.0 else f" × {number(spec.scale)}"
    return f"weights ÷ their sum{scale}" if spec.norm_topk_eps is not None else f"weights{scale or ' as scored'}"


def _router_equation(spec: s.Router) -> str:
    x = f"{title(spec.norm)}(x)" if spec.norm else "x"
    logits = f"W {x}{' + b' if spec.bias else ''}"
    if spec.softcap is not None:
        cap = number(spec.softcap)
        logits = f"{cap} · tanh(({logits}) / {cap})"
    score = "softmax" if spec.score == "softmax" else "σ"
    among = " in the best groups" if spec.groups and spec.groups.count > 1 else ""
    chosen = f"top-{spec.active} of {'p + selection bias' if spec.selection_bias else 'p'}{among}"
    weight = f"{'p / Σ p' if spec.norm_topk_eps is not None else 'p'}{' · sₑ' if spec.expert_scale else ''}"
    return f"p = {score}({logits}),  {chosen},  w = {times(spec.scale, weight)}"


@describes(s.MoE)
def _(spec: s.MoE) -> Description:
    route, expert, shared = spec.router, spec.expert, spec.shared
    kind = label(expert).removesuffix(" feed-forward") if isinstance(expert, s.GatedMLP) else _act(expert)
    bare = shared.body if isinstance(shared, s.ScalarGated) else shared
    gated = ", gated" if bare != shared else ""
    beside = "" if bare is None or bare.dim == expert.dim else f" of {number(bare.dim)}"
    inner = [Inner("experts", expert, "each expert")]
    return Description(
        title="mixture of experts",
        short="MoE",
        facts=[
            f"{route.experts} experts, {route.active} for each token",
            f"expert: {phrase(expert)}",
            *([f"shared expert: {phrase(shared)}"] if shared else []),
            f"router: {', '.join(facts(route))}",
            *(["its weights multiply the experts' inputs"] if spec.weigh == "input" else []),
            *([f"experts work in a latent of {number(spec.latent)}"] if spec.latent else []),
            *([f"before the experts: {phrase(spec.norm)}"] if spec.norm else []),
            *([f"all × {number(spec.scale)}"] if spec.scale != 1.0 else []),
        ],
        equation=_moe_equation(spec),
        names={
            "expert": ("expert", "expert"),
            "shared": ("shared expert", "shared expert"),
            "weigh": "router weighs",
            "latent": "expert latent",
            "norm": ("norm", "experts'"),
            "scale": "experts scaled by",
        },
        marks={"feed-forward": "MoE"},
        tags=["shared expert"] if shared else [],
        filters={"experts": "MoE"},
        knobs=_moe_knobs(spec),
        picture=Picture(
            callouts=[
                callout(
                    f"{route.active} of {counted(route.experts, 'expert')} per token", "router.experts router.active"
                ),
                callout(f"and a shared expert{beside}{gated}" if shared else "no shared expert", "shared", not shared),
                callout(f"expert: {kind}, hidden {number(expert.dim)}", "experts"),
                callout(
                    f"experts in a latent of {number(spec.latent)}" if spec.latent else "no latent",
                    "latent",
                    quiet=not spec.latent,
                ),
                *(each.within("router") for each in callouts(route)),
                callout(
                    f"experts read x through {title(spec.norm)}" if spec.norm else "experts read x itself",
                    "norm",
                    not spec.norm,
                ),
                callout(f"weights on the expert's {spec.weigh}", "weigh", quiet=spec.weigh == "output"),
                callout(f"all × {number(spec.scale)}", "scale", quiet=spec.scale == 1.0),
            ],
            inset=experts,
            inner=inner + ([Inner("shared", bare, "shared expert")] if bare else []),
        ),
    )


def _width_knob(dim: int, field: str) -> Knob:
    return number_knob("dim", "feed-forward width" if field == "dim" else "width of an expert", dim, field, most=2**20)


def _moe_knobs(spec: s.MoE) -> list[Knob]:
    router, shared = spec.router, spec.shared
    found = [
        number_knob("active", "experts for each token", router.active, "router.active", most=router.experts),
        number_knob("experts", "experts", router.experts, "router.experts", most=2**14, least=router.active),
        _width_knob(spec.expert.dim, "expert.dim"),
    ]
    if shared:
        choices = {"there": ("there", []), "none": ("none", [TreeEdit("shared", None)])}
        found.append(choice_knob("shared", "shared expert", "there", choices))
    return found


def _moe_equation(spec: s.MoE) -> str:
    x = "norm(x)" if spec.norm else "x"
    x = f"W_latent {x}" if spec.latent else x
    expert = f"expertₑ(wₑ · {x})" if spec.weigh == "input" else f"wₑ · expertₑ({x})"
    best = f"Σ over the best {spec.router.active} of {spec.router.experts} experts of {expert}"
    best = f"W_up ({best})" if spec.latent else best
    both = f"{best}, + shared(x)" if spec.shared else best
    return both if spec.scale == 1.0 else times(spec.scale, f"({both})")
