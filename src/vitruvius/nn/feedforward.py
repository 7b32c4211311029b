"""Twins of spec/feedforward.py."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import spec
from .call import Call
from .ops import Groups
from .twin import GroupedLinear, Twin, twin

Linear = nn.Linear | GroupedLinear


def relu2(x: Tensor) -> Tensor:
    """relu(x)². So et al. 2021, arXiv 2109.08668."""
    return F.relu(x).square()


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU's tanh approximation."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[spec.Activation, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "relu": F.relu,
    "relu2": relu2,
}


@twin(spec.MLP)
class MLP(Twin[spec.MLP]):
    """down(act(up(x)))."""

    up: Linear
    down: Linear

    def forward(self, x: Tensor, *groups: Groups) -> Tensor:
        """(…, W) -> (…, W); as experts, x is (rows, W) with whose rows they are."""
        act = ACTIVATIONS[self.spec.act]
        return self.down(act(self.up(x, *groups)), *groups)


@twin(spec.GatedMLP)
class GatedMLP(Twin[spec.GatedMLP]):
    """down(act(gate_scale · gate(x)) · up(x))."""

    gate: Linear
    up: Linear
    down: Linear

    def forward(self, x: Tensor, *groups: Groups) -> Tensor:
        """(…, W) -> (…, W); as experts, x is (rows, W) with whose rows they are."""
        gate = self.gate(x, *groups)
        gate = gate if self.spec.gate_scale == 1.0 else self.spec.gate_scale * gate
        return self.down(gated(self.spec.act, gate, self.up(x, *groups)), *groups)


def gated(act: spec.Activation | spec.ClampedSwiGLU | spec.GaussianTopK, gate: Tensor, up: Tensor) -> Tensor:
    """act(gate) · up."""
    if isinstance(act, spec.ClampedSwiGLU):
        gate, up = gate.clamp(max=act.limit), up.clamp(-act.limit, act.limit)
        return (up + act.offset) * gate * torch.sigmoid(act.alpha * gate)
    if isinstance(act, spec.GaussianTopK):
        gate, act = most_active(gate, act.sparsity), act.act
    return ACTIVATIONS[act](gate) * up


def most_active(x: Tensor, sparsity: float) -> Tensor:
    """What the channels have above the value that a share `sparsity` of them would not reach, were they normal."""
    cutoff = x.mean(-1, keepdim=True) + deviations(sparsity) * x.std(-1, correction=0, keepdim=True)
    return F.relu(x - cutoff)


@torch.compiler.assume_constant_result  # it is written in C, where a graph would break
def deviations(share: float) -> float:
    """How many standard deviations above the mean a share of normal numbers does not reach."""
    return NormalDist().inv_cdf(share)


@twin(spec.ScalarGated)
class ScalarGated(Twin[spec.ScalarGated]):
    """σ(gate(x)) · body(x)."""

    gate: nn.Linear
    body: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) -> (…, W)."""
        return self.gate(x).sigmoid() * self.body(x)


class Routing(NamedTuple):
    """What a router says of N tokens.

    Args:
        weights: (N, K), in float32. experts: (N, K), the chosen ones.
        logits: (N, E), in float32, of all.
    """

    weights: Tensor
    experts: Tensor
    logits: Tensor

    @property
    def load(self) -> Tensor:
        """(E,): how many tokens have chosen each expert, in float32."""
        chosen = self.experts.flatten()
        return torch.zeros_like(self.logits[0]).index_add(0, chosen, torch.ones_like(chosen, dtype=torch.float32))


@twin(spec.Router)
class Router(Twin[spec.Router]):
    """Scores, selects and weighs experts."""

    weight: Tensor
    bias: Tensor
    selection_bias: Tensor
    norm: nn.Module
    expert_scale: Tensor

    def forward(self, x: Tensor) -> Routing:
        """x (N, W) -> weights, experts and logits."""
        s = self.spec
        x = self.norm(x) if s.norm else x
        logits = F.linear(x.float(), self.weight.float(), self.bias.float() if s.bias else None)
        if s.softcap is not None:
            logits = s.softcap * torch.tanh(logits / s.softcap)
        scores = logits.softmax(-1) if s.score == "softmax" else logits.sigmoid()
        ranks = scores + self.selection_bias if s.selection_bias else scores
        if s.groups:
            ranks = self.limit(ranks, s.groups)
        experts = ranks.topk(s.active, -1).indices
        weights = scores.gather(-1, experts)
        if s.norm_topk_eps is not None:
            weights = weights / (weights.sum(-1, keepdim=True) + s.norm_topk_eps)
        if s.expert_scale:
            weights = weights * self.expert_scale[experts]
        return Routing(weights * s.scale, experts, logits)

    @staticmethod
    def limit(ranks: Tensor, groups: spec.ExpertGroups) -> Tensor:
        """Only the experts of the best groups stay eligible."""
        members = ranks.unflatten(-1, (groups.count, -1))
        best = members.amax(-1) if groups.score == "max" else members.topk(2, -1).values.sum(-1)
        chosen = torch.zeros_like(best, dtype=torch.bool).scatter(-1, best.topk(groups.active, -1).indices, True)
        return members.masked_fill(~chosen[..., None], -torch.inf).flatten(-2)


@twin(spec.MoE)
class MoE(Twin[spec.MoE]):
    """scale · (Σ wₑ · expertₑ(x) over the chosen experts, plus the shared one)."""

    router: Router
    experts: nn.Module
    shared: nn.Module
    latent_down: nn.Linear
    latent_up: nn.Linear
    norm: nn.Module

    takes_call: ClassVar[bool] = True

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        s, rows = self.spec, x.flatten(0, -2)
        routing: Routing = self.router(rows)
        call.give("routing", routing)
        weights, chosen = routing.weights, routing.experts
        if s.router.capacity is not None:  # which counts the tokens of each sequence
            parts = call.split(call.blocks, chosen.unflatten(0, x.shape[:-1]))
            room = [taken(part, s.router.experts, s.router.capacity) for _, (part,) in parts]
            weights = weights * call.join(room).flatten(0, -2)
        rows = self.norm(rows) if s.norm else rows
        inner = self.latent_down(rows) if s.latent else rows
        experts, order = chosen.flatten().sort(stable=True)  # the chosen (token, expert) pairs, grouped by expert
        groups = Groups.of(experts, s.router.experts)
        tokens, weight = order // s.router.active, weights.flatten()[order, None].to(x.dtype)
        if s.weigh == "input":
            y = self.experts(inner[tokens] * weight, groups)
        else:
            y = self.experts(inner[tokens], groups) * weight
        out = torch.zeros_like(inner).index_add(0, tokens, y)
        out = (self.latent_up(out) if s.latent else out).view_as(x)
        out = out + self.shared(x) if s.shared else out
        return out if s.scale == 1.0 else out * s.scale


def taken(chosen: Tensor, experts: int, capacity: int) -> Tensor:
    """Whether an expert has room for a token that chose it, first come, first served; chosen (…, T, K) -> bool."""
    arrivals = F.one_hot(chosen, experts).sum(-2).cumsum(-2)  # (…, T, E), how many have come by then
    return arrivals.gather(-1, chosen) <= capacity
