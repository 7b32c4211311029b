"""Routers and experts in the usual keys."""

from __future__ import annotations

from ...spec import Config, ExpertGroups, GatedMLP, MoE, Router, ScalarGated


def topk_router(c: Config) -> Router:
    """A softmax over all experts, whose `num_experts_per_tok` largest are taken, as they are or with the sum 1
    (`norm_topk_prob`)."""
    return Router(
        experts=c.size("num_experts", "num_local_experts"),
        active=c.size("num_experts_per_tok"),
        norm_topk_eps=0.0 if c.flag("norm_topk_prob") else None,
    )


EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts")


def noaux_tc_router(c: Config) -> Router:
    """DeepSeek V3's router, in the keys that its kin share: a sigmoid, groups by their best two, balanced by a stored
    bias (`topk_method` "noaux_tc")."""
    c.expect("scoring_func", None, "sigmoid")
    c.expect("topk_method", None, "noaux_tc")
    return Router(
        experts=c.size(*EXPERTS if "num_experts" in c else EXPERTS[1:]),
        active=c.size("num_experts_per_tok", "num_experts_per_token"),
        score="sigmoid",
        selection_bias=True,
        groups=ExpertGroups(count=c.size("n_group", "num_expert_group"), active=c.size("topk_group"), score="top2_sum"),
        norm_topk_eps=1e-20 if c.flag("norm_topk_prob", "moe_renormalize") else None,
        scale=1.0 if c.raw("routed_scaling_factor") is None else c.number("routed_scaling_factor"),
    )


def deepseek_moe(c: Config, router: Router, shared: int, bias: bool = False) -> MoE:
    """Experts of `moe_intermediate_size`, and so many that every token takes, as one layer `shared` times as wide
    (with `bias`)."""
    dim, act = c.size("moe_intermediate_size"), c.activation("hidden_act")
    return MoE(
        router=router,
        expert=GatedMLP(dim=dim, act=act),
        shared=GatedMLP(dim=dim * shared, act=act, bias=bias) if shared else None,
    )


def qwen_moe(c: Config, router: Router) -> MoE:
    """Experts of `moe_intermediate_size` beside one that every token takes, times a gate of its own."""
    act = c.activation("hidden_act")
    return MoE(
        router=router,
        expert=GatedMLP(dim=c.size("moe_intermediate_size"), act=act),
        shared=ScalarGated(body=GatedMLP(dim=c.size("shared_expert_intermediate_size"), act=act)),
    )
