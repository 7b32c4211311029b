"""Recurrent mixers: the chunked forms against the step from token to token, states, padding, gradients, and what the
families make of their configs.

Logits against transformers, and everything else that all architectures share, are in test_architectures.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from cases import CASES, TEXT
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import vitruvius as vt
from vitruvius import spec
from vitruvius.nn import Needs
from vitruvius.nn.call import StepEntry, call_of, whole_call
from vitruvius.nn.decoder import Decoder
from vitruvius.nn.ops import naive
from vitruvius.nn.ops.chunks import CHUNK, chunk_size, kept_between
from vitruvius.nn.ops.conv import fast_causal_conv, naive_causal_conv
from vitruvius.nn.ops.delta import fast_delta_rule, naive_delta_rule
from vitruvius.nn.ops.ssm import fast_state_space, naive_state_space
from vitruvius.nn.state import Batch, Sequence, Store
from vitruvius.nn.twin import Twin, make
from vitruvius.spec import Convolution, GatedDeltaNet, GatedNorm, KimiDelta, Mamba2, ShortConv

LENGTHS = (1, 2, 3, 7, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 100, 300)
STRENGTHS = (0.0, 0.02, 1.0, 30.0, 300.0)  # of the decays, from none to all at once

Inputs = tuple[Tensor, ...]


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def decays(*shape: int, strength: float) -> Tensor:
    """Most weak, a few strong: what stands beside a strong one must not be lost."""
    return -strength * uniform(*shape, seed=9) ** 6


def delta_inputs(tokens: int, strength: float, per_channel: bool, groups: int = 3, heads: int = 3) -> Inputs:
    q, k = (F.normalize(noise(2, groups, tokens, 12, seed=s), dim=-1) for s in (1, 2))
    decay = decays(2, heads, tokens, *[12] * per_channel, strength=strength)
    beta = 2 * uniform(2, heads, tokens, seed=4)  # up to 2: negative eigenvalues
    return q, k, noise(2, heads, tokens, 20, seed=3), decay, beta, noise(2, heads, 12, 20, seed=5)


def space_inputs(tokens: int, strength: float, groups: int = 2, heads: int = 6) -> Inputs:
    c, b = (noise(2, groups, tokens, 12, seed=s) for s in (1, 2))
    decay = decays(2, heads, tokens, strength=strength)
    return c, b, noise(2, heads, tokens, 10, seed=3), decay, noise(2, heads, 12, 10, seed=5)


def assert_close(got: Inputs, wanted: Inputs, tolerance: float) -> None:
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape
        if b.numel() == 0:
            continue
        worst = float((a - b).abs().max())
        assert worst <= tolerance * max(1.0, float(b.abs().max())), worst  # a NaN fails too


# ------------------------------------------------------------------ chunks and steps


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("per_channel", [False, True], ids=["per head", "per channel"])
def test_the_delta_rule_in_chunks_is_that_of_steps(per_channel: bool, tokens: int, strength: float) -> None:
    inputs = delta_inputs(tokens, strength, per_channel)
    exact = naive_delta_rule(*(x.double() for x in inputs))
    assert_close(naive_delta_rule(*inputs), exact, 1e-5)
    assert_close(fast_delta_rule(*inputs), exact, 1e-5)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_key_heads_serve_consecutive_value_heads(groups: int) -> None:
    inputs = delta_inputs(70, 1.0, per_channel=False, groups=groups, heads=6)
    assert_close(fast_delta_rule(*inputs), naive_delta_rule(*inputs), 1e-5)
    q, k, *rest = inputs
    spread = [x.repeat_interleave(6 // groups, 1) for x in (q, k)]
    assert_close(fast_delta_rule(*spread, *rest), fast_delta_rule(*inputs), 1e-6)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("tokens", LENGTHS)
def test_the_state_space_in_chunks_is_that_of_steps(tokens: int, strength: float) -> None:
    inputs = space_inputs(tokens, strength)
    exact = naive_state_space(*(x.double() for x in inputs))
    assert_close(naive_state_space(*inputs), exact, 1e-5)
    assert_close(fast_state_space(*inputs), exact, 1e-5)


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_heads_of_a_group_share_what_they_read_and_write(groups: int) -> None:
    inputs = space_inputs(70, 1.0, groups=groups)
    assert_close(fast_state_space(*inputs), naive_state_space(*inputs), 1e-5)


def test_one_step_of_the_delta_rule_by_hand() -> None:
    """Half of the memory is forgotten; what is left of it for the key is corrected by half of the error."""
    k = torch.tensor([1.0, 0.0])
    memory = torch.tensor([[4.0, 8.0], [6.0, 2.0]])
    q, v = torch.tensor([1.0, 1.0]), torch.tensor([10.0, 0.0])
    half = torch.tensor(0.5)
    y, after = naive_delta_rule(*(x[None, None, None] for x in (q, k, v, half.log(), half)), memory[None, None])
    assert after[0, 0].tolist() == [[6.0, 2.0], [3.0, 1.0]]  # the key's row from 2, 4 halfway to 10, 0
    assert y.flatten().tolist() == [9.0, 3.0]


def test_one_step_of_the_state_space_by_hand() -> None:
    c, b, x = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0]), torch.tensor([5.0])
    memory = torch.tensor([[8.0], [4.0]])
    y, after = naive_state_space(*(z[None, None, None] for z in (c, b, x, torch.tensor(0.5).log())), memory[None, None])
    assert after.flatten().tolist() == [4.0 + 15.0, 2.0 + 5.0]
    assert float(y) == 19.0 + 2 * 7.0


def test_a_small_decay_beside_a_large_one_is_not_lost() -> None:
    """As differences of running sums these would be off by 1e4 · 6e-8."""
    decay = torch.full((40,), -0.01)
    decay[5] = -1e4
    kept = kept_between(decay)
    assert torch.allclose(kept[30, 10], torch.tensor(-0.2).exp(), rtol=1e-6)
    assert float(kept[30, 4]) == 0.0
    assert kept.diagonal().tolist() == [1.0] * 40
    assert float(kept.triu(1).abs().max()) == 0.0


def test_a_sequence_is_cut_into_chunks_not_much_longer_than_itself() -> None:
    assert [chunk_size(n) for n in (1, 2, 3, 4, 5, 31, 32, 33, 1000)] == [1, 2, 4, 4, 8, 32, 32, 32, 32]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("sizes", [(1,) * 9, (40, 1, 1, 70, 3), (5, 64, 33)])
def test_any_cut_of_the_sequence_gives_the_same(sizes: tuple[int, ...], per_channel: bool) -> None:
    *inputs, memory = delta_inputs(sum(sizes), 1.0, per_channel)
    whole = fast_delta_rule(*inputs, memory)
    *space, state = space_inputs(sum(sizes), 1.0)
    whole_space = fast_state_space(*space, state)
    parts, parts_space = [], []
    for n in range(len(sizes)):
        at = slice(sum(sizes[:n]), sum(sizes[: n + 1]))
        y, memory = fast_delta_rule(*(x[:, :, at] for x in inputs), memory)
        parts.append(y)
        y, state = fast_state_space(*(x[:, :, at] for x in space), state)
        parts_space.append(y)
    assert_close((torch.cat(parts, 2), memory), whole, 1e-5)
    assert_close((torch.cat(parts_space, 2), state), whole_space, 1e-5)


@pytest.mark.parametrize("kernel", [1, 2, 4, 7])
@pytest.mark.parametrize("bias", [False, True])
def test_the_convolution_is_torchs(kernel: int, bias: bool) -> None:
    x, weight, b = noise(2, kernel - 1 + 11, 6), noise(6, 1, kernel, seed=1), noise(6, seed=2) if bias else None
    expected = F.conv1d(x.mT, weight, b, groups=6).mT
    assert_close((naive_causal_conv(x, weight, b),), (expected,), 1e-6)
    assert_close((fast_causal_conv(x, weight, b),), (expected,), 1e-6)


# ------------------------------------------------------------------ gradients


def gradients(run: Callable[..., tuple[Tensor, Tensor]], inputs: Inputs) -> list[Tensor]:
    leaves = [x.double().requires_grad_() for x in inputs]
    y, memory = run(*leaves)
    (y.sin().sum() + (memory * memory).sum()).backward()
    return [leaf.grad for leaf in leaves if leaf.grad is not None]


@pytest.mark.parametrize("tokens", [2, 9, CHUNK + 5, 3 * CHUNK])
@pytest.mark.parametrize("strength", [0.02, 30.0])
def test_gradients_of_the_chunked_forms_are_those_of_steps(tokens: int, strength: float) -> None:
    for per_channel in (False, True):
        inputs = delta_inputs(tokens, strength, per_channel)
        fast, slow = gradients(fast_delta_rule, inputs), gradients(naive_delta_rule, inputs)
        assert len(fast) == len(slow) == 6
        assert_close(tuple(fast), tuple(slow), 1e-9)
    space = space_inputs(tokens, strength)
    fast, slow = gradients(fast_state_space, space), gradients(naive_state_space, space)
    assert len(fast) == len(slow) == 5
    assert_close(tuple(fast), tuple(slow), 1e-9)


def test_gradients_are_those_of_differences() -> None:
    small = [x[:1, :1, :5] if x.ndim > 2 and x.shape[2] == 7 else x[:1, :1] for x in delta_inputs(7, 1.0, True)]
    assert torch.autograd.gradcheck(fast_delta_rule, tuple(x.double().requires_grad_() for x in small))
    x, weight, bias = noise(1, 6, 3).double(), noise(3, 1, 3, seed=1).double(), noise(3, seed=2).double()
    assert torch.autograd.gradcheck(fast_causal_conv, tuple(t.requires_grad_() for t in (x, weight, bias)))


# ------------------------------------------------------------------ the layers


SHORT = Convolution(kernel=4, act="silu")
MIXERS: dict[str, spec.Spec] = {
    "delta": GatedDeltaNet(
        k_heads=2, v_heads=4, k_dim=6, v_dim=10, conv=SHORT, norm=GatedNorm(eps=1e-3), beta_scale=2.0
    ),
    "kimi": KimiDelta(heads=3, head_dim=8, gate_rank=5, conv=SHORT, norm=GatedNorm(eps=1e-3, act="sigmoid")),
    "mamba": Mamba2(
        heads=4,
        head_dim=6,
        groups=2,
        state_dim=9,
        conv=Convolution(kernel=3, act="gelu", bias=True),
        norm=GatedNorm(eps=1e-3, gate_first=True, groups=2),
        in_bias=True,
        out_bias=True,
        dt_limit=(0.01, 0.4),
        multipliers=(0.7, 1.2, 0.6, 1.5, 0.9),
        memory_dtype="float32",
    ),
    "mamba without a norm": Mamba2(
        heads=2, head_dim=8, groups=1, state_dim=5, conv=Convolution(kernel=1, act="silu"), norm=None
    ),
    "short": ShortConv(dim=14, conv=Convolution(kernel=3, bias=True), bias=True),
}
BY_MIXER = pytest.mark.parametrize("name", MIXERS)
WIDTH = 16


def mixer(name: str) -> Twin[Any]:
    """A layer in which everything is random."""
    module = make(MIXERS[name], WIDTH)
    module.path = "mixer"
    with torch.no_grad():
        for i, (weight, parameter) in enumerate(module.named_parameters()):
            initial = MIXERS[name].weights(WIDTH).get(weight)
            around = initial.initial if initial is not None and initial.initial is not None else 0.0
            parameter.copy_(around + noise(*parameter.shape, seed=i) * (0.5 if parameter.ndim == 1 else 0.4))
    return module.eval()


def empty_state(module: Twin[Any], batch: int, dtype: torch.dtype = torch.float32) -> Batch:
    store = Store({"mixer": module.spec.state()}, batch, 1000, 0, 1000, dtype, torch.device("cpu"))
    return Batch(Sequence(store, row) for row in range(batch))


NEEDS = Needs()  # no attention is here


def run(module: Twin[Any], x: Tensor, state: Batch | None = None) -> Tensor:
    call = whole_call(NEEDS, x, x.dtype)
    if state is not None:
        call = call_of(NEEDS, [StepEntry(x.shape[1], s) for s in state.sequences], x.device, x.dtype)
    with torch.no_grad():
        y: Tensor = module(x, call)
    return y


@BY_MIXER
@pytest.mark.parametrize("tokens", [1, 5, CHUNK, 90])
def test_a_layer_is_the_same_at_once_in_chunks_and_by_step(name: str, tokens: int) -> None:
    module, x = mixer(name), noise(2, tokens, WIDTH, seed=50)
    whole = run(module, x)
    assert float(whole.std()) > 0.01
    with naive():
        assert_close((run(module, x),), (whole,), 2e-5)
    for sizes in ([1] * tokens, [tokens], [min(tokens, 3), *([tokens - 3] if tokens > 3 else [])]):
        state = empty_state(module, 2)
        parts = [run(module, part, state) for part in x.split(sizes, 1)]
        assert_close((torch.cat(parts, 1),), (whole,), 2e-5)


@BY_MIXER
def test_sequences_side_by_side_do_not_meet(name: str) -> None:
    """Rows of different lengths, twice, then a token for all: each row, and its state, is as it would be alone."""
    module = mixer(name)
    rounds = ([40, 3, 17], [1, 35, 35], [1, 1, 1])
    together, alone = empty_state(module, 3), [empty_state(module, 1) for _ in range(3)]
    for i, lengths in enumerate(rounds):
        parts = [noise(1, length, WIDTH, seed=3 * i + row) for row, length in enumerate(lengths)]
        entries = [StepEntry(n, s) for n, s in zip(lengths, together.sequences, strict=True)]
        call = call_of(NEEDS, entries, torch.device("cpu"), torch.float32)
        with torch.no_grad():
            y = module(call.laid(torch.cat(parts, 1)[0]), call).flatten(0, 1).split(lengths)
        for row, part in enumerate(parts):
            assert_close((y[row],), (run(module, part, alone[row])[0],), 2e-5)
            for entry, kept in together.sequences[0].store.parts["mixer"].items():
                assert_close((kept[row],), (alone[row].sequences[0].store.parts["mixer"][entry][0],), 2e-5)


@BY_MIXER
def test_the_state_has_the_bytes_that_the_spec_declares(name: str) -> None:
    module = mixer(name)
    for dtype, size in ((torch.float32, 4), (torch.bfloat16, 2)):
        state = empty_state(module, 3, dtype)
        expected = {
            part: 3 * entry.elements(7) * (4 if entry.dtype == "float32" else size)
            for part, entry in module.spec.state().items()
        }
        held = {part: x.untyped_storage().nbytes() for part, x in state.sequences[0].store.parts["mixer"].items()}
        assert held == expected
        assert state.nbytes == sum(expected.values())


@BY_MIXER
def test_a_layer_in_bfloat16_is_near_the_one_in_float32(name: str) -> None:
    module, x = mixer(name), noise(2, 40, WIDTH)
    wanted = run(module, x)
    module = module.bfloat16()
    state = empty_state(module, 2, torch.bfloat16)
    parts = [run(module, part.bfloat16(), state) for part in x.split([30, *[1] * 10], 1)]
    got = torch.cat(parts, 1)
    assert got.dtype == torch.bfloat16
    error = (got.float() - wanted).norm() / wanted.norm()
    assert float(error) < 0.05


class Products(TorchDispatchMode):
    """2 for each multiply-add of a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("mm", "bmm", "addmm"):
            self.flops += 2 * result.numel() * args[func.overloadpacket.__name__ == "addmm"].shape[-1]
        return result


