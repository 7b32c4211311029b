"""Losses: of the next token, of the tokens after it, of routers.

The logits of a large vocabulary never exist whole: of a few rows at a time they are made, their loss is taken, and
their gradient is carried back at once, so that nothing is made twice (as in Liger, arXiv 2410.10989, section 3.2, but
through the head's own `forward`: biases, soft caps, tied matrices and adapters stay right).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..nn import Decoder
from ..nn.feedforward import Router, Routing

IGNORED = -100  # a target that nothing is learned from, as PyTorch's cross entropy has it
CHUNK = 1 << 24  # logits that exist at once, unless 64 rows have more


class TokenLoss(NamedTuple):
    """Of the tokens that are learned.

    Args:
        loss: with the z-loss; what gradients come from.
        cross_entropy: the mean, in nats. z: the mean of log² Z. Without gradients.
    """

    loss: Tensor
    cross_entropy: Tensor
    z: Tensor


def token_loss(
    head: nn.Module,
    hidden: Tensor,
    targets: Tensor,
    z_loss: float = 0.0,
    total: float | Tensor | None = None,
    rows: int | None = None,
) -> TokenLoss:
    """Cross entropy + z_loss · log² Z (PaLM, arXiv 2204.02311, section 5), each the mean over the tokens learned.

    Args:
        head: hidden states (N, W) -> logits (N, V).
        hidden: (B, T, W). targets: (B, T), the right answers; `IGNORED` where nothing is learned.
        total: what the sums are divided by, where that is not the number of these tokens: of all the rows of a step
            when they pass in parts, and of all processes.
        rows: of which logits exist at once.
    """
    flat, wanted = hidden.flatten(0, -2), targets.flatten()
    learned = wanted != IGNORED
    count = learned.sum().clamp(min=1) if total is None else total
    if not bool(learned.all()):  # the head reads only what is learned
        flat, wanted = flat[learned], wanted[learned]
    parameters = [p for p in head.parameters() if p.requires_grad and torch.is_grad_enabled()]
    loss, cross_entropy, z = _Chunked.apply(head, flat, wanted, z_loss, rows, *parameters)
    return TokenLoss(loss / count, cross_entropy / count, z / count)


def plain_token_loss(logits: Tensor, targets: Tensor, z_loss: float = 0.0) -> TokenLoss:
    """As `token_loss`, of logits (N, V) that exist; sums, not means."""
    logits = logits.float()
    log_z = logits.logsumexp(-1)
    learned = targets != IGNORED
    right = logits.gather(-1, targets.where(learned, 0)[:, None])[:, 0]
    cross_entropy = (log_z - right).where(learned, 0).sum()
    z = log_z.square().where(learned, 0).sum()
    return TokenLoss(cross_entropy + z_loss * z, cross_entropy.detach(), z.detach())


class _Chunked(torch.autograd.Function):
    """Loss and gradients of a few rows at a time; backward, the gradients are there."""

    @staticmethod
    def forward(
        ctx: Any, head: nn.Module, hidden: Tensor, targets: Tensor, z_loss: float, rows: int | None, *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        sums = torch.zeros(3, device=hidden.device)
        learns = ctx.needs_input_grad[1] or bool(parameters)
        into = torch.zeros_like(hidden) if ctx.needs_input_grad[1] else None
        grads = [torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in parameters]
        begin, count = 0, rows or 64
        while begin < len(hidden):
            part = hidden[begin : begin + count].detach().requires_grad_(learns)
            with torch.set_grad_enabled(learns):
                logits = head(part)
                found = plain_token_loss(logits, targets[begin : begin + count], z_loss)
            sums += torch.stack([each.detach() for each in found])
            if learns:
                first, *others = torch.autograd.grad(found.loss, (part, *parameters))
                if into is not None:
                    into[begin : begin + count] = first
                for grad, other in zip(grads, others, strict=True):
                    grad.add_(other)
                del first, others
            begin += count
            count = rows or max(64, CHUNK // logits.shape[-1])
            del logits, found
        ctx.grads = into, [grad.to(p.dtype) for grad, p in zip(grads, parameters, strict=True)]
        loss, cross_entropy, z = sums.unbind()
        ctx.mark_non_differentiable(cross_entropy, z)
        return loss, cross_entropy, z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        into, grads = ctx.grads
        ctx.grads = None  # they are as large as the head: the pass backward takes them over, once
        return None, None if into is None else into.mul_(grad), None, None, None, *(each.mul_(grad) for each in grads)


# ------------------------------------------------------------------ routers


def balance_loss(routing: Routing, score: str = "softmax", sequences: int = 1) -> Tensor:
    """E · Σₑ fₑ Pₑ, with fₑ the share of choices that fell on expert e and Pₑ the mean of its normalised scores: 1
    where all experts have as much to do (Switch, arXiv 2101.03961, section 2.2).

    Args:
        score: "softmax" or "sigmoid", as the router's; sigmoids are normalised to a sum of 1 (DeepSeek-V3, arXiv
            2412.19437, equations 17 to 20).
        sequences: taken over each of so many equal runs of tokens for itself, and their mean: those of the batch, for
            DeepSeek-V3's sequence-wise loss.
    """
    logits = routing.logits
    scores = logits.softmax(-1) if score == "softmax" else _normalised(logits.sigmoid())
    chosen = torch.zeros_like(logits).scatter_(-1, routing.experts, 1.0)  # (N, E)
    share = chosen.unflatten(0, (sequences, -1)).mean(1) / routing.experts.shape[-1]
    mean = scores.unflatten(0, (sequences, -1)).mean(1)
    return logits.shape[-1] * (share * mean).sum(-1).mean()


def _normalised(scores: Tensor) -> Tensor:
    return scores / scores.sum(-1, keepdim=True)


def router_z_loss(routing: Routing) -> Tensor:
    """The mean of log² Z of a router's logits. ST-MoE, arXiv 2202.08906, section 2.1."""
    return routing.logits.logsumexp(-1).square().mean()


