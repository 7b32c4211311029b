"""Experts that are spread over devices: rows go to the device that holds their expert, and what it makes of them comes
back (GShard, arXiv 2006.16668)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as funcol
from torch import Tensor

from ...nn.ops import Groups
from .reading import summed


class Spread:
    """What experts do of which this device holds its share; it stands for the `forward` of their module.

    Args:
        experts: what its own do, the module's `forward` before.
        group: the devices that they are spread over, in the order of the experts.
        sharing: devices that call with the same rows (a tensor group): each sends its share of them.
    """

    def __init__(
        self, experts: Callable[..., Tensor], group: dist.ProcessGroup, sharing: dist.ProcessGroup | None
    ) -> None:
        self.experts, self.group, self.sharing = experts, group, sharing

    def __call__(self, x: Tensor, groups: Groups) -> Tensor:
        """x (rows, W), grouped by expert, whose rows they are -> (rows, W)."""
        counts = torch.diff(groups.ends, prepend=groups.ends.new_zeros(1)).long()  # (E,)
        if self.sharing is None:
            return self._sent(x, counts)
        rank, size = dist.get_rank(self.sharing), self.sharing.size()
        mine = torch.arange(rank, len(x), size, device=x.device)
        experts = torch.searchsorted(groups.ends, mine.int(), right=True)
        y = self._sent(x[mine], experts.bincount(minlength=len(counts)))
        return summed(torch.zeros_like(x).index_copy(0, mine, y), self.sharing)

    def _sent(self, x: Tensor, counts: Tensor) -> Tensor:
        """Rows grouped by expert, so many of each -> what their experts make of them."""
        devices = self.group.size()
        given = counts.view(devices, -1)  # (device, its experts)
        taken = torch.empty_like(given)
        dist.all_to_all_single(taken, given.contiguous(), group=self.group)
        out, into = given.sum(1).tolist(), taken.sum(1).tolist()
        rows = funcol.all_to_all_single_autograd(x, into, out, self.group)
        held = torch.arange(taken.shape[1], device=x.device).repeat(devices)
        expert = held.repeat_interleave(taken.flatten())  # of each row that has come, device by device
        order = expert.argsort(stable=True)
        y = self.experts(rows[order], Groups.of(expert[order], taken.shape[1]))
        back = torch.empty_like(y).index_copy(0, order, y)
        return funcol.all_to_all_single_autograd(back, out, into, self.group)