@BY_MIXER
def test_the_flops_are_those_of_the_step(name: str) -> None:
    module = mixer(name)
    matrices = sum(w.size for w in module.spec.weights(WIDTH).values() if w.role == "matmul")
    for tokens in (1, 2, 19):
        with naive(), Products() as counted:
            run(module, noise(3, tokens, WIDTH))
        assert counted.flops == 3 * (2 * matrices * tokens + module.spec.flops(100, tokens))


def test_the_axes_of_a_weight_are_its_shape() -> None:
    """Sharding cuts along heads: the units must be where the channels are."""
    mamba = MIXERS["mamba"]
    assert [axis.size for axis in mamba.weights(WIDTH)["in_proj.weight"].dimensions[0]] == [24, 24, 18, 18, 4]
    assert mamba.weights(WIDTH)["conv"].shape == (24 + 18 + 18, 1, 3)
    delta = MIXERS["delta"]
    assert [axis.name for axis in delta.weights(WIDTH)["conv"].dimensions[0]] == ["k_heads", "k_heads", "heads"]
    assert [axis.unit for axis in delta.weights(WIDTH)["conv"].dimensions[0]] == [6, 6, 10]


def test_an_untrained_memory_is_long() -> None:
    """After 100 tokens a third of it is left."""
    for name in ("delta", "kimi", "mamba"):
        weights = MIXERS[name].weights(WIDTH)
        kept = torch.exp(
            -torch.tensor(weights["A_log"].initial).exp() * F.softplus(torch.tensor(weights["dt_bias"].initial))
        )
        assert float(kept**100) == pytest.approx(1 / 2.718, rel=0.02)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (GatedDeltaNet, {"k_heads": 3}, "3 key heads cannot serve 4 value heads evenly"),
        (Mamba2, {"groups": 3}, "4 heads cannot share 3 groups evenly"),
        (Mamba2, {"multipliers": (1.0, 2.0)}, "multipliers are five"),
        (KimiDelta, {"heads": 0}, "KimiDelta.heads must be a positive integer, got 0"),
    ],
)
def test_what_cannot_be_is_refused(kind: type[spec.Spec], fields: dict[str, Any], message: str) -> None:
    (example,) = [mixer for name, mixer in MIXERS.items() if isinstance(mixer, kind) and "without" not in name]
    with pytest.raises(ValueError, match=message):
        replace(example, **fields)


