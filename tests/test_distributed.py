"""Two processes on gloo equal one: fully sharded data parallel, and tensor parallel by the plan of `sharding/`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import cases
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.nn import functional as F

import vitruvius as vt
from vitruvius.nn import Decoder
from vitruvius.nn.decoder import ENTRANCES
from vitruvius.nn.model import assign, skeleton, weights_of
from vitruvius.sharding import Layout, Placement, Replicate, plan

SLOW = pytest.mark.slow
CASES = ["llama_linear", "qwen3_moe", "deepseek_v3", "qwen3_next", "gemma3"]  # the first and the last have tied weights
BY_CASE = pytest.mark.parametrize("case", [CASES[0], *(pytest.param(case, marks=SLOW) for case in CASES[1:])])


def model_of(case: str) -> Decoder:
    """A model of that case in which everything is random."""
    arch = vt.architecture(cases.CASES[case])
    model, generator = skeleton(arch), torch.Generator().manual_seed(1)
    for name, (weight, shape) in weights_of(arch).items():
        noise = torch.randn(shape, generator=generator)
        value = 1.3 / shape[-1] ** 0.5 * noise if weight.initial is None else weight.initial + 0.3 * noise
        assign(model, name, value)
    return model


def loss_of(model: Decoder, ids: Tensor) -> Tensor:
    return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


def ids_of(model: Decoder) -> Tensor:
    return torch.randint(model.spec.embedding.vocab, (2, 13), generator=torch.Generator().manual_seed(2))


def one_process(model: Decoder) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of both rows, and its gradients."""
    loss = loss_of(model, ids_of(model))
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def entered(rank: int, folder: Path, work: Any, case: str) -> None:
    """Runs `work` as one of two processes."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=30))
    work(rank, case)
    dist.destroy_process_group()


def run(folder: Path, work: Any, case: str) -> None:
    torch.multiprocessing.spawn(entered, (folder, work, case), nprocs=2)


def sharded_data(rank: int, case: str) -> None:
    model = model_of(case)
    ids = ids_of(model)
    loss, grads = one_process(model)
    with torch.no_grad():
        logits = model(ids)
    model.zero_grad()
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for name in ENTRANCES:
        register_fsdp_forward_method(model, name)
    mine = loss_of(model, ids[rank : rank + 1])
    mine.backward()
    dist.all_reduce(mine := mine.detach())
    torch.testing.assert_close(mine / 2, loss, atol=1e-5, rtol=1e-5)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name not in grads), name
        if parameter.grad is not None:
            got = parameter.grad.full_tensor()
            torch.testing.assert_close(got, grads[name], atol=2e-5, rtol=1e-3, msg=lambda text, n=name: f"{n}: {text}")
    assert isinstance(model, FSDPModule)
    sequence = model.sequence(20)  # other ways in than forward find the weights too
    (first,) = model.step([(sequence, ids[0, :9], "all")])
    (rest,) = model.step([(sequence, ids[0, 9:], "all")])
    torch.testing.assert_close(torch.cat((first, rest)), logits[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.outputs(ids).logits, logits, atol=1e-4, rtol=1e-4)


@BY_CASE
def test_fully_sharded_data_parallel_equals_one_process(case: str, tmp_path: Path) -> None:
    run(tmp_path, sharded_data, case)


# ------------------------------------------------------------------ tensor parallel


class Summed(torch.autograd.Function):
    """The sum over all processes. Each has its own copy of the loss, so its gradient is a sum too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        dist.all_reduce(x := x.clone())
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        dist.all_reduce(grad := grad.clone())
        return grad


def cut(whole: Tensor, placement: Placement, rank: int) -> Tensor:
    """What one of two processes holds: its half of each segment, or all of one that is copied."""
    if isinstance(placement, Replicate):
        return whole
    parts = whole.split([size for size, _ in placement.segments], placement.dim)
    halves = [
        part if n == 1 else part.chunk(2, placement.dim)[rank]
        for part, (_, n) in zip(parts, placement.segments, strict=True)
    ]
    return torch.cat(halves, placement.dim)


def shared_out(model: Decoder, rank: int) -> dict[str, Placement]:
    """Cuts the model's weights in place as the plan says, and sums what is partial. The vocabulary stays whole."""
    planned = plan(model.spec, Layout(tensor=2))
    assert not planned.refusals
    whole = ("embedding", "head")
    lies = {w.name: Replicate() if w.name.startswith(whole) else w.placements["tensor"] for w in planned.weights}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        assign(model, name, cut(tensor.detach(), lies[name], rank).clone())
    for place in planned.modules:
        if place.output != "partial" or place.name.startswith(whole):
            continue
        module = model.get_submodule(place.name)
        if getattr(module, "bias", None) is not None and rank:
            module.bias.data.zero_()  # which is added once, so its gradient is whole
        module.register_forward_hook(lambda module, inputs, y: Summed.apply(y))
    return lies


def tensor_parallel(rank: int, case: str) -> None:
    model = model_of(case)
    ids = ids_of(model)
    loss, grads = one_process(model)
    model.zero_grad()
    with torch.no_grad():
        logits = model(ids)
    lies = shared_out(model, rank)
    mine = loss_of(model, ids)
    torch.testing.assert_close(mine.detach(), loss, atol=1e-5, rtol=1e-5)
    (mine / 2).backward()  # of two equal losses the half each
    for name, parameter in model.named_parameters():
        if name not in grads:
            continue
        grad, placement = parameter.grad, lies[name]
        assert grad is not None, name
        path, _, leaf = name.rpartition(".")
        if isinstance(placement, Replicate) and not (leaf == "bias" and model.get_submodule(path)._forward_hooks):
            dist.all_reduce(grad)
        wanted = cut(grads[name], placement, rank)
        torch.testing.assert_close(grad, wanted, atol=2e-5, rtol=1e-3, msg=lambda text, n=name: f"{n}: {text}")
    with torch.no_grad():
        state = model.new_state(2, 20) if case == "deepseek_v3" else None  # of latents every process has all
        parts = [model(new, state) for new in ids.split((9, 1, 1, 1, 1), 1)] if state else [model(ids)]
    torch.testing.assert_close(torch.cat(parts, 1), logits, atol=1e-4, rtol=1e-4)


@BY_CASE
def test_tensor_parallel_by_the_plan_equals_one_process(case: str, tmp_path: Path) -> None:
    run(tmp_path, tensor_parallel, case)
