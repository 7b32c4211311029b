"""The processes of a run, which `torchrun` started, and this one's place among them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh

from ...errors import InputError
from ...nn import Decoder
from ...nn.model import assign, skeleton
from ...sharding import plan
from .apply import parallelize
from .line import ParallelLayout, mesh_of


@dataclass(frozen=True, eq=False)
class Team:
    """All processes of a run.

    Args:
        parallel: how they work together.
        mesh: of their devices.
        rank: this one's number.
        began: whether it was `join` that brought them together.
    """

    parallel: ParallelLayout
    mesh: DeviceMesh
    rank: int
    began: bool

    @classmethod
    def join(cls, line: Mapping[str, Any] | None, device: torch.device) -> Team | None:
        """This process among those that `torchrun` started; None for a run of one process.

        Raises InputError where the line and the number of processes do not fit.
        """
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if line is None:
            if started > 1:
                raise InputError(f"parallel: {started} processes were started: say how, such as {{data: {started}}}")
            return None
        parallel = ParallelLayout.of(line)
        if parallel.devices == started == 1:
            return None
        began = not dist.is_initialized() and "RANK" in os.environ
        if began:
            if device.type == "cuda":
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            dist.init_process_group("gloo" if device.type == "cpu" else None)
        return cls(parallel, mesh_of(parallel, device.type), dist.get_rank(), began)

    @property
    def leads(self) -> bool:
        """Whether it is this one that writes and speaks."""
        return self.rank == 0

    @property
    def place(self) -> int:
        """Which of the groups that have rows of their own this process is in; there are `parallel.rows`."""
        return self.parallel.place(self.rank)

    def leave(self) -> None:
        """Ends what `join` began, when all are done."""
        dist.barrier()
        if self.began:
            dist.destroy_process_group()

    @contextmanager
    def one_first(self) -> Iterator[None]:
        """What the first process has done before the others begin."""
        if not self.leads:
            dist.barrier()
        yield
        if self.leads:
            dist.barrier()

    def lay(self, model: Decoder) -> Decoder:
        """The model on all devices."""
        found = plan(model.spec, self.parallel.layout, 3 if self.parallel.rows > 1 else 0)
        return parallelize(model, self.mesh, found)

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of all processes; every one gives the same names."""
        return {name: self._sum(values[name].detach()) / self.parallel.devices for name in sorted(values)}

    def sum(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Over the groups that have rows of their own."""
        return {name: self._sum(values[name].detach()) / self.parallel.tensor for name in sorted(values)}

    def gather(self, model: Decoder) -> Decoder:
        """A plain model with all weights, on every process."""
        whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
        found = skeleton(model.spec)
        for name, value in whole.items():
            assert isinstance(value, Tensor)
            assign(found, name, value.clone())
        found.eos, found.decoder_start, found.origin = model.eos, model.decoder_start, model.origin
        return found.eval()

    @staticmethod
    def _sum(value: Tensor) -> Tensor:
        dist.all_reduce(value := value.clone())
        return value