# ------------------------------------------------------------------ time steps, multipliers, branches side by side


def test_time_steps_are_cut_off_in_both_forms() -> None:
    """Where transformers decodes it forgets the limits; here a token is the same either way."""
    module, x = mixer("mamba"), noise(1, 6, WIDTH)
    free = make(replace(MIXERS["mamba"], dt_limit=(0.0, None)), WIDTH)
    free.load_state_dict(module.state_dict())
    free.path = "mixer"
    state, free_state = empty_state(module, 1), empty_state(free, 1)
    limited = torch.cat([run(module, token, state) for token in x.split(1, 1)], 1)
    unlimited = torch.cat([run(free, token, free_state) for token in x.split(1, 1)], 1)
    assert_close((limited,), (run(module, x),), 1e-5)
    assert float((limited - unlimited).abs().max()) > 1e-2


def test_multipliers_stand_for_scaled_rows_of_the_projection() -> None:
    module, x = mixer("mamba"), noise(2, 20, WIDTH)
    plain = make(replace(MIXERS["mamba"], multipliers=None), WIDTH)
    plain.load_state_dict(module.state_dict())
    plain.path = "mixer"
    factors = torch.cat(
        [torch.full((n,), f) for n, f in zip((24, 24, 18, 18, 4), module.spec.multipliers, strict=True)]
    )
    with torch.no_grad():
        plain.in_proj.weight.mul_(factors[:, None])
        plain.in_proj.bias.mul_(factors)
    assert_close((run(plain, x),), (run(module, x),), 1e-5)


