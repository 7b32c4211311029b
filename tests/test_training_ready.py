"""What training stands on: grouped experts, whole graphs, LoRA in every form, packed documents, sharding, memory."""

from __future__ import annotations

import copy
import weakref
from functools import cache
from typing import Any

import pytest
import torch
from cases import CASES
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import vitruvius as vt
from vitruvius.nn import Decoder
from vitruvius.nn.attention import Indexer
from vitruvius.nn.feedforward import Router
from vitruvius.nn.model import assign, skeleton, weights_of
from vitruvius.nn.ops.grouped import (
    Groups,
    fast_grouped_linear,
    grouped_linear,
    grouped_product,
    naive_grouped_linear,
)
from vitruvius.nn.twin import GroupedLinear

SLOW = pytest.mark.slow


@cache
def model_of(case: str) -> Decoder:
    """A model of that case in which everything is random."""
    arch = vt.architecture(CASES[case])
    model, generator = skeleton(arch), torch.Generator().manual_seed(1)
    for name, (weight, shape) in weights_of(arch).items():
        noise = torch.randn(shape, generator=generator)
        value = 1.3 / shape[-1] ** 0.5 * noise if weight.initial is None else weight.initial + 0.3 * noise
        assign(model, name, value)
    return model.train()


def ids_of(model: Decoder, batch: int, tokens: int) -> Tensor:
    return torch.randint(model.spec.embedding.vocab, (batch, tokens), generator=torch.Generator().manual_seed(2))


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Of every parameter that the loss reaches."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {name: grad for name, grad in zip(names, found, strict=True) if grad is not None}


