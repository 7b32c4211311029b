"""The line `parallel: {data: 2, tensor: 2, expert: 4}`, and the mesh of devices that it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from ...errors import InputError
from ...sharding import Layout, whole


@dataclass(frozen=True)
class ParallelLayout:
    """How many devices work in which way; a device is in one group of each kind.

    Args:
        replicate: copies of everything below, each with its share of the batch (HSDP).
        data: groups that share the batch, and what is kept for training (FSDP).
        tensor: devices that share each layer.
        expert: devices that whole experts are spread over, of those above; it adds none.
    """

    replicate: int = 1
    data: int = 1
    tensor: int = 1
    expert: int = 1

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            whole(f"parallel.{name}", getattr(self, name))
        if (self.data * self.tensor) % self.expert:
            raise InputError(
                f"parallel.expert={self.expert} must divide the {self.data * self.tensor} devices of data × tensor"
            )

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> ParallelLayout:
        """From what a recipe says. Raises InputError for unknown words and for numbers that cannot be."""
        known = [field.name for field in fields(cls)]
        for key in line:
            if key not in known:
                near = get_close_matches(str(key), known, 1)
                raise InputError(
                    f"parallel.{key} is not known" + (f": did you mean {near[0]}?" if near else f": it has {known}")
                )
        return cls(**line)

    @property
    def devices(self) -> int:
        """How many processes that takes."""
        return self.replicate * self.data * self.tensor

    @property
    def rows(self) -> int:
        """Groups that have rows of their own."""
        return self.replicate * self.data

    @property
    def layout(self) -> Layout:
        """As `sharding` has it."""
        if self.expert > 1:
            return Layout(tensor=self.tensor, data=self.rows, experts=self.expert)
        return Layout(tensor=self.tensor, data=self.rows)

    def place(self, rank: int) -> int:
        """Which of the groups with rows of their own a process is in."""
        return rank // self.tensor


def mesh_of(parallel: ParallelLayout, device: str = "cpu") -> DeviceMesh:
    """The mesh of all processes, with a dimension for each kind that has several devices; "data" is always there.

    Raises InputError where there are more or fewer processes.
    """
    there = dist.get_world_size() if dist.is_initialized() else 1
    if there != parallel.devices:
        raise InputError(
            f"parallel asks for {parallel.devices} processes, and there are {there}: run it as "
            f"torchrun --nproc-per-node {parallel.devices}"
        )
    sizes = {"replicate": parallel.replicate, "data": parallel.data, "tensor": parallel.tensor}
    kept = {name: size for name, size in sizes.items() if size > 1 or name == "data"}
    return init_device_mesh(device, tuple(kept.values()), mesh_dim_names=tuple(kept))