@torch.no_grad()
def balance_biases(model: Decoder, loads: Mapping[str, Tensor], speed: float = 1e-3) -> None:
    """After a step: selection biases go up by `speed` where an expert had less to do than the mean, and down where
    more (loss-free balancing, Wang et al. 2024, arXiv 2408.15664, algorithm 1).

    Args:
        loads: path of a router -> (E,), how many tokens chose each expert, over all that the step has seen. Routers
            without a selection bias stay as they are.
    """
    for path, load in loads.items():
        router = model.get_submodule(path)
        assert isinstance(router, Router)
        if router.spec.selection_bias:
            router.selection_bias.add_(speed * (load.mean() - load).sign())


class LoadStatistics(NamedTuple):
    """How evenly a router's experts are used: the fullest one's load over the mean, less one (MaxVio of arXiv
    2408.15664), and how many had nothing to do."""

    violation: float
    unused: int


def load_statistics(loads: Mapping[str, Tensor]) -> dict[str, LoadStatistics]:
    """Path of a router -> how evenly its experts are used."""
    return {
        path: LoadStatistics(float(load.max() / load.mean().clamp(min=1e-9)) - 1, int((load == 0).sum()))
        for path, load in loads.items()
    }


# ------------------------------------------------------------------ all of a step


@dataclass(frozen=True)
class LossWeights:
    """What each loss counts beside the cross entropy of the next token.

    Args:
        z_loss: of the logits' log² Z.
        balance: the routers' auxiliary loss, the mean over them; `by_sequence` takes it over each row.
        router_z: of the routers' log² Z, the mean over them.
        mtp: the cross entropy of tokens further ahead, the mean over the modules.
    """

    z_loss: float = 0.0
    balance: float = 0.0
    by_sequence: bool = False
    router_z: float = 0.0
    mtp: float = 0.0


