"""Optimisers and schedules: what decays, what Muon takes, values against torch's own, stacked experts, μP."""

from __future__ import annotations

import copy
import re
from math import sqrt

import pytest
import torch
from cases import CASES
from torch import nn

import vitruvius as vt
from vitruvius.errors import InputError
from vitruvius.nn.model import weights_of
from vitruvius.training import optimizers
from vitruvius.training.optimizers import (
    Muon,
    build,
    fast_dtype,
    is_inner_matrix,
    newton_schulz,
    orthogonal,
    transfer,
    treatments,
)
from vitruvius.training.schedules import schedule

GENERATOR = torch.Generator().manual_seed(5)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR)


# ------------------------------------------------------------------ who takes what


def test_matrices_decay_and_norms_biases_and_scalars_do_not() -> None:
    """Also where experts stack biases to a matrix (gpt-oss)."""
    model = vt.build(vt.architecture(CASES["gpt_oss"]))
    found = treatments(model, muon=True)
    assert found.keys() == dict(model.named_parameters()).keys()
    experts = "layers.0.mlp.body.experts"
    assert found[f"{experts}.gate.weight"].muon
    assert not found[f"{experts}.gate.bias"].muon
    assert not found[f"{experts}.gate.bias"].decays
    assert model.get_parameter(f"{experts}.gate.bias").ndim == 2
    still = {name.rpartition(".")[2] for name, how in found.items() if not how.decays}
    assert still == {"bias", "weight", "sinks"}
    assert {name for name, how in found.items() if not how.decays and name.endswith("norm.weight")} == {
        name for name in found if name.endswith("norm.weight")
    }
    assert {name for name, how in found.items() if how.decays and not how.muon} == {"embedding.weight", "head.weight"}


def test_recurrent_layers_have_scalars_that_do_not_decay() -> None:
    found = treatments(vt.build(vt.architecture(CASES["qwen3_next"])), muon=True)
    assert not any(how.decays or how.muon for name, how in found.items() if name.endswith(("A_log", "dt_bias")))
    assert not any(how.muon for name, how in found.items() if name.endswith("conv"))
    assert any(how.muon for name, how in found.items() if ".experts." in name)


def test_muon_takes_what_cost_counts_for_it() -> None:
    from vitruvius.cost.training import training

    for case in ("llama", "deepseek_v3", "gpt_oss", "nemotron_h"):
        arch = vt.architecture(CASES[case])
        model = vt.build(arch)
        taken = treatments(model, muon=True)
        ours = sum(p.numel() for name, p in model.named_parameters() if taken[name].muon)
        assert ours == training(arch, optimizer="muon").memory.muon_parameters, case


def test_a_wrapped_module_is_treated_alike() -> None:
    model = vt.build(vt.architecture(CASES["llama"]))
    plain = list(treatments(model, muon=True).values())
    model.layers[0] = torch.compile(model.layers[0])
    assert list(treatments(model, muon=True).values()) == plain


# ------------------------------------------------------------------ values


