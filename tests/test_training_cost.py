"""Training: operations, memory by recipe and sharding, hours; and what makers have published."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from vitruvius import catalog
from vitruvius.architectures import read
from vitruvius.cost import cost
from vitruvius.cost.counting import counted
from vitruvius.cost.devices import device
from vitruvius.cost.setting import Layout
from vitruvius.cost.training import RECIPES, activations, training
from vitruvius.errors import InputError
from vitruvius.spec import Decoder

H100 = device("h100-sxm")


@cache
def arch(name: str) -> Decoder:
    entry = catalog.entry(name)
    return read(entry.config, entry.id, catalog.implicit)


# ------------------------------------------------------------------ operations


@pytest.mark.parametrize("name", [entry.id for entry in catalog.entries() if not entry.like])
def test_forward_is_the_prefill_of_a_sequence(name: str) -> None:
    """Multi-token prediction, which is trained too, stands beside it."""
    found = training(arch(name), sequence=512)
    prefill = cost(arch(name), 512).flops.prefill
    assert found.forward_flops - found.mtp_flops == pytest.approx(prefill / 512, rel=1e-9)
    assert bool(found.mtp_flops) == bool(arch(name).mtp)
    assert found.model_flops == pytest.approx(3 * found.forward_flops * found.tokens, rel=1e-9)
    assert found.backward_flops == pytest.approx(2 * found.forward_flops, abs=1)


def test_six_for_each_parameter_and_what_scores_add() -> None:
    """Llama 3 8B: 6 · (parameters without the embedding), and for the scores 12 · heads · head_dim · layers · T/2."""
    found = training(arch("llama-3-8b"), 10**9, sequence=4096)
    weights = 8_030_261_248 - 128_256 * 4096 - 65 * 4096  # no table, no norms
    scores = 3 * 32 * 2 * 32 * 2 * 128 * 4097 / 2
    assert found.model_flops == pytest.approx((6 * weights + scores) * 10**9, rel=1e-9)


def test_mtp_of_deepseek_v3() -> None:
    """One more layer, the join and the head again, by hand from its report."""
    latent = 1536 * (7168 + 128 * 192) + 512 * (128 * 256) + 7168 * 576 + 128 * 128 * 7168
    layer = latent + 256 * 7168 + 9 * 3 * 7168 * 2048
    scores = 2 * 128 * 320 * 4097 // 2
    expected = 2 * (layer + 2 * 7168 * 7168 + 129_280 * 7168) + scores
    assert training(arch("deepseek-v3")).mtp_flops == expected


def test_checkpointing_runs_the_layers_again() -> None:
    found = training(arch("llama-3-8b"), checkpointing=True)
    assert found.recomputed_flops == found.forward_flops - 2 * 128_256 * 4096
    assert training(arch("llama-3-8b")).recomputed_flops == 0


# ------------------------------------------------------------------ runs


def test_deepseek_v3s_hours_are_those_of_the_utilisation_that_they_imply() -> None:
    said = training(arch("deepseek-v3")).published
    assert said is not None
    assert (said.device_hours, said.tokens, said.dollars) == (2_788_000, 14_800_000_000_000, 5_576_000)
    assert said.implied_mfu == pytest.approx(0.4065, abs=5e-4)
    run = training(arch("deepseek-v3"), said.tokens, device=H100, mfu=said.implied_mfu, price=2.0).run
    assert run is not None
    assert run.device_hours == pytest.approx(2_664_000)  # the pre-training
    assert run.dollars == pytest.approx(2 * 2_664_000)


def test_llama_3s_405b_is_near_what_its_report_says() -> None:
    """It reports 38 to 43% of the bf16 peak while it runs (arXiv 2407.21783, table 4); the hours hold all stops too."""
    said = training(arch("llama-3.1-405b"), sequence=8192).published
    assert said is not None
    assert 0.33 < said.implied_mfu < 0.38
    assert training(arch("gpt2")).published is None


def test_hours_days_and_dollars() -> None:
    found = training(arch("llama-3-8b"), 10**12, device=H100, layout=Layout(data=64), mfu=0.5, price=3.0)
    assert found.run is not None
    hours = found.model_flops / (0.5 * H100.peaks["bf16"] * 3600)
    assert found.run.device_hours == pytest.approx(hours)
    assert found.run.days == pytest.approx(hours / 64 / 24)
    assert found.run.dollars == pytest.approx(3 * hours)
    assert training(arch("llama-3-8b"), 10**12).run is None


def test_chinchilla() -> None:
    found = training(arch("mixtral-8x7b"))
    whole = cost(arch("mixtral-8x7b")).parameters
    assert found.tokens == found.chinchilla_tokens == 20 * whole.total
    assert found.chinchilla_tokens_active == 20 * whole.active


# ------------------------------------------------------------------ memory


def test_sixteen_bytes_a_parameter() -> None:
    """ZeRO, arXiv 1910.02054: 2 + 2 + 12 bytes; table 1's stages over 64 devices."""
    total = 8_030_261_248
    for zero, expected in ((0, 16.0), (1, 4 + 12 / 64), (2, 2 + 14 / 64), (3, 16 / 64)):
        held = training(arch("llama-3-8b"), layout=Layout(data=64), zero=zero).memory
        found = held.weights_bytes + held.gradients_bytes + held.optimizer_bytes
        assert found == pytest.approx(expected * total, rel=1e-6)


