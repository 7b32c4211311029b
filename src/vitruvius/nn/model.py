"""Building a model from its spec."""

from __future__ import annotations

import os
from math import prod
from typing import overload

import torch

from .. import spec
from ..errors import InputError
from . import attention, feedforward, layer, mtp, norm, position, recurrent, stream  # noqa: F401  (they register their twins)
from .decoder import Decoder
from .initial import Initial
from .towers import Model
from .twin import make

DTYPES = {
    "float32": torch.float32,
    "f32": torch.float32,
    "float16": torch.float16,
    "f16": torch.float16,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
}


def dtype_of(name: str | torch.dtype) -> torch.dtype:
    """A floating-point dtype by name. Raises InputError for others."""
    if isinstance(name, torch.dtype):
        return name
    if name not in DTYPES:
        raise InputError(f"dtype {name!r} is not one of {', '.join(DTYPES)}")
    return DTYPES[name]


@overload
def skeleton(arch: spec.Decoder) -> Decoder: ...
@overload
def skeleton(arch: spec.Model) -> Model: ...
def skeleton(arch: spec.Decoder | spec.Model) -> Decoder | Model:
    """The model without memory for its weights, on PyTorch's meta device: every name and shape, for any size."""
    with torch.device("meta"):
        model = make(arch, arch.width)
    assert isinstance(model, Decoder | Model)
    return model


def weights_of(arch: spec.Decoder | spec.Model) -> dict[str, tuple[spec.Weight, tuple[int, ...]]]:
    """Canonical name -> (weight, complete shape) of everything that the model is built with."""
    nodes = spec.walk(arch, arch.width)
    return {name: (weight, shape) for node in nodes for name, weight, shape in node.weights()}


def check_device(device: str) -> None:
    """Raises InputError for a device that is not there."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: not compiled with CUDA
        raise InputError(f"the device {device!r} cannot be used: {str(error).splitlines()[0]}") from None


def check_memory(arch: spec.Decoder | spec.Model, dtype: torch.dtype, device: str) -> None:
    """Raises InputError if the weights cannot fit, before anything is allocated."""
    needed = sum(prod(shape) for _, shape in weights_of(arch).values()) * dtype.itemsize
    check_device(device)
    if torch.device(device).type != "cpu":
        return  # the device's own allocator says so
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise InputError(
            f"{arch.name} needs {needed / 2**30:,.1f} GiB for its weights in {str(dtype).removeprefix('torch.')}, "
            f"and this machine has {there / 2**30:,.1f} GiB"
        )


@overload
def build(
    arch: spec.Decoder, seed: int = ..., dtype: str | torch.dtype = ..., device: str = ..., initial: Initial = ...
) -> Decoder: ...
@overload
def build(
    arch: spec.Model, seed: int = ..., dtype: str | torch.dtype = ..., device: str = ..., initial: Initial = ...
) -> Model: ...
def build(
    arch: spec.Decoder | spec.Model,
    seed: int = 0,
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    initial: Initial = Initial(),  # noqa: B008  (it cannot change)
) -> Decoder | Model:
    """A model with random weights: matrices normal, norms at one, biases at zero, decays as their papers say.

    Args:
        arch: the architecture (or anything that `vitruvius.architecture` takes, through `vitruvius.build`).
        seed: of the random numbers, which are the same on every device.
        initial: what its family says of the matrices.

    Raises InputError if the weights would not fit into memory.
    """
    kind = dtype_of(dtype)
    check_memory(arch, kind, device)
    model = skeleton(arch)
    generator = torch.Generator().manual_seed(seed)
    layers = len((arch.decoder if isinstance(arch, spec.Model) else arch).layers)
    for name, (weight, shape) in weights_of(arch).items():
        value = initial.draw(weight, shape, layers, generator)
        assign(model, name, value.to(device, own_dtype(weight, kind)))
    return model


def own_dtype(weight: spec.Weight, dtype: torch.dtype) -> torch.dtype:
    """The dtype that a weight has in a model of `dtype`."""
    return getattr(torch, weight.dtype) if weight.dtype else dtype


def assign(model: torch.nn.Module, name: str, value: torch.Tensor) -> None:
    """Gives the parameter or buffer of that canonical name its value."""
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    if leaf in owner._buffers:
        owner._buffers[leaf] = value
    else:
        owner._parameters[leaf] = torch.nn.Parameter(value, requires_grad=value.is_floating_point())