def assert_same(got: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(
            got[name], tensor, atol=tolerance, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )


# ------------------------------------------------------------------ whole graphs


@pytest.mark.parametrize(
    "case",
    [
        "llama",
        "deepseek_v3",  # latent attention; sigmoid router with groups
        *(
            pytest.param(case, marks=SLOW)
            for case in (
                "qwen3_moe",
                "gemma3",
                "gemma3n",
                "gpt_oss",
                "deepseek_v32",
                "qwen3_next",
                "kimi_linear",
                "nemotron_h",
            )
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_training_compiles_to_one_graph_forward_and_backward(case: str) -> None:
    model = copy.deepcopy(model_of(case))
    ids = ids_of(model, 2, 8)
    expected = model(ids)
    wanted = gradients(model, expected.square().mean())
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")  # a graph break is an error
    logits = compiled(ids)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert_same(gradients(model, logits.square().mean()), wanted, 1e-6)


# ------------------------------------------------------------------ adapters


class Adapter(nn.Module):
    """What LoRA makes of a linear layer: y + B A x (Hu et al. 2021, arXiv 2106.09685)."""

    def __init__(self, layer: nn.Linear | GroupedLinear, generator: torch.Generator) -> None:
        super().__init__()
        self.layer = layer
        *copies, out, into = layer.weight.shape
        self.a = nn.Parameter(torch.randn(*copies, 2, into, generator=generator) * 0.3 / into**0.5)
        self.b = nn.Parameter(torch.randn(*copies, out, 2, generator=generator))

    def forward(self, x: Tensor, *groups: Any) -> Tensor:
        if groups:
            added = grouped_linear(grouped_linear(x, self.a, None, *groups), self.b, None, *groups)
        else:
            added = x @ self.a.mT @ self.b.mT
        y: Tensor = self.layer(x, *groups) + added
        return y

    @torch.no_grad()
    def merge(self) -> nn.Module:
        self.layer.weight.add_(self.b @ self.a)
        return self.layer


def replaced(model: Decoder, old: tuple[type, ...], new: Any) -> Decoder:
    """The model with what `new` makes of every module of the old types."""
    model = copy.deepcopy(model)
    for path, module in list(model.named_modules()):
        if isinstance(module, old):
            model.set_submodule(path, new(module))
    return model


@pytest.mark.parametrize(
    "case",
    [
        "llama_biases",
        "gemma3",
        "gpt_oss",
        "qwen3_moe",
        "deepseek_v2_lite",
        "deepseek_v3",
        "deepseek_v32",
        "qwen3_next",
        "kimi_linear",
        "nemotron_h_latent",
    ],
)
@torch.no_grad()
def test_adapters_on_every_matrix_equal_merged_ones_in_every_form(case: str) -> None:
    """All at once, in chunks, and token by token, where latent attention has another form."""
    generator = torch.Generator().manual_seed(3)
    tuned = replaced(model_of(case), (nn.Linear, GroupedLinear), lambda layer: Adapter(layer, generator))
    merged = replaced(tuned, (Adapter,), Adapter.merge)
    assert any(isinstance(module, Adapter) for module in tuned.modules())
    ids = ids_of(tuned, 2, 11)
    expected = merged(ids)
    assert float((model_of(case)(ids) - expected).abs().max()) > 0.05, "the adapters must do something"
    torch.testing.assert_close(tuned(ids), expected, atol=2e-4, rtol=1e-4)
    for model in (tuned, merged):
        state = model.new_state(batch=2, capacity=11)
        parts = [model(new, state) for new in ids.split([5, 3, 1, 1, 1], 1)]
        torch.testing.assert_close(torch.cat(parts, 1), expected, atol=2e-4, rtol=1e-4)


# ------------------------------------------------------------------ packed documents


@pytest.mark.parametrize(
    "case",
    [
        "gpt2",
        "llama",
        "gemma3",
        "gpt_oss",
        "llama4",
        "deepseek_v3",
        "deepseek_v32",
        "qwen3_next",
        "kimi_linear",
        "nemotron_h",
        "lfm2",
    ],
)
def test_packed_documents_equal_separate_ones(case: str) -> None:
    """Logits, and the gradients of a step; documents that come again in a row are different ones."""
    model = model_of(case)
    lengths = (9, 1, 13, 4)
    rows = ids_of(model, 2, sum(lengths))
    documents = torch.repeat_interleave(torch.tensor([7, 3, 7, 0]), torch.tensor(lengths)).expand(2, -1)
    packed = model(rows, documents=documents)
    apart = torch.cat([model(part) for part in rows.split(lengths, 1)], 1)
    torch.testing.assert_close(packed, apart, atol=1e-4, rtol=1e-4)
    weights = torch.randn(packed.shape, generator=torch.Generator().manual_seed(4)) / packed.numel()
    got, wanted = (gradients(model, (logits * weights).sum()) for logits in (packed, apart))
    assert_same(got, wanted, 1e-5)


# ------------------------------------------------------------------ memory


class Alive(TorchDispatchMode):
    """The most bytes of new tensors that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in self.known:
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self.gone, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def test_checkpointed_layers_leave_only_their_inputs_alive() -> None:
    """Twelve layers: 15.9 MB alive at once become 4.6."""
    config = CASES["llama"] | {"num_hidden_layers": 12, "hidden_size": 48, "intermediate_size": 160, "vocab_size": 64}
    model = vt.build(vt.architecture(config))
    ids = ids_of(model, 2, 128)
    peaks = []
    for _ in range(2):
        with Alive() as alive:
            model(ids).square().mean().backward()
        peaks.append(alive.peak)
        model.zero_grad()
        for i, layer in enumerate(model.layers):  # the second time
            model.layers[i] = checkpoint_wrapper(layer, preserve_rng_state=False)
    assert peaks[1] < 0.35 * peaks[0], peaks


# ------------------------------------------------------------------ what a pass yields


@pytest.mark.parametrize("case", ["qwen3_moe", "deepseek_v3", "deepseek_v32"])
def test_a_pass_yields_what_losses_of_routers_and_indexers_need(case: str) -> None:
    model = copy.deepcopy(model_of(case))
    ids = ids_of(model, 2, 30)
    seen: dict[int, Tensor] = {}
    for i, layer in enumerate(model.layers):
        for module in layer.modules():
            if isinstance(module, Router):
                module.register_forward_pre_hook(lambda module, inputs, i=i: seen.update({i: inputs[0]}))
    found = model.outputs(ids)
    torch.testing.assert_close(found.logits, model(ids))
    assert found.routing.keys() == seen.keys() != set()
    for i, routing in found.routing.items():
        (router,) = (module for module in model.layers[i].modules() if isinstance(module, Router))
        torch.testing.assert_close(routing.logits, seen[i] @ router.weight.T)
        counts = routing.experts.flatten().bincount(minlength=router.spec.experts)
        assert routing.load.tolist() == counts.tolist()
        assert float(routing.load.sum()) == ids.numel() * router.spec.active
    z_loss = sum(routing.logits.logsumexp(-1).square().mean() for routing in found.routing.values())
    reached = gradients(model, z_loss)
    assert {f"layers.{i}.mlp.body.router.weight" for i in seen} <= reached.keys()
    indexed = {
        i for i, layer in enumerate(model.layers) if any(isinstance(module, Indexer) for module in layer.modules())
    }
    assert found.index_scores.keys() == indexed
    assert (case == "deepseek_v32") == bool(indexed)
    for i, scores in found.index_scores.items():
        hidden = torch.ones(30, 30, dtype=torch.bool).triu(1)
        assert torch.equal(scores.isinf(), hidden.expand_as(scores))
        loss = scores.masked_fill(hidden, 0).square().mean()
        learns = {name for name, grad in gradients(model, loss).items() if bool(grad.abs().max() > 0)}
        assert learns == {
            name for name, _ in model.named_parameters() if name.startswith(f"layers.{i}.mixer.body.mask.")
        }


# ------------------------------------------------------------------ experts


def routed(experts: int, into: int, out: int, rows: int, dtype: torch.dtype) -> tuple[list[Tensor], Groups]:
    """Rows, matrices and biases that want gradients, and which rows are whose; some experts have none."""
    generator = torch.Generator().manual_seed(experts + rows)
    chosen = torch.randint(experts, (rows,), generator=generator).sort().values
    shapes = (rows, into), (experts, out, into), (experts, out)
    tensors = [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]
    return tensors, Groups.of(chosen[chosen != 1], experts)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("experts", "into", "out", "rows", "dtype"),
    [
        (4, 8, 12, 30, torch.float32),  # what the grouped product of PyTorch takes
        (4, 7, 5, 30, torch.float32),  # rows that are not whole 16 bytes
        (64, 8, 12, 10, torch.float32),  # fewer rows than experts
        (4, 8, 12, 30, torch.float64),
    ],
)
def test_grouped_experts_equal_a_loop_over_them(
    experts: int, into: int, out: int, rows: int, dtype: torch.dtype, bias: bool
) -> None:
    (x, weight, offsets), groups = routed(experts, into, out, rows, dtype)
    x = x[: int(groups.ends[-1])].detach().requires_grad_()
    inputs = (x, weight, offsets) if bias else (x, weight)
    target = torch.randn(len(x), out, dtype=dtype)
    results = []
    for form in (naive_grouped_linear, fast_grouped_linear):
        y = form(x, weight, offsets if bias else None, groups)
        with torch.no_grad():
            assert torch.allclose(form(x, weight, offsets if bias else None, groups), y, atol=1e-5)
        results.append([y, *torch.autograd.grad((y * target).sum(), inputs, retain_graph=True)])
        results[-1] += torch.autograd.grad(y.sum(), inputs)  # whose gradient comes in without memory of its own
    for naive, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, naive, atol=2e-5, rtol=1e-5)
        assert bool(naive.abs().max() > 0)


def test_the_operator_of_experts_keeps_its_promises_to_pytorch() -> None:
    """Its schema, its shapes without data, its autograd; FLOPs of torch's own counter; autocast."""
    (x, weight, _), groups = routed(4, 8, 12, 30, torch.float32)
    x = x[: int(groups.ends[-1])].detach().requires_grad_()
    checks = torch.library.opcheck(grouped_product, (x, weight, groups.ends))
    assert set(checks.values()) == {"SUCCESS"}
    with FlopCounterMode(display=False) as counted:
        fast_grouped_linear(x, weight, None, groups).sum().backward()
    assert counted.get_total_flops() == 3 * 2 * len(x) * 8 * 12  # forward, and back to either input
    with torch.autocast("cpu"):
        fast, naive = (form(x, weight, None, groups) for form in (fast_grouped_linear, naive_grouped_linear))
    assert fast.dtype == torch.bfloat16
    assert torch.equal(fast, naive)
