"""Linear layers of experts, over rows that are grouped by expert."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor | None, groups: list[tuple[int, int, int]]) -> Tensor:
    """Each row through its expert's layer; only the experts that have rows are read.

    Args:
        x: (rows, in), grouped by expert.
        weight: (E, out, in). bias: (E, out) or None.
        groups: (expert, first row, last row + 1), in the order of the rows.

    Returns (rows, out).
    """
    parts = [F.linear(x[start:stop], weight[e], None if bias is None else bias[e]) for e, start, stop in groups]
    return torch.cat(parts)
