"""A model as its plan says, on a mesh of devices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor import Replicate as Copied
from torch.distributed.tensor import Shard as Cut
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ...errors import InputError
from ...nn import Decoder
from ...nn.decoder import ENTRANCES
from ...nn.feedforward import MoE
from ...nn.model import assign
from ...sharding import Placement, Replicate, Shard, ShardingPlan
from ..optimizers import plain_name
from .experts import Spread
from .reading import Reader, of_part, of_whole, part_of, read_through, summed

ENDS = ("embedding", "head")  # which stay whole among the devices of "tensor"


def parallelize(
    model: Decoder, mesh: DeviceMesh, plan: ShardingPlan, precision: MixedPrecisionPolicy | None = None
) -> Decoder:
    """Lays `model` out, in place: each process keeps its part, and forward and backward are those of one process.

    Args:
        model: the same on every process.
        mesh: dimensions "data", and where they have several devices "tensor" and "replicate" (see `mesh_of`; names may
            end in "_parallel").
        plan: of the same model and numbers of devices.
        precision: what FSDP computes and sums in.

    Weights that are cut evenly lie in parts; others (several segments in one tensor, keys that several devices share)
    and the vocabulary stay whole on the devices of "tensor", each of which uses its part. Gradients are means over
    "data" and "replicate". Raises InputError for a layout that the plan refuses.
    """
    if plan.refusals:
        raise InputError(f"{model.spec.name} cannot lie like that: {'; '.join(plan.refusals)}")
    if plan.layout.pipeline > 1 or plan.layout.context > 1:
        raise InputError("pipeline and context parallel are planned (vitruvius shard), and not run yet")
    dims = {name.removesuffix("_parallel"): name for name in mesh.mesh_dim_names or ()}
    lies = {weight.name: weight.placements for weight in plan.weights}
    spread = _spread(model, mesh, plan, mesh[dims["tensor"]] if "tensor" in dims else None)
    if "tensor" in dims:
        _tensor(
            model, mesh[dims["tensor"]], plan, {name: each.get("tensor", Replicate()) for name, each in lies.items()}
        )
    rows = tuple(dims[name] for name in ("replicate", "data") if name in dims)
    if mesh[rows].size() > 1:
        _data(model, mesh[rows], spread, precision)
    return model


# ------------------------------------------------------------------ whole experts


def _spread(
    model: Decoder, mesh: DeviceMesh, plan: ShardingPlan, tensor: DeviceMesh | None
) -> list[tuple[nn.Module, DeviceMesh]]:
    """Spreads experts. Returns their modules, each with the mesh of the devices that hold the same ones."""
    count = plan.layout.spread
    if count is None or count == 1:
        return []
    devices = DeviceMesh(mesh.device_type, mesh.mesh.view(-1, count), mesh_dim_names=("copies", "expert"))
    expert, found = devices["expert"], []
    for moe in [module for module in model.modules() if isinstance(module, MoE)]:
        for owner, readers in _owners(moe.experts):
            for name in readers:
                whole = owner._parameters[name]
                assert whole is not None
                placed = distribute_tensor(whole.detach(), expert, [Cut(0)], src_data_rank=None)
                owner._parameters[name] = nn.Parameter(placed, whole.requires_grad)
            read_through(owner, {name: of_part(expert.get_group()) for name in readers})
        spread = Spread(moe.experts.forward, expert.get_group(), tensor.get_group() if tensor else None)
        setattr(moe.experts, "forward", spread)  # noqa: B010  (a wrapper would change the names of weights)
        found.append((moe.experts, devices["copies"]))
    return found


def _owners(module: nn.Module) -> Iterator[tuple[nn.Module, list[str]]]:
    """Modules below that have weights of their own, and their names."""
    for each in module.modules():
        if names := [name for name, parameter in each._parameters.items() if parameter is not None]:
            yield each, names


# ------------------------------------------------------------------ parts of layers


def _tensor(model: Decoder, mesh: DeviceMesh, plan: ShardingPlan, lies: dict[str, Placement]) -> None:
    """Cuts weights among the devices of `mesh`, and sums what is partial."""
    group, rank, devices = mesh.get_group(), mesh.get_local_rank(), mesh.size()
    partial = {m.name for m in plan.modules if m.output == "partial" and not m.name.startswith(ENDS)}
    for full, module in [*model.named_modules()]:
        path = plain_name(full)
        readers: dict[str, Reader] = {}
        for leaf, parameter in module._parameters.items():
            if parameter is None or isinstance(parameter, DTensor):
                continue
            cut = Replicate() if path.startswith(ENDS) else lies[f"{path}.{leaf}" if path else leaf]
            plain = isinstance(cut, Shard) and cut.plain(devices)
            placement = Cut(cut.dim) if isinstance(cut, Shard) and plain else Copied()
            placed = distribute_tensor(parameter.detach(), mesh, [placement], src_data_rank=None)
            module._parameters[leaf] = nn.Parameter(placed, parameter.requires_grad)
            readers[leaf] = of_part(group) if plain else of_whole(group, cut, leaf == "bias" and path in partial)
        if readers:
            read_through(module, readers)
        for leaf, buffer in module._buffers.items():
            if buffer is not None and not isinstance(cut := lies[f"{path}.{leaf}"], Replicate):
                assign(model, f"{full}.{leaf}", part_of(buffer, cut, rank, devices).clone())
        if path in partial:
            module.register_forward_hook(lambda module, inputs, y: summed(y, group))


# ------------------------------------------------------------------ shares of what is kept


def _data(
    model: Decoder,
    mesh: DeviceMesh,
    spread: list[tuple[nn.Module, DeviceMesh]],
    precision: MixedPrecisionPolicy | None,
) -> None:
    """FSDP2 of every layer and of the rest; of spread experts among the devices that hold the same."""
    how: dict[str, Any] = {} if precision is None else {"mp_policy": precision}
    apart: set[nn.Parameter] = set()
    for module, copies in spread:
        if copies.size() > 1:
            fully_shard(module, mesh=copies, shard_placement_fn=_side(copies.size()), **how)
        else:
            apart |= set(module.parameters())
    for stack in (model.layers, model.mtp if model.spec.mtp else ()):
        for layer in stack:
            fully_shard(layer, mesh=mesh, ignored_params=apart, **how)
    fully_shard(model, mesh=mesh, ignored_params=apart, **how)
    for name in ENTRANCES:
        register_fsdp_forward_method(model, name)


def _side(devices: int) -> Any:
    """Along which dimension experts are shared out: whole ones, where they come out even."""

    def side(parameter: nn.Parameter) -> Cut:
        shape = parameter.to_local().shape if isinstance(parameter, DTensor) else parameter.shape
        even = next((i for i, size in enumerate(shape) if size % devices == 0), 0)
        return Cut(even)

    return side


@torch.no_grad()
def clip_gradients(model: nn.Module, most: float) -> Tensor:
    """Scales all gradients so that their norm is at most `most`; returns the norm before, the same on all devices.
    Weights may lie on different meshes."""
    by_mesh: dict[DeviceMesh | None, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.grad is not None:
            mesh = parameter.grad.device_mesh if isinstance(parameter.grad, DTensor) else None
            by_mesh.setdefault(mesh, []).append(parameter)
    norms = []
    for parameters in by_mesh.values():
        norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        norms.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    total = torch.linalg.vector_norm(torch.stack(norms))
    for parameters in by_mesh.values():
        clip_grads_with_norm_(parameters, most, total)
    return total
