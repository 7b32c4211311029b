"""What a run computes in: bf16 where this device multiplies matrices faster in it.

Processors differ by a factor of a hundred: bf16 is 50 times slower than float32 on some, twice as fast on others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

ROWS, MOST = 1024, 2048  # of the products that are measured
FASTER = 1.2  # so much faster bf16 must be, as autocast converts the weights in every pass


Chosen = Literal["f32", "bf16"]


def chosen(wanted: Literal["auto", "f32", "bf16"], width: int, device: torch.device) -> Chosen:
    """ "f32" or "bf16": what is wanted, or for "auto" what a product of matrices of that width is faster in here."""
    if wanted != "auto":
        return wanted
    width = min(width, MOST)
    seconds = {dtype: _seconds(width, device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    return "bf16" if seconds[torch.bfloat16] * FASTER < seconds[torch.float32] else "f32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """In which the forward pass runs."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def _seconds(width: int, device: torch.device, dtype: torch.dtype) -> float:
    """Of the fastest of three steps of a matrix: forward, and backward to both inputs."""
    x = torch.randn(ROWS, width, device=device, dtype=dtype, requires_grad=True)
    weight = torch.randn(width, width, device=device, dtype=dtype, requires_grad=True)
    given = torch.randn(ROWS, width, device=device, dtype=dtype)

    def run() -> None:
        torch.autograd.grad(x @ weight.T, (x, weight), given)

    return min(_timed(run, device) for _ in range(3))


def _timed(run: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