@pytest.mark.parametrize(
    ("recipe", "bytes_each"), [("mixed", 16), ("mixed-f32-gradients", 18), ("bf16", 8), ("f32", 16)]
)
def test_recipes(recipe: str, bytes_each: int) -> None:
    held = training(arch("gpt2"), recipe=recipe).memory
    assert held.total_bytes - held.activations_bytes == bytes_each * 124_439_808
    assert set(RECIPES) >= {recipe}


def test_muon_keeps_one_moment_of_the_layers_matrices() -> None:
    """GPT-2: 12 layers of 12 · 768² are Muon's; the head, positions, norms and biases are AdamW's."""
    adamw, muon = (training(arch("gpt2"), optimizer=name).memory for name in ("adamw", "muon"))
    assert muon.muon_parameters == 12 * 12 * 768 * 768
    assert adamw.optimizer_bytes - muon.optimizer_bytes == 4 * muon.muon_parameters
    assert adamw.muon_parameters == 0


def test_experts_spread_over_all_groups_are_not_shared_out_again() -> None:
    layout = Layout(tensor=1, data=64, experts="spread")
    held = training(arch("deepseek-v3"), layout=layout, zero=3).memory
    experts = 653_908_770_816 + 256 * 3 * 7168 * 2048  # the MTP layer's too
    rest = 671_026_404_352 + 11_610_068_224 - 256 - experts
    assert held.weights_bytes == pytest.approx(2 * (experts + rest) / 64, rel=1e-5)


def test_activations_of_gpts_layer_are_the_published_formula() -> None:
    """Korthikanti et al. 2022, section 4.1: 34 · W without attention's scores; 2 of them are dropout's masks."""
    whole = arch("gpt2-xl")
    layers = activations(whole, checkpointing=False) - activations(arch("gpt2-xl"), checkpointing=True)
    assert layers == (48 - 1) * 32 * 1600 - 48 * 2 * 1600
    held = training(whole, sequence=1024, micro_batch=2).memory.activations_bytes
    assert held == 2 * 1024 * activations(whole, checkpointing=False)


def test_experts_keep_what_each_of_the_chosen_needs() -> None:
    """Mixtral: for each of 2 experts its input and output, and three times 14,336 channels inside."""
    sparse = activations(arch("mixtral-8x7b"), checkpointing=False)
    inside = 2 * (2 * 4096 + 3 * 14_336)
    mixer = 2 * 4096 + (4096 + 2 * 1024) + 4096
    layer = 2 * (mixer + 2 * 4096 + 8 + inside)
    assert sparse == 32 * layer + 4 * 4096 + 6 * 32_000


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tokens": 0}, "tokens must be a whole number"),
        ({"sequence": -1}, "sequence must be a whole number"),
        ({"recipe": "fp7"}, "recipe 'fp7' is not known"),
        ({"optimizer": "sgd"}, "optimizer 'sgd' is not known"),
        ({"zero": 4}, "stages 0 to 3"),
        ({"mfu": 0.0}, "utilisation"),
    ],
)
def test_unusable_values_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        training(arch("gpt2"), **wrong)


def test_nothing_is_shared_out_unless_it_is_asked_for() -> None:
    whole, out = (training(arch("llama-3.2-1b"), layout=Layout(data=4), zero=zero).memory for zero in (0, 1))
    assert training(arch("llama-3.2-1b"), layout=Layout(data=4)).memory == whole
    assert out.optimizer_bytes == -(-whole.optimizer_bytes // 4)


def test_the_fullest_stage_counts() -> None:
    """The last stage holds the head, and the first a tied head's embedding is not: the larger of both is told."""
    one = training(arch("llama-3-8b"), layout=Layout(pipeline=32)).memory
    head = 128_256 * 4096
    layer = sum(
        w.elements
        for w in counted(arch("llama-3-8b"))
        if w.node.path.startswith("layers.0") and w.weight.role != "buffer"
    )
    assert one.weights_bytes == 2 * (layer + head + 4096)  # the last: a layer, the norm, the head