def test_muon_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps with decay, in the dtype in which torch iterates: bfloat16 has 8 bits."""
    monkeypatch.setattr(optimizers, "fast_dtype", lambda device: torch.bfloat16)
    start, grads = random(12, 20), [random(12, 20) for _ in range(3)]
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    group = {"params": [ours], "lr": 0.02, "weight_decay": 0.1, "muon": True}
    pair = [Muon([group], 0.02), torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")]
    for grad in grads:
        for parameter, optimizer in zip((ours, theirs), pair, strict=True):
            parameter.grad = grad.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert float((theirs.detach() - start).abs().max()) > 0.02
    exact = torch.optim._muon._zeropower_via_newtonschulz(grads[0], (3.4445, -4.7750, 2.0315), 5, 1e-7)
    assert torch.equal(newton_schulz(grads[0], 5, torch.bfloat16), exact)


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (3, 24, 16)])
def test_an_update_is_nearly_orthogonal(shape: tuple[int, ...]) -> None:
    values = torch.linalg.svdvals(newton_schulz(random(*shape), 5, torch.float32))
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.25


def test_every_stacked_expert_is_a_matrix_of_its_own() -> None:
    stacked = random(5, 12, 8) * torch.tensor([1.0, 1e3, 1e-3, 1.0, 0.0])[:, None, None]  # one of them has no gradient
    got = orthogonal(stacked)
    wanted = torch.stack([orthogonal(each) for each in stacked])
    torch.testing.assert_close(got, wanted)
    assert not got[4].any()
    sizes = got.flatten(1).norm(dim=1)[:4]
    assert float(sizes.max() / sizes.min()) < 1.5, "an expert with a small gradient is updated as much"


def test_adamw_of_muons_rest_is_that_of_torch_and_state_comes_back() -> None:
    torch.manual_seed(0)
    arch = vt.architecture(CASES["qwen3_moe"])
    model, other = vt.build(arch), vt.build(arch)
    ids = torch.randint(arch.embedding.vocab, (2, 16), generator=GENERATOR)
    optimizer = build(model, "muon", 1e-2)
    reference = build(other, "adamw", 1e-2)
    for each, steps in ((model, optimizer), (other, reference)):
        each(ids).logsumexp(-1).mean().backward()
        steps.step()
    assert torch.equal(model.embedding.weight, other.embedding.weight)
    assert torch.equal(model.final_norm.weight, other.final_norm.weight)
    assert not torch.equal(model.layers[0].mixer.body.q.weight, other.layers[0].mixer.body.q.weight)
    again = vt.build(arch)
    again.load_state_dict(model.state_dict())
    resumed = build(again, "muon", 1e-2)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each, steps in ((model, optimizer), (again, resumed)):
        steps.zero_grad()
        each(ids).logsumexp(-1).mean().backward()
        steps.step()
    for (name, a), b in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_the_iteration_is_in_a_dtype_that_was_measured() -> None:
    assert fast_dtype("cpu") in (torch.float32, torch.bfloat16)
    assert orthogonal(random(8, 8).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_few_steps_lower_the_loss(name: str) -> None:
    model = vt.build(vt.architecture(CASES["deepseek_v3"]))
    ids = torch.randint(model.spec.embedding.vocab, (2, 20), generator=GENERATOR)
    optimizer, losses = build(model, name, 1e-2), []
    for _ in range(8):
        loss = nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5, losses


@pytest.mark.parametrize(
    ("name", "lr", "decay", "says"),
    [
        ("muonclip", 1e-3, 0.1, "is not known"),
        ("sgd", 1e-3, 0.1, "adamw, muon"),
        ("adamw", 0.0, 0.1, "above 0"),
        ("muon", 1e-3, -1.0, "at least 0"),
    ],
)
def test_what_cannot_be_is_said(name: str, lr: float, decay: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        build(vt.build(vt.architecture(CASES["llama"])), name, lr, decay)


def test_a_frozen_model_is_said() -> None:
    with pytest.raises(InputError, match="nothing in the model is trained"):
        build(vt.build(vt.architecture(CASES["llama"])).requires_grad_(False), "adamw", 1e-3)


# ------------------------------------------------------------------ width


def test_learning_rates_go_with_what_a_matrix_reads() -> None:
    small = vt.architecture(CASES["llama"])
    wide = vt.architecture(CASES["llama"] | {"hidden_size": 4 * small.width, "num_hidden_layers": 5})
    rates = transfer(wide, small)
    assert rates["layers.4.mixer.body.q.weight"] == 0.25
    assert rates["head.weight"] == 0.25
    assert rates["layers.0.mlp.body.down.weight"] == 1.0  # reads hidden channels, of which there are as many
    assert "embedding.weight" not in rates
    model = vt.build(wide)
    groups = {group["lr"] for group in build(model, "adamw", 1e-2, tuned_at=small).param_groups}
    assert groups == {1e-2, 0.25e-2}
    for name, (weight, _) in weights_of(wide).items():
        if is_inner_matrix(name, weight):  # the update's spectral norm goes with √(out / in)
            was, now = (
                0.2 * sqrt(max(shape)) / sqrt(shape[0] / shape[1])
                for shape in (weights(small)[re.sub(r"layers\.\d", "layers.0", name)], weight.shape)
            )
            assert transfer(wide, small, muon=True)[name] * now == pytest.approx(was)
    with pytest.raises(InputError, match="no weight like"):
        transfer(vt.architecture(CASES["deepseek_v3"]), small)


def weights(arch: vt.spec.Decoder) -> dict[str, tuple[int, ...]]:
    return {name: weight.shape for name, (weight, _) in weights_of(arch).items()}


# ------------------------------------------------------------------ schedules


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("constant", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.25, 0.5, 0.75, 1, 1, 0.8875, 0.775, 0.6625, 0.55, 0.4375, 0.325, 0.2125]),
        ("wsd", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1, 1, 0.55]),
    ],
)
def test_schedules(name: str, wanted: list[float]) -> None:
    factor = schedule(name, 12, warmup=4, decay=2 / 12, floor=0.1)
    assert [factor(step) for step in range(12)] == pytest.approx(wanted)


def test_cosine_and_the_end() -> None:
    factor = schedule("cosine", 100, floor=0.1)
    assert [factor(0), factor(50), factor(100), factor(1000)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    scheduler = torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=2.0), factor)
    assert scheduler.get_last_lr() == [2.0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("cosin", 10), "cosine"),
        (("wsd", 0), "steps"),
        (("wsd", 10, 10), "shorter"),
        (("wsd", 10, 0, 1.5), "decay"),
        (("wsd", 10, 2.5), "whole number"),
    ],
)
def test_schedules_that_cannot_be(arguments: tuple, says: str) -> None:
    with pytest.raises(InputError, match=says):
        schedule(*arguments)
