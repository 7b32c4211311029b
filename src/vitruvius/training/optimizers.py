"""Optimisers: AdamW, and Muon for matrices with AdamW for the rest.

What a weight is, the spec says: matrices between the embedding and the head are Muon's (the same that `cost` counts),
tables, the head and all vectors AdamW's; matrices and tables decay, norms, biases and scalars do not. Experts that are
stacked in one tensor are as many matrices.

`torch.optim.Muon` takes two-dimensional tensors only, knows no sharded ones, and iterates in bfloat16, which is up to
50 times slower than float32 on processors without instructions for it (torch 2.13: 123 s against 2.4 s a step for 40
matrices of 512 × 512 on an EPYC with AVX2, 2026-11). So the iteration is written here, in the dtype that this machine
multiplies faster, and tested against it. AdamW is PyTorch's own, fused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from math import sqrt
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.optim import Optimizer

from .. import spec
from ..errors import InputError
from ..nn.model import weights_of

NAMES = ("adamw", "muon")
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration: Jordan 2024, kellerjordan.github.io/posts/muon
ITERATIONS = 5
WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")  # what compiled and checkpointed modules put into names


@dataclass(frozen=True)
class Treatment:
    """How a parameter is trained.

    Args:
        muon: whether as a matrix, by Muon.
        decays: whether it is pulled to zero.
        rate: factor of the learning rate.
    """

    muon: bool
    decays: bool
    rate: float = 1.0


def build(
    model: nn.Module,
    name: str,
    lr: float,
    weight_decay: float = 0.1,
    *,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    momentum: float = 0.95,
    tuned_at: spec.Decoder | None = None,
) -> Optimizer:
    """An optimiser of all that wants gradients in `model`.

    Args:
        name: "adamw" or "muon". MuonClip, which also clips queries and keys (Kimi K2, arXiv 2507.20534), is not there.
        lr: of both kinds. Muon's updates are scaled to AdamW's usual size (0.2 · √max(out, in), Liu et al. 2025, arXiv
            2502.16982, section 2.2), so that one rate and one decay serve for both.
        betas, eps: AdamW's. momentum: Muon's.
        tuned_at: the same architecture at the width at which `lr` was found; see `transfer`.

    Raises InputError for values that cannot be, and for a model in which nothing is trained.
    """
    if name not in NAMES:
        raise InputError(f"optimizer {name!r} is not known: it is one of {', '.join(NAMES)}")
    if not lr > 0 or not weight_decay >= 0:
        raise InputError(f"lr must be above 0 and weight_decay at least 0, got {lr!r} and {weight_decay!r}")
    groups: dict[tuple[Treatment, DeviceMesh | None], list[nn.Parameter]] = {}  # of one mesh: fused kernels ask for it
    treated = treatments(model, name != "adamw", tuned_at)
    for path, parameter in model.named_parameters():
        if parameter.requires_grad:
            mesh = parameter.device_mesh if isinstance(parameter, DTensor) else None
            groups.setdefault((treated[path], mesh), []).append(parameter)
    if not groups:
        raise InputError("nothing in the model is trained: no parameter wants a gradient")
    listed = [
        {
            "params": parameters,
            "lr": lr * how.rate,
            "weight_decay": weight_decay if how.decays else 0.0,
            "muon": how.muon,
        }
        for (how, _), parameters in groups.items()
    ]
    if name == "adamw":
        return torch.optim.AdamW(listed, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)
    return Muon(listed, lr, betas, eps, momentum)


def treatments(model: nn.Module, muon: bool, tuned_at: spec.Decoder | None = None) -> dict[str, Treatment]:
    """Name of each parameter -> how it is trained. What the spec does not know (adapters) is AdamW's; there matrices
    decay."""
    arch: Any = model.spec
    known = weights_of(arch)
    rates = transfer(arch, tuned_at, muon) if tuned_at is not None else {}
    found = {}
    for path, parameter in model.named_parameters():
        name = plain_name(path)
        if name in known:
            weight, _ = known[name]
            by_muon = muon and is_inner_matrix(name, weight)
            found[path] = Treatment(by_muon, len(weight.dimensions) > 1, rates.get(name, 1.0))
        else:
            found[path] = Treatment(False, parameter.ndim > 1)
    return found


def plain_name(path: str) -> str:
    """A parameter's canonical name."""
    for wrapper in WRAPPERS:
        path = f"{path}.".replace(wrapper, "").removesuffix(".")
    return path


def is_inner_matrix(name: str, weight: spec.Weight) -> bool:
    """Whether it is a matrix between the embedding and the head."""
    ends = any(axis.cut == "vocabulary" for dimension in weight.dimensions for axis in dimension)
    head = name.rpartition(".")[0].endswith("head")  # a classifier's, too
    return weight.role == "matmul" and len(weight.dimensions) == 2 and not ends and not head


