"""Figures and rules that everything else would let pass if they were wrong."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from cases import CASES
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama import LlamaConfig

from vitruvius import catalog, nn
from vitruvius.architectures import read
from vitruvius.cost import cost
from vitruvius.cost.policies import Kept, kept, reserved
from vitruvius.cost.sliders import at, sliders
from vitruvius.spec import Axis, Decoder, Fixed, MoE, PerToken, RMSNorm, RoPE, Static, YaRN, walk


def arch(name: str) -> Decoder:
    entry = catalog.entry(name)
    return read(entry.config, entry.id, catalog.implicit)


# ------------------------------------------------------------------ from configs


@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize(("theta", "context"), [(100.0, 4096), (10.0, 2**20), (10_000.0, 4096)])
def test_yarns_ramp_ends_where_transformers_ends_it(theta: float, context: int, truncate: bool) -> None:
    """With a small base, the slow end of the ramp lies beyond the last pair, and beyond the last channel."""
    settings = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": context, "rope_theta": theta}
    config = LlamaConfig(head_dim=16, max_position_embeddings=8 * context)
    config.rope_parameters = {**settings, "truncate": truncate}
    expected, _ = ROPE_INIT_FUNCTIONS["yarn"](config, torch.device("cpu"))
    scaling = YaRN(factor=8.0, original_context=context, truncate=truncate)
    found = nn.position.frequencies(RoPE(theta=theta, dim=16, scaling=scaling), torch.device("cpu"))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    if theta < 10_000:
        assert 16 * math.log(context / (2 * math.pi)) / (2 * math.log(theta)) > 16 / 2 - 1


@pytest.mark.parametrize("case", ["lfm2", "lfm2_moe"])
def test_lfm2s_norms_have_the_configs_epsilon(case: str) -> None:
    tree = read({**CASES[case], "norm_eps": 0.0125}, "tiny", catalog.implicit)
    norms = [node.spec for node in walk(tree, tree.width) if isinstance(node.spec, RMSNorm)]
    routers = [node.spec.router for node in walk(tree, tree.width) if isinstance(node.spec, MoE)]
    assert {norm.eps for norm in norms} == {0.0125}
    assert len(norms) > 10
    assert {router.norm_topk_eps for router in routers} == ({1e-6} if case == "lfm2_moe" else set())


# ------------------------------------------------------------------ what engines reserve


@pytest.mark.parametrize(("windows", "full", "together"), [(10, 14, 14), (10, 15, 10), (10, 20, 10), (13, 12, 13)])
def test_vllm_pads_to_the_larger_kind_below_one_and_a_half_times(windows: int, full: int, together: int) -> None:
    """Groups of `together` layers, the last of a kind padded; a window of 100 keeps 99 tokens, a step of 61 and a
    page more."""
    layers = {Kept(64, 100): windows, Kept(64): full}
    pages = math.ceil(windows / together) * (10 + 1) + math.ceil(full / together) * 50
    assert reserved(layers, 800, "bf16", chunk=61)["vllm"] == pages * together * 16 * 64 * 2


# ------------------------------------------------------------------ active, not all


def test_a_token_decodes_with_the_experts_that_it_takes() -> None:
    """Mixtral 8x7B: 2 of 8 experts of 3 · 4,096 · 14,336 in 32 layers; a prompt's token takes as many."""
    split = cost(arch("mixtral-8x7b"), 100).flops.by_part
    expected = 2 * 32 * 2 * 3 * 4096 * 14_336
    assert split["decode_per_token"]["experts"] == expected
    assert split["prefill"]["experts"] == 100 * expected


# ------------------------------------------------------------------ no state, and state with a stride


def stateless() -> Decoder:
    tree = arch("gpt2")
    return replace(tree, layers=tuple(replace(layer, branches=layer.branches[1:]) for layer in tree.layers))


def test_a_tree_without_state_costs_none() -> None:
    tree = stateless()
    found = cost(tree, 1000, 3, device="h100-sxm", policy="vllm")
    assert (found.state.bytes, found.state.bytes_per_token, found.state.by_part) == (0, 0, {})
    assert set(found.state.policies.values()) == {0}
    assert found.memory.per_device.state_bytes == 0
    assert found.time is not None
    assert at(sliders(tree)["state"]["vllm"]["bf16"][0], 1000) == 0
    json.dumps(found.to_dict())


def entry(window: int | None = None, stride: int = 1) -> PerToken:
    return PerToken(
        ((Axis("kv_heads", 2, cut="kv_heads"),), (Axis("channels", 5, cut="replicated"),)), window, stride=stride
    )


@pytest.mark.parametrize(
    ("context", "window", "stride", "entries"),
    [(1, None, 4, 1), (4, None, 4, 1), (5, None, 4, 2), (400, None, 4, 100), (400, 10, 4, 3), (7, 10, 1, 7)],
)
def test_a_stride_keeps_an_entry_for_several_tokens(
    context: int, window: int | None, stride: int, entries: int
) -> None:
    state = entry(window, stride)
    assert state.elements(context) == 10 * entries
    assert state.growth == Fraction(10, stride)
    assert state.moved(context) == 10 * (entries + 1)


def test_what_does_not_grow() -> None:
    dimensions = entry().dimensions
    assert (Fixed(dimensions).elements(9), Fixed(dimensions).moved(9), Fixed(dimensions).growth) == (10, 20, 0)
    assert (Static(dimensions).elements(9), Static(dimensions).moved(9), Static(dimensions).growth) == (90, 90, 0)


def test_costs_follow_a_stride(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-2 small, as if each fourth token had an entry: 12 layers of 2 · 768 numbers."""
    tree = arch("gpt2")
    spec: Any = type(tree.layers[0].branches[0].body)
    plain = spec.state
    monkeypatch.setattr(
        spec, "state", lambda self: {name: replace(each, stride=4) for name, each in plain(self).items()}
    )
    found = cost(tree, 1001, 3, chunk=100).state
    token = 12 * 2 * 768 * 2
    assert found.bytes == 3 * token * 251
    assert found.bytes_per_token == token // 4
    pages = -(-251 // 16) * 16
    assert found.policies == {
        "minimum": 3 * token * 251,
        "vitruvius": 3 * token * 251,
        "transformers": 3 * token * 251,
        "vllm": 3 * token * pages,
        "vllm-no-hybrid": 3 * token * pages,
        "llama.cpp": 3 * token * 256,
        "llama.cpp-swa-full": 3 * token * 256,
    }
    assert {each.stride for each in kept(tree)} == {4}