def test_branches_side_by_side_see_one_input_and_add_up() -> None:
    norm = spec.RMSNorm(eps=1e-4)
    one = spec.Branch(name="one", pre=spec.Scale(factor=3.0), body=MIXERS["short"], scale=0.5)
    two = spec.Branch(name="two", pre=norm, body=spec.GatedMLP(dim=7, act="silu", gate_scale=1.4), post=norm)
    module = make(spec.Parallel(branches=(one, two)), WIDTH)
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(noise(*parameter.shape, seed=i))
    x = noise(2, 9, WIDTH)
    call = whole_call(NEEDS, x, x.dtype)
    with torch.no_grad():
        first = 0.5 * module.one.body(3.0 * x, call)
        mlp = module.two.body
        inner = module.two.pre(x)
        second = module.two.post(mlp.down(F.silu(1.4 * mlp.gate(inner)) * mlp.up(inner)))
        assert_close((module(x, call),), (first + second,), 1e-6)
    assert {name.partition(".")[0] for name, _ in module.named_parameters()} == {"one", "two"}
    assert spec.Parallel(branches=(one, two)).mixes


# ------------------------------------------------------------------ whole models


RECURRENT = (
    "qwen3_next",
    "qwen3_5",
    "kimi_linear",
    "nemotron_h",
    "mamba2",
    "falcon_h1",
    "granite",
    "olmo_hybrid",
    "lfm2",
)
MODELS = [name for name in TEXT if name.startswith(RECURRENT) and not name.startswith("granite3")]  # Granite 3 is dense