def transfer(arch: spec.Decoder, tuned_at: spec.Decoder, muon: bool = False) -> dict[str, float]:
    """Weight -> the factor by which the best learning rate changes from the width of `tuned_at` to that of `arch`.

    AdamW's goes down as a matrix reads more channels, fan_in / fan_in′, and stays for tables and vectors (Yang et al.
    2022, μP, arXiv 2203.03466, table 3). Muon's is such that an update's spectral norm goes with √(fan_out / fan_in)
    (Yang et al. 2023, arXiv 2310.17813). An axis that has not grown (a head's channels, a latent) counts as it is.

    Raises InputError where the two do not have the same kinds of layers.
    """
    small = {_layerless(name): weight for name, (weight, _) in weights_of(tuned_at).items()}
    factors = {}
    for name, (weight, _) in weights_of(arch).items():
        if weight.role != "matmul" or len(weight.dimensions) != 2:
            continue
        there = small.get(_layerless(name))
        if there is None or len(there.dimensions) != 2:
            raise InputError(
                f"learning rates cannot be carried over from {tuned_at.name}: it has no weight like {name}"
            )
        (out, into), (small_out, small_into) = weight.shape, there.shape
        if muon and is_inner_matrix(name, weight):
            factors[name] = sqrt(out / into * small_into / small_out) * sqrt(
                max(small_out, small_into) / max(out, into)
            )
        else:
            factors[name] = small_into / into
    return factors


def _layerless(name: str) -> str:
    """Of all layers the same: which of two architectures has more of them does not matter."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


# ------------------------------------------------------------------ Muon


class Muon(Optimizer):
    """Muon for groups with `muon`, PyTorch's AdamW for the others, as one optimiser with one state.

    Args:
        groups: parameters, each with `lr`, `weight_decay` and `muon`.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        momentum: float = 0.95,
        iterations: int = ITERATIONS,
    ) -> None:
        groups = list(groups)
        self.adamw = torch.optim.AdamW([nn.Parameter(torch.empty(0))], lr=lr, betas=betas, eps=eps, fused=True)
        adamw = {key: value for key, value in self.adamw.param_groups[0].items() if key != "params"}
        super().__init__(groups, adamw | {"muon": False, "momentum": momentum, "iterations": iterations})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. A group's matrices may be stacked (…, out, in), and sharded as DTensors."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["muon"]:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._step(parameter, group)
        if rest := [group for group in self.param_groups if not group["muon"]]:
            self.adamw.param_groups, self.adamw.state = rest, self.state
            self.adamw.step()
        return loss

    def _step(self, parameter: Tensor, group: dict[str, Any]) -> None:
        grad, state = parameter.grad, self.state[parameter]
        assert grad is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        average = state["momentum_buffer"]
        average.lerp_(grad, 1 - group["momentum"])
        update = orthogonal(grad.lerp(average, group["momentum"]), group["iterations"])  # Nesterov's look ahead
        out, into = parameter.shape[-2:]
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(update, alpha=group["lr"] * 0.2 * sqrt(max(out, into)))


def orthogonal(update: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Each matrix of `update` (…, out, in) with its singular values near 1; in its own dtype, and laid out as it is.

    Of a sharded tensor, matrices that lie whole on a device stay there; others are gathered.
    """
    if not isinstance(update, DTensor):
        return newton_schulz(update, iterations, fast_dtype(update.device.type)).to(update.dtype)
    stacked = update.ndim - 2
    mesh, placements = update.device_mesh, update.placements
    if any(isinstance(each, Shard) and each.dim >= stacked for each in placements) or any(
        each.is_partial() for each in placements
    ):
        whole = orthogonal(update.full_tensor(), iterations)
        return distribute_tensor(
            whole, mesh, placements, src_data_rank=None
        )  # each takes its own part, nothing is sent
    own = orthogonal(update.to_local(), iterations)
    return DTensor.from_local(own, mesh, placements, run_check=False, shape=update.shape, stride=update.stride())


def newton_schulz(x: Tensor, iterations: int, dtype: torch.dtype) -> Tensor:
    """X ← aX + (b XXᵀ + c (XXᵀ)²) X, from X / |X| on, of each matrix (…, out, in): U S′ Vᵀ with S′ in about [0.7, 1.2].

    In the smaller of the two dimensions, in `dtype`."""
    a, b, c = COEFFICIENTS
    shape, tall = x.shape, x.shape[-2] > x.shape[-1]
    x = x.reshape(-1, *shape[-2:]).to(dtype)
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).reshape(shape)


@cache
def fast_dtype(device: str) -> torch.dtype:
    """Whether that kind of device multiplies bfloat16 or float32 matrices faster; measured once."""

    def seconds(dtype: torch.dtype) -> float:
        x = torch.ones(256, 256, dtype=dtype, device=device)
        times = []
        for _ in range(4):
            begin = perf_counter()
            float((x @ x.mT @ x)[0, 0])  # which waits for the device
            times.append(perf_counter() - begin)
        return min(times)

    return torch.bfloat16 if seconds(torch.bfloat16) < seconds(torch.float32) else torch.float32
