"""Recurrent mixers: the naive loop, the chunked form and single steps give the same, and gradients flow."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import vitruvius as vt
from vitruvius.nn import ops
from vitruvius.nn.ops import conv, delta, ssm

LENGTHS = [1, 2, 3, 31, 32, 33, 64, 97, 150, 300]
STRENGTHS = [0.01, 1.0, 40.0]  # of the decay: hardly any, usual, forgetting at once


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def delta_inputs(tokens: int, strength: float, by_channel: bool, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    q, k = (F.normalize(random(2, 2, tokens, 16, seed=seed, dtype=dtype), dim=-1) for seed in (1, 2))
    shape = (2, 4, tokens, 16) if by_channel else (2, 4, tokens)
    decay = -strength * F.softplus(random(*shape, seed=3, dtype=dtype))
    beta = random(2, 4, tokens, seed=4, dtype=dtype).sigmoid()
    return [q, k, random(2, 4, tokens, 8, seed=5, dtype=dtype), decay, beta, random(2, 4, 16, 8, seed=6, dtype=dtype)]


def state_space_inputs(tokens: int, strength: float, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    c, b = (random(2, 2, tokens, 16, seed=seed, dtype=dtype) for seed in (1, 2))
    decay = -strength * F.softplus(random(2, 4, tokens, seed=3, dtype=dtype))
    return [c, b, random(2, 4, tokens, 8, seed=4, dtype=dtype), decay, random(2, 4, 16, 8, seed=5, dtype=dtype)]


def assert_alike(got: tuple[Tensor, ...], wanted: tuple[Tensor, ...], tolerance: float) -> None:
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.shape == theirs.shape
        assert float((ours - theirs).abs().max()) <= tolerance * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("by_channel", [False, True], ids=["by head", "by channel"])
@pytest.mark.parametrize("tokens", LENGTHS)
def test_the_chunked_delta_rule_equals_the_loop(tokens: int, by_channel: bool, strength: float) -> None:
    inputs = delta_inputs(tokens, strength, by_channel)
    assert_alike(delta.fast_delta_rule(*inputs), delta.naive_delta_rule(*inputs), 2e-5)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("tokens", LENGTHS)
def test_the_chunked_state_space_equals_the_loop(tokens: int, strength: float) -> None:
    inputs = state_space_inputs(tokens, strength)
    assert_alike(ssm.fast_state_space(*inputs), ssm.naive_state_space(*inputs), 2e-5)


@pytest.mark.parametrize("by_channel", [False, True], ids=["by head", "by channel"])
def test_a_memory_carries_on_where_a_part_ended(by_channel: bool) -> None:
    *inputs, memory = delta_inputs(130, 1.0, by_channel)
    whole, last = delta.fast_delta_rule(*inputs, memory)
    outputs = []
    for start, stop in ((0, 1), (1, 50), (50, 51), (51, 130)):
        part, memory = delta.fast_delta_rule(*(x[:, :, start:stop] for x in inputs), memory)
        outputs.append(part)
    assert_alike((torch.cat(outputs, 2), memory), (whole, last), 2e-5)


@pytest.mark.parametrize("by_channel", [False, True], ids=["by head", "by channel"])
def test_gradients_of_the_chunked_delta_rule_are_those_of_the_loop(by_channel: bool) -> None:
    gradients = []
    for form in (delta.fast_delta_rule, delta.naive_delta_rule):
        inputs = [x.requires_grad_() for x in delta_inputs(70, 1.0, by_channel, torch.float64)]
        outputs, memory = form(*inputs)
        (outputs.sin().sum() + memory.cos().sum()).backward()
        gradients.append(tuple(x.grad for x in inputs))
    assert_alike(*gradients, 1e-9)


def test_gradients_of_the_chunked_state_space_are_those_of_the_loop() -> None:
    gradients = []
    for form in (ssm.fast_state_space, ssm.naive_state_space):
        inputs = [x.requires_grad_() for x in state_space_inputs(70, 1.0, torch.float64)]
        outputs, memory = form(*inputs)
        (outputs.sin().sum() + memory.cos().sum()).backward()
        gradients.append(tuple(x.grad for x in inputs))
    assert_alike(*gradients, 1e-9)


@pytest.mark.parametrize("tokens", [1, 5, 40])
@pytest.mark.parametrize("bias", [None, 7])
def test_the_fast_convolution_equals_the_naive_one(tokens: int, bias: int | None) -> None:
    x, weight = random(2, 3 + tokens, 6, seed=1), random(6, 1, 4, seed=2)
    b = None if bias is None else random(6, seed=bias)
    assert_alike((conv.fast_causal_conv(x, weight, b),), (conv.naive_causal_conv(x, weight, b),), 1e-6)
    by_torch = F.conv1d(x.transpose(1, 2), weight, b, groups=6).transpose(1, 2)
    assert_alike((conv.fast_causal_conv(x, weight, b),), (by_torch,), 1e-6)


# Hybrids with one of each mixer, small: name -> what changes in the catalog's config.
HYBRIDS = {
    "qwen3-next-80b-a3b": {
        "hidden_size": 48,
        "num_hidden_layers": 4,
        "head_dim": 16,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "linear_key_head_dim": 12,
        "linear_value_head_dim": 20,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 24,
        "intermediate_size": 32,
        "vocab_size": 61,
        "num_nextn_predict_layers": 0,
    },
    "nemotron-3-nano-30b-a3b": {
        "hidden_size": 48,
        "num_hidden_layers": 5,
        "hybrid_override_pattern": "MEM*M",
        "head_dim": 16,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "mamba_num_heads": 4,
        "mamba_head_dim": 12,
        "n_groups": 2,
        "ssm_state_size": 16,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "moe_shared_expert_intermediate_size": 24,
        "intermediate_size": 32,
        "vocab_size": 61,
    },
}


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_hybrid_gives_the_same_in_any_form_and_keeps_what_cost_says(name: str) -> None:
    config = vt.catalog.entry(name).config | HYBRIDS[name]
    model = vt.build(config, seed=1)
    with torch.no_grad():
        for i, value in enumerate(model.parameters()):
            value.add_(0.1 * random(*value.shape, seed=i))
    ids = torch.randint(61, (2, 75), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        whole = model(ids)
        with ops.naive():
            assert_alike((model(ids),), (whole,), 1e-4)
        state = model.new_state(batch=2, capacity=75)
        parts = [model(part, state) for part in ids.split([33, 1, 1, 40], 1)]
        assert_alike((torch.cat(parts, 1),), (whole,), 1e-4)
        assert state.nbytes == vt.cost(model.spec, context=75, batch=2, dtype="float32").state.bytes

        ragged = model.new_state(batch=2, capacity=75)  # one row of 20 tokens, padded with rubbish, beside one of 50
        padded = ids[:, :50].clone()
        padded[0, 20:] = 3
        model(padded, ragged, torch.tensor([20, 50]))
        following = torch.stack((ids[0, 20:25], ids[1, 50:55]))
        after = model(following, ragged)
        assert_alike((after[0], after[1]), (whole[0, 20:25], whole[1, 50:55]), 1e-4)


def test_a_snapshot_is_where_a_recurrence_can_return_to() -> None:
    model = vt.build(vt.catalog.entry("qwen3-next-80b-a3b").config | HYBRIDS["qwen3-next-80b-a3b"], seed=1)
    ids = torch.arange(40)[None] % 61
    with torch.no_grad():
        state = model.new_state(batch=1, capacity=40)
        model(ids[:, :20], state)
        state.snapshot()
        again = model(ids[:, 20:30], state)
        assert (state.reach(25), state.reach(30)) == (20, 30)
        with pytest.raises(vt.InputError, match="the nearest is 20"):
            state.rewind(25)
        state.rewind(20)
        assert torch.equal(model(ids[:, 20:30], state), again)
