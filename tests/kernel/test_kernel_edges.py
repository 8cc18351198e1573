"""The fused kernel at the edges: values that are not finite, subnormals, memory beside a tensor."""

from __future__ import annotations

import ctypes
import math
import mmap
import sys

import pytest
import torch
from compiled_kernel import RUNS_KERNEL
from dense_reference import (
    LAYOUTS,
    error,
    random_stack,
    reference,
    reference_weight,
)

from seclcompress import kernel

pytestmark = RUNS_KERNEL


@pytest.mark.parametrize("positions", [1, 49, 784])
def test_threads_do_not_change_a_bit(positions: int) -> None:
    """Outputs and all gradients have the same bits on any number of threads."""
    a, d = random_stack(240, 3, torch.float32)
    x = torch.randn(6, 200, positions)
    outer = torch.randn(6, 240, positions)
    results = []
    for threads in (1, 2, 3, 16):
        torch.set_num_threads(threads)
        leaves = [t.detach().clone().requires_grad_() for t in (x, a, d)]
        y = kernel.acdc_stack(*leaves, 240)
        results.append([y, *torch.autograd.grad(y, leaves, outer)])
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_what_is_not_finite_stays_at_its_position(
    value: float, layout: str, instruction_set: str
) -> None:
    """Two groups of positions share one FFT; neither may change the other."""
    a, d = random_stack(32, 3, torch.float32)
    a = a * 4  # so that 3e38 overflows inside the stack
    for position in (0, 5, 17, 40, 63):
        x = LAYOUTS[layout](torch.randn(1, 32, 8, 8)).clone()
        clean = x.clone()
        x[0, :, position // 8, position % 8] = value
        y = kernel.acdc_stack(x, a, d, 32)
        spoilt = ~y.isfinite()
        hit = torch.zeros(8, 8, dtype=torch.bool)
        hit[position // 8, position % 8] = True
        assert torch.equal(spoilt.any(dim=1)[0], hit)
        expected = reference(clean, a, d, 32)
        assert error(y.where(~hit, 0), expected.where(~hit, 0)) < 2e-6


@pytest.mark.parametrize("size", [(3, 3), (5, 5), (7, 7)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_what_is_not_finite_stays_in_its_image(
    size: tuple[int, int], dtype: torch.dtype, instruction_set: str
) -> None:
    """A tile may reach over two images, and vectors include numbers beside a tile's positions."""
    a, d = random_stack(32, 3, dtype)
    x = torch.randn(5, 20, *size).to(dtype)
    expected = reference(x, a, d, 24)
    x[[0, 2, 4]] = math.nan
    y = kernel.acdc_stack(x, a, d, 24)
    assert y[[0, 2, 4]].isnan().all()
    bound = 2e-2 if dtype == torch.bfloat16 else 2e-6
    assert error(y[[1, 3]], expected[[1, 3]]) < bound


def between_forbidden_pages(x: torch.Tensor, *, at_the_end: bool) -> torch.Tensor:
    """A copy of x that begins or ends at a page that must not be read."""
    page, size = mmap.PAGESIZE, x.numel() * x.element_size()
    pages = -(-size // page)
    memory = mmap.mmap(-1, (pages + 2) * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for forbidden in (start, start + (pages + 1) * page):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(forbidden), page, 0) == 0
    offset = page + (pages * page - size if at_the_end else 0)
    flat = torch.frombuffer(memory, dtype=x.dtype, count=x.numel(), offset=offset)
    return flat.view(x.shape).copy_(x)


@pytest.mark.skipif(sys.platform != "linux", reason="forbids pages as Linux does")
@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "shape", [(1, 3, 33), (2, 1, 40), (3, 20, 5), (3, 20, 25), (2, 20, 49)], ids=str
)
def test_nothing_beside_a_tensor_is_read(
    shape: tuple[int, ...], dtype: torch.dtype, at_the_end: bool, instruction_set: str
) -> None:
    """Vectors of a tile that ends early are read whole only where they lie inside the tensor."""
    a, d = random_stack(32, 2, dtype)
    x, outer = torch.randn(shape).to(dtype), torch.randn(shape[0], 24, *shape[2:]).to(dtype)
    for which in (0, 1):
        operands = [x, outer]
        operands[which] = between_forbidden_pages(operands[which], at_the_end=at_the_end)
        inside, grad = operands
        inside.requires_grad_()
        y = kernel.acdc_stack(inside, a, d, 24)
        assert torch.equal(y.detach(), kernel.acdc_stack(x.detach(), a, d, 24))
        torch.autograd.grad(y, inside, grad)  # a fault would end the process


def test_a_nan_gradient_stays_at_its_position(instruction_set: str) -> None:
    """In the backward pass, too, a position's gradient depends on that position alone."""
    a, d = random_stack(32, 3, torch.float32)
    x = torch.randn(1, 32, 64, requires_grad=True)
    outer = torch.randn(1, 32, 64)
    outer[0, 3, 21] = math.nan
    (grad,) = torch.autograd.grad(kernel.acdc_stack(x, a, d, 32), x, outer)
    assert grad[0, :, 21].isnan().all()
    others = [p for p in range(64) if p != 21]
    weight = reference_weight(a, d, 32, 32)
    assert error(grad[0][:, others], weight.T @ outer[0][:, others].double()) < 2e-6


@pytest.mark.parametrize("which", ["a", "d"])
def test_nan_parameter_reaches_every_output(which: str) -> None:
    """A NaN in one diagonal is not lost."""
    a, d = random_stack(32, 3, torch.float32)
    {"a": a, "d": d}[which][1, 4] = math.nan
    assert kernel.acdc_stack(torch.randn(2, 32, 5), a, d, 32).isnan().all()


def test_subnormals_are_flushed_inside_only() -> None:
    """The processor's mode is restored afterwards."""
    tiny = torch.tensor([1e-40])
    a, d = torch.full((1, 8), 1e-25), torch.full((1, 8), 1e-15)
    y = kernel.acdc_stack(torch.ones(1, 8, 1), a, d, 8)
    assert torch.equal(y, torch.zeros_like(y))
    assert (tiny * 1).item() != 0  # torch still computes with subnormals on this thread
