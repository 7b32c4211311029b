"""What training stands on: grouped experts, whole graphs, LoRA in every form, packed documents, sharding, memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vitruvius.nn.ops.grouped import Groups, fast_grouped_linear, grouped_product, naive_grouped_linear

# ------------------------------------------------------------------ experts


def routed(experts: int, into: int, out: int, rows: int, dtype: torch.dtype) -> tuple[list[Tensor], Groups]:
    """Rows, matrices and biases that want gradients, and which rows are whose; some experts have none."""
    generator = torch.Generator().manual_seed(experts + rows)
    chosen = torch.randint(experts, (rows,), generator=generator).sort().values
    shapes = (rows, into), (experts, out, into), (experts, out)
    tensors = [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]
    return tensors, Groups.of(chosen[chosen != 1], experts)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("experts", "into", "out", "rows", "dtype"),
    [
        (4, 8, 12, 30, torch.float32),  # what the grouped product of PyTorch takes
        (4, 7, 5, 30, torch.float32),  # rows that are not whole 16 bytes
        (64, 8, 12, 10, torch.float32),  # fewer rows than experts
        (4, 8, 12, 30, torch.float64),
    ],
)
def test_grouped_experts_equal_a_loop_over_them(
    experts: int, into: int, out: int, rows: int, dtype: torch.dtype, bias: bool
) -> None:
    (x, weight, offsets), groups = routed(experts, into, out, rows, dtype)
    x = x[: int(groups.ends[-1])].detach().requires_grad_()
    inputs = (x, weight, offsets) if bias else (x, weight)
    target = torch.randn(len(x), out, dtype=dtype)
    results = []
    for form in (naive_grouped_linear, fast_grouped_linear):
        y = form(x, weight, offsets if bias else None, groups)
        with torch.no_grad():
            assert torch.allclose(form(x, weight, offsets if bias else None, groups), y, atol=1e-5)
        results.append([y, *torch.autograd.grad((y * target).sum(), inputs, retain_graph=True)])
        results[-1] += torch.autograd.grad(y.sum(), inputs)  # whose gradient comes in without memory of its own
    for naive, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, naive, atol=2e-5, rtol=1e-5)
        assert bool(naive.abs().max() > 0)


def test_the_operator_of_experts_keeps_its_promises_to_pytorch() -> None:
    """Its schema, its shapes without data, its autograd; FLOPs of torch's own counter; autocast."""
    (x, weight, _), groups = routed(4, 8, 12, 30, torch.float32)
    x = x[: int(groups.ends[-1])].detach().requires_grad_()
    checks = torch.library.opcheck(grouped_product, (x, weight, groups.ends))
    assert set(checks.values()) == {"SUCCESS"}
    with FlopCounterMode(display=False) as counted:
        fast_grouped_linear(x, weight, None, groups).sum().backward()
    assert counted.get_total_flops() == 3 * 2 * len(x) * 8 * 12  # forward, and back to either input
    with torch.autocast("cpu"):
        fast, naive = (form(x, weight, None, groups) for form in (fast_grouped_linear, naive_grouped_linear))
    assert fast.dtype == torch.bfloat16
    assert torch.equal(fast, naive)
