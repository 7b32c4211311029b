"""Losses: values, gradients and memory of the chunked cross entropy; routers; tokens further ahead."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from cases import CASES
from test_training_ready import Alive, gradients, ids_of, model_of
from torch import Tensor, nn
from torch.nn import functional as F

import vitruvius as vt
from vitruvius.nn import Decoder
from vitruvius.nn.feedforward import Routing
from vitruvius.training.losses import (
    IGNORED,
    LossWeights,
    balance_biases,
    balance_loss,
    load_statistics,
    losses,
    router_z_loss,
    token_loss,
)


@cache
def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def answers(model: Decoder, ids: Tensor) -> Tensor:
    """The next token, of some tokens only."""
    targets = torch.cat((ids[:, 1:], torch.full_like(ids[:, :1], IGNORED)), 1)
    return targets.masked_fill(random(*ids.shape) < -0.8, IGNORED)


# ------------------------------------------------------------------ the next token


@pytest.mark.parametrize("case", ["llama", "llama_linear", "gemma2", "gemma3n"])  # tied; soft caps; two streams
@pytest.mark.parametrize("rows", [7, 64, None])
def test_the_chunked_loss_is_the_plain_one(case: str, rows: int | None) -> None:
    """Its value, and the gradient of every weight, the head's too where it is the embedding."""
    model = model_of(case)
    ids = ids_of(model, 3, 23)
    targets = answers(model, ids)
    logits = model(ids).flatten(0, 1)
    log_z = logits.logsumexp(-1)[targets.flatten() != IGNORED]
    plain = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED) + 0.01 * log_z.square().mean()
    wanted = gradients(model, plain)
    found = token_loss(model.head, model.hidden(ids), targets, z_loss=0.01, rows=rows)
    torch.testing.assert_close(found.loss, plain, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.z, log_z.square().mean(), atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(found.cross_entropy + 0.01 * found.z, plain, atol=1e-6, rtol=1e-6)
    got = gradients(model, found.loss)
    assert got.keys() == wanted.keys()
    for name, grad in wanted.items():
        assert float((got[name] - grad).abs().max()) < 1e-6 * max(1.0, float(grad.abs().max())), name


def test_a_loss_of_nothing_is_nothing() -> None:
    model = model_of("llama")
    ids = ids_of(model, 1, 5)
    found = token_loss(model.head, model.hidden(ids), torch.full_like(ids, IGNORED), z_loss=1.0)
    assert found.loss.item() == found.cross_entropy.item() == 0.0
    assert not any(bool(grad.any()) for grad in gradients(model, found.loss).values())


def test_parts_of_a_step_sum_to_the_whole() -> None:
    """Where rows have different numbers of answers, the mean of means would be another number."""
    model = model_of("llama")
    ids = ids_of(model, 4, 16)
    targets = answers(model, ids)
    count = int((targets != IGNORED).sum())
    whole = token_loss(model.head, model.hidden(ids), targets)
    parts = [
        token_loss(model.head, model.hidden(some), right, total=count)
        for some, right in zip(ids.split([1, 3]), targets.split([1, 3]), strict=True)
    ]
    torch.testing.assert_close(sum(part.loss for part in parts), whole.loss)


def test_a_frozen_head_and_no_gradient_at_all() -> None:
    head, hidden, targets = nn.Linear(8, 50, bias=False), random(2, 9, 8), torch.randint(50, (2, 9))
    wanted = F.cross_entropy(head(hidden).flatten(0, 1), targets.flatten())
    with torch.no_grad():
        torch.testing.assert_close(token_loss(head, hidden, targets).loss, wanted)
    head.requires_grad_(False)
    leaf = hidden.clone().requires_grad_()
    token_loss(head, leaf, targets).loss.backward()
    assert leaf.grad is not None
    assert head.weight.grad is None
    (wanted,) = torch.autograd.grad(F.cross_entropy(head(leaf).flatten(0, 1), targets.flatten()), leaf)
    torch.testing.assert_close(leaf.grad, wanted)


def test_logits_never_exist_whole() -> None:
    """4,096 tokens, 20,000 words: at most a quarter of the plain loss's bytes, weights' gradients included."""
    head, hidden, targets = nn.Linear(32, 20_000, bias=False), random(1, 4096, 32), torch.randint(20_000, (1, 4096))
    peaks, grads = [], []
    for chunked in (False, True):
        head.zero_grad()
        with Alive() as alive:
            if chunked:
                token_loss(head, hidden, targets, z_loss=1e-4).loss.backward()
            else:
                logits = head(hidden).flatten(0, 1)
                loss = F.cross_entropy(logits, targets.flatten()) + 1e-4 * logits.logsumexp(-1).square().mean()
                loss.backward()
                del logits, loss
        peaks.append(alive.peak)
        grads.append(head.weight.grad)
    assert peaks[0] > 2 * 4096 * 20_000 * 4, "of the plain one logits and gradient exist"
    assert peaks[1] < peaks[0] / 4, peaks
    torch.testing.assert_close(*grads, atol=1e-6, rtol=1e-4)


def test_autocast_keeps_the_loss_in_float32() -> None:
    head, hidden, targets = nn.Linear(16, 90, bias=False), random(1, 30, 16), torch.randint(90, (1, 30))
    leaf = hidden.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = token_loss(head, leaf, targets)
        logits = head(hidden).float()
    assert found.loss.dtype == torch.float32
    torch.testing.assert_close(found.loss, F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
    found.loss.backward()
    assert head.weight.grad is not None
    assert head.weight.grad.dtype == torch.float32


# ------------------------------------------------------------------ routers


def routing(logits: Tensor, active: int) -> Routing:
    return Routing(logits.softmax(-1).topk(active).values, logits.topk(active).indices, logits)


def test_the_balance_loss_is_one_where_all_are_equal_and_e_where_one_has_all() -> None:
    even = torch.eye(4).repeat(6, 1) * 30
    torch.testing.assert_close(balance_loss(routing(even, 1)), torch.tensor(1.0))
    torch.testing.assert_close(balance_loss(routing(even[:1].expand(24, -1), 1)), torch.tensor(4.0))
    both = balance_loss(routing(torch.cat((even[:1].expand(24, -1), even)), 1), sequences=2)
    torch.testing.assert_close(both, torch.tensor(2.5))  # the mean of the two


def test_the_balance_loss_is_that_of_transformers() -> None:
    """Of several layers together it is theirs divided by the number of active experts."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    logits = random(40, 8)
    theirs = load_balancing_loss_func((logits,), 8, 3)
    torch.testing.assert_close(3 * balance_loss(routing(logits, 3)), torch.as_tensor(theirs))
    z = router_z_loss(routing(logits, 3))
    torch.testing.assert_close(z, torch.logsumexp(logits, 1).pow(2).sum() / 40)


def test_sigmoid_scores_are_normalised() -> None:
    logits = random(12, 5)
    scores = logits.sigmoid() / logits.sigmoid().sum(1, keepdim=True)
    counts = torch.bincount(logits.topk(2).indices.flatten(), minlength=5)
    wanted = 5 * (counts / 24 * scores.mean(0)).sum()
    torch.testing.assert_close(balance_loss(routing(logits, 2), "sigmoid"), wanted)


def test_biases_go_against_the_load_and_even_it_out() -> None:
    model = copy.deepcopy(model_of("deepseek_v3"))
    ids = ids_of(model, 4, 32)
    found = losses(model, ids, answers(model, ids))
    assert found.loads
    before = {path: model.get_submodule(path).selection_bias.clone() for path in found.loads}
    balance_biases(model, found.loads, speed=0.01)
    for path, load in found.loads.items():
        moved = model.get_submodule(path).selection_bias - before[path]
        torch.testing.assert_close(moved, 0.01 * torch.sign(load.mean() - load))
    first = max(each.violation for each in load_statistics(found.loads).values())
    for _ in range(60):
        with torch.no_grad():
            balance_biases(model, losses(model, ids, answers(model, ids)).loads, speed=0.01)
    last = max(each.violation for each in load_statistics(losses(model, ids, answers(model, ids)).loads).values())
    assert last < 0.5 * first, (first, last)


def test_load_statistics() -> None:
    found = load_statistics({"a": torch.tensor([4.0, 0.0, 2.0, 2.0])})
    assert found["a"].violation == pytest.approx(1.0)
    assert found["a"].unused == 1


@pytest.mark.parametrize("case", ["qwen3_moe", "deepseek_v3"])
def test_routers_learn_from_their_losses(case: str) -> None:
    model = model_of(case)
    ids = ids_of(model, 2, 20)
    targets = answers(model, ids)
    plain = losses(model, ids, targets)
    found = losses(model, ids, targets, weights=LossWeights(balance=0.1, router_z=0.01, by_sequence=True))
    assert found.parts.keys() == {"cross_entropy", "balance", "router_z"}
    added = 0.1 * found.parts["balance"] + 0.01 * found.parts["router_z"]
    torch.testing.assert_close(found.total - plain.total, added, atol=1e-6, rtol=1e-5)
    changed = {
        name
        for (name, grad), other in zip(
            gradients(model, found.total).items(), gradients(model, plain.total).values(), strict=True
        )
        if not torch.allclose(grad, other, atol=1e-7)
    }
    assert {f"{path}.weight" for path in found.loads} <= changed
    assert all(float(load.sum()) == 2 * 20 * model.get_submodule(p).spec.active for p, load in found.loads.items())


# ------------------------------------------------------------------ tokens further ahead


def test_the_loss_of_tokens_further_ahead() -> None:
    model = model_of("deepseek_v3_mtp")
    ids = ids_of(model, 2, 14)
    targets = torch.cat((ids[:, 1:], torch.full_like(ids[:, :1], IGNORED)), 1)
    found = losses(model, ids, targets, weights=LossWeights(mtp=0.3))
    modules = [
        F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, k + 2 :].flatten())
        for k, logits in enumerate(model.ahead(ids))
    ]
    assert len(modules) == len(model.spec.mtp)
    torch.testing.assert_close(found.parts["mtp"], torch.stack(modules).mean())
    torch.testing.assert_close(found.total, found.parts["cross_entropy"] + 0.3 * found.parts["mtp"])
    assert any(path.startswith("mtp.") for path in found.loads), "its routers are balanced too"
    assert any(name.startswith("mtp.") for name in gradients(model, found.total))


def test_packed_documents_are_apart_for_tokens_further_ahead_too() -> None:
    model = model_of("deepseek_v3_mtp")
    ids = ids_of(model, 2, 20)
    lengths = (8, 1, 11)
    documents = torch.repeat_interleave(torch.tensor([5, 2, 5]), torch.tensor(lengths)).expand(2, -1)
    targets = torch.cat((ids[:, 1:], torch.full_like(ids[:, :1], IGNORED)), 1)
    targets[:, [7, 8]] = IGNORED  # what begins a document follows from nothing
    weights = LossWeights(mtp=0.3)
    packed = losses(model, ids, targets, documents, weights)
    parts = [
        losses(model, some, right, None, weights)
        for some, right, n in zip(ids.split(lengths, 1), targets.split(lengths, 1), lengths, strict=True)
        if n > 1
    ]
    count = [2 * 6, 2 * 9]  # of tokens that module 0 learns in each
    wanted = sum(n * part.parts["mtp"] for n, part in zip(count, parts, strict=True)) / sum(count)
    torch.testing.assert_close(packed.parts["mtp"], wanted, atol=1e-5, rtol=1e-5)


def test_what_is_not_there_costs_nothing() -> None:
    model = vt.build(vt.architecture(CASES["llama"]))
    ids = ids_of(model, 1, 9)
    found = losses(model, ids, answers(model, ids), weights=LossWeights(mtp=1.0, balance=1.0, router_z=1.0))
    assert found.parts.keys() == {"cross_entropy"}
    assert found.loads == {}
