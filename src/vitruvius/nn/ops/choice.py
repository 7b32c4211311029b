"""Which form of the operations runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_naive: ContextVar[bool] = ContextVar("naive", default=False)


@contextmanager
def naive() -> Iterator[None]:
    """Within it, models run on the naive references (for tests and for counting)."""
    token = _naive.set(True)
    try:
        yield
    finally:
        _naive.reset(token)


def is_naive() -> bool:
    """Whether the naive references are asked for. In a compiled model they never run."""
    return not torch.compiler.is_compiling() and _naive.get()