@pytest.mark.parametrize("case", MODELS)
@torch.no_grad()
def test_snapshots_bring_a_model_back(case: str) -> None:
    """A recurrent state can return to where it was kept, and to nothing."""
    model: Decoder = vt.build(CASES[case], seed=3)
    ids = torch.randint(model.spec.embedding.vocab, (2, 20), generator=torch.Generator().manual_seed(0))
    expected = model(ids)
    state = model.new_state(2, 20)
    model(ids[:, :9], state)
    state.snapshot()
    model(ids[:, 9:15], state)
    assert state.reach(12) == 9
    state.rewind(9)
    assert_close((model(ids[:, 9:], state),), (expected[:, 9:],), 2e-5)
    state.rewind(0)
    assert_close((model(ids, state),), (expected,), 2e-5)


def layer_kinds(arch: spec.Decoder) -> str:
    """A letter for what each layer's first branch is."""
    letters = {"Attention": "a", "LatentAttention": "a", "MoE": "e", "MLP": "m"}
    return "".join(letters.get(type(layer.branches[0].body).__name__, "r") for layer in arch.layers)


def test_layers_are_where_the_configs_say() -> None:
    assert layer_kinds(vt.architecture("qwen3-next-80b-a3b")) == "rrra" * 12
    assert layer_kinds(vt.architecture("qwen3.5-27b")) == "rrra" * 16
    assert layer_kinds(vt.architecture("kimi-linear-48b-a3b")) == "rrra" * 6 + "rra"
    nano = layer_kinds(vt.architecture("nemotron-3-nano-30b-a3b"))
    assert (nano[:9], len(nano), nano.count("r"), nano.count("e"), nano.count("a")) == ("rerera" + "ere", 52, 23, 23, 6)
    assert layer_kinds(vt.architecture(CASES["nemotron_h"])) == "rer" + "a" + "em" + "am" + "rere"
    assert layer_kinds(vt.architecture(CASES["lfm2_biases"])) == "arra"
    assert layer_kinds(vt.architecture(CASES["kimi_linear_implied"])) == "rrrra"