class Losses(NamedTuple):
    """What a pass has cost.

    Args:
        total: the sum that gradients come from.
        parts: name -> each loss before its weight, without gradients: "cross_entropy", and those that were asked for.
        loads: path of a router -> (E,), how many tokens have chosen each expert.
    """

    total: Tensor
    parts: dict[str, Tensor]
    loads: dict[str, Tensor]


def losses(
    model: Decoder,
    ids: Tensor,
    targets: Tensor,
    documents: Tensor | None = None,
    weights: LossWeights = LossWeights(),
    total: float | Tensor | None = None,
    share: float = 1.0,
) -> Losses:
    """All losses of rows.

    Args:
        ids: (B, T). targets: (B, T), the token after each, `IGNORED` where none is learned. documents: (B, T).
        total: as of `token_loss`.
        share: of the step's rows that these are, by which the routers' losses count, which are means over tokens.
    """
    yielded: dict[int, dict[str, Any]] = {}
    hidden = model.hidden(ids, documents=documents, yielded=yielded)
    found = token_loss(model.head, hidden, targets, weights.z_loss, total)
    loss, parts = found.loss, {"cross_entropy": found.cross_entropy}
    if weights.z_loss:
        parts["z"] = found.z
    ahead: dict[int, dict[str, Any]] = {}
    if weights.mtp and model.spec.mtp:
        further = _ahead_loss(model, ids, hidden, targets, documents, total, ahead)
        loss, parts["mtp"] = loss + weights.mtp * further, further.detach()
    routings = dict(_routings(model, yielded, ahead))
    if routings and (weights.balance or weights.router_z):
        sequences = len(ids) if weights.by_sequence else 1
        balance = [balance_loss(each, router.spec.score, sequences) for router, each in routings.values()]
        z = [router_z_loss(each) for _, each in routings.values()]
        for name, weight, each in (("balance", weights.balance, balance), ("router_z", weights.router_z, z)):
            if weight:
                mean = share * torch.stack(each).mean()
                loss, parts[name] = loss + weight * mean, mean.detach()
    return Losses(loss, parts, {path: each.load for path, (_, each) in routings.items()})


def _ahead_loss(
    model: Decoder,
    ids: Tensor,
    hidden: Tensor,
    targets: Tensor,
    documents: Tensor | None,
    total: float | Tensor | None,
    yielded: dict[int, dict[str, Any]],
) -> Tensor:
    """The mean of the modules' cross entropies (DeepSeek-V3, arXiv 2412.19437, section 2.2). Module k says at token t
    what comes at t + 2 + k: what is right for the token t + 1 + k, if that is in the same document."""
    found = []
    for k, states in enumerate(model.hidden_ahead(ids, hidden, documents, yielded)):
        right = targets[:, k + 1 :]
        if documents is not None:
            changes = (documents[:, 1:] != documents[:, :-1]).long().cumsum(1)
            runs = torch.cat((torch.zeros_like(changes[:, :1]), changes), 1)
            right = right.where(runs[:, k + 1 :] == runs[:, : runs.shape[1] - k - 1], IGNORED)
        found.append(token_loss(model.head, states, right, 0.0, total).loss)
    return torch.stack(found).mean()


def _routings(
    model: Decoder, layers: Mapping[int, Mapping[str, Any]], ahead: Mapping[int, Mapping[str, Any]]
) -> Iterator[tuple[str, tuple[Router, Routing]]]:
    """Path of a router -> itself, and what it said."""
    for top, each in (("layers", layers), ("mtp", ahead)):
        for i, kinds in each.items():
            if (routing := kinds.get("routing")) is not None:
                part = model.get_submodule(f"{top}.{i}")
                (router,) = (module for module in part.modules() if isinstance(module, Router))
                yield router.path, (router, routing)