def test_the_hubs_layer_lists_of_kimi_are_counted_from_one() -> None:
    hub = CASES["kimi_linear"]
    linear = hub["linear_attn_config"]
    written = {key: value for key, value in hub.items() if key not in ("linear_attn_config", "first_k_dense_replace")}
    kinds = ["full_attention" if i + 1 in linear["full_attn_layers"] else "linear_attention" for i in range(6)]
    written |= {"layer_types": kinds, "mlp_layer_types": ["dense"] + ["sparse"] * 5}
    written |= {"linear_head_dim": 8, "linear_num_heads": 2, "linear_conv_kernel_dim": 4}
    assert vt.architecture(written) == vt.architecture(hub)


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("kimi_linear", {"num_hidden_layers": 7}, "linear_attn_config must list each of the layers 1 to 7 once"),
        ("kimi_linear", {"mla_use_nope": False}, "mla_use_nope False is not supported"),
        ("kimi_linear_pattern", {"layer_types": ["conv"] * 4}, "layer_types: 'conv' is not supported"),
        (
            "nemotron_h",
            {"hybrid_override_pattern": "MEX"},
            r"hybrid_override_pattern must be made of M \* E -, got 'MEX'",
        ),
        ("nemotron_h", {"hybrid_override_pattern": None}, "a decoder needs at least one layer"),
        ("nemotron_h", {"sliding_window": 7}, "sliding_window 7 is not supported"),
        ("mamba2", {"num_heads": 5}, "num_heads 5 of head_dim 12"),
        ("mamba2", {"time_step_limit": [0.0, "much"]}, "time_step_limit must be two numbers"),
        ("mamba2", {"time_step_limit": [0.0]}, "time_step_limit must be a list of 2"),
        ("falcon_h1", {"ssm_multipliers": [1.0]}, "ssm_multipliers must be 5 numbers"),
        ("falcon_h1", {"mamba_n_heads": 5}, "mamba_n_heads 5 of mamba_d_head 10 do not make up the 54 inner channels"),
        ("granite", {"normalization_function": "layernorm"}, "normalization_function 'layernorm' is not supported"),
        ("qwen3_5", {"attn_output_gate": False}, "attn_output_gate False is not supported"),
        ("qwen3_next", {"linear_num_value_heads": 3}, "2 key heads cannot serve 3 value heads evenly"),
    ],
)
def test_configs_that_cannot_be_followed_are_refused_in_one_line(
    case: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(vt.InputError, match=message) as error:
        vt.architecture(CASES[case] | changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("limit", [float("inf"), "inf", "Infinity", {"__float__": "Infinity"}, 1e308])
def test_no_limit_is_written_in_many_ways(limit: Any) -> None:
    arch = vt.architecture(CASES["mamba2"] | {"time_step_limit": [0.5, limit]})
    assert arch.layers[0].branches[0].body.dt_limit == (0.5, None)
    assert arch == vt.architecture(json.loads(json.dumps(CASES["mamba2"] | {"time_step_limit": [0.5, limit]})))


def test_the_memory_keeps_the_dtype_that_the_architecture_fixes() -> None:
    """Nemotron and Qwen3.5 say float32; elsewhere it is the model's."""
    for name, fixed in (("nemotron-3-nano-30b-a3b", 4), ("qwen3.5-27b", 4), ("qwen3-next-80b-a3b", 2)):
        arch = vt.architecture(name)
        states = [
            state
            for layer in arch.layers
            for branch in layer.branches
            for state in branch.body.state().values()
            if isinstance(state, spec.Fixed)
        ]
        wanted = sum(entry.elements(1) * (fixed if len(entry.shape) == 3 else 2) for entry in states)
        cost = vt.cost(arch, context=1024, dtype="bf16").state
        assert cost.bytes == wanted + 1024 * cost.bytes_per_token


def test_what_only_images_change_changes_nothing() -> None:
    config = CASES["qwen3_5"]
    rope = {key: value for key, value in config["rope_parameters"].items() if not key.startswith("mrope")}
    plain, seeing = vt.architecture(config | {"rope_parameters": rope}), vt.architecture(config)
    assert plain != seeing
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        torch.testing.assert_close(vt.build(plain, seed=2)(ids), vt.build(seeing, seed=2)(ids))


# Parameters of what transformers' configuration classes describe when nothing is said, on the meta device.
DEFAULTS = {
    "FalconH1Config": 8_514_961_408,
    "GraniteMoeHybridConfig": 38_601_064_448,
    "OlmoHybridConfig": 7_430_870_688,
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_configs_have_the_recorded_parameters(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, name)().to_dict()
    assert vt.cost(vt.architecture(config), context=1).parameters.total == DEFAULTS[name]


# ------------------------------------------------------------------ gradients of a whole layer


def grown(module: nn.Module) -> Iterator[tuple[str, float]]:
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        yield name, float(parameter.grad.abs().max())


@BY_MIXER
def test_every_weight_of_a_layer_learns(name: str) -> None:
    module = mixer(name).train()
    x = noise(2, CHUNK + 9, WIDTH).requires_grad_()
    module(x, whole_call(NEEDS, x, x.dtype)).square().sum().backward()
    assert all(largest > 0 for _, largest in grown(module))
    fast = dict(grown(module)), x.grad
    module.zero_grad()
    x.grad = None
    with naive():
        module(x, whole_call(NEEDS, x, x.dtype)).square().sum().backward()
    for (_, a), (_, b) in zip(sorted(fast[0].items()), sorted(grown(module)), strict=True):
        assert a == pytest.approx(b, rel=1e-3)
    assert_close((fast[1],), (x.grad,), 1e-4)


def test_the_lengths_cross_a_chunk_and_leave_a_rest() -> None:
    """The tests above are of no use if no sequence is longer than a chunk, or all are multiples of one."""
    assert any(n > 2 * CHUNK for n in LENGTHS)
    assert {n % CHUNK == 0 for n in LENGTHS} == {True, False}
    assert all(a < b for a, b in pairwise(LENGTHS))
