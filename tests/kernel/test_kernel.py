"""The fused kernel against a float64 reference with matrices, and its promises besides speed."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_reference import (
    TOLERANCE,
    assert_compiled_alike,
    error,
    random_stack,
    reference,
    reference_weight,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from seclcompress import kernel
from seclcompress.kernel import by_fft, by_native, matrix, ops
from seclcompress.kernel import layout as layouts
from seclcompress.kernel.watched import nobody_watches

pytestmark = [
    pytest.mark.skipif(not kernel.available(), reason="built without a compiler"),
    pytest.mark.usefixtures("restore_threads"),
]

# Lengths with every radix as first, middle and last stage, odd lengths, lengths of a single stage,
# and one whose blocks are split more than once to fit the cache.
LENGTHS = [
    *(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 20, 21, 24, 25, 27, 28, 32, 35, 45, 48, 49),
    *(64, 75, 81, 96, 98, 105, 128, 147, 160, 192, 225, 243, 245, 256, 280, 320, 343, 378, 512),
    *(630, 640, 672, 735, 960, 1024, 2048),
]


def of_gradients(lengths: list[int], dtypes: Iterable[torch.dtype]) -> list[Any]:
    """Lengths with dtypes. Gradients have the stages that forward passes have.

    So of the long lengths every run tries one, and the slow tests the others in float32: the references
    take seconds.
    """
    cases = []
    for n in lengths:
        for dtype in dtypes:
            rare = pytest.mark.slow if dtype == torch.float32 else pytest.mark.exhaustive
            marks = [rare] if n > 256 and n != 512 else []
            cases.append(pytest.param(n, dtype, id=f"{n}-{dtype}", marks=marks))
    return cases


def words_of_a_new_process(code: str) -> list[str]:
    """The words that code prints in a Python process of its own."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("n", "dtype"),
    [
        pytest.param(
            *(n, dtype),
            id=f"{n}-{dtype}",
            # The others' references alone take seconds.
            marks=[pytest.mark.exhaustive] if n == 2048 and dtype != torch.float32 else [],
        )
        for n in LENGTHS
        for dtype in TOLERANCE
    ],
)
def test_forward_is_the_dense_product(n: int, dtype: torch.dtype, instruction_set: str) -> None:
    """For every length, dtype and instruction set, with repeat, fold, scale and bias."""
    a, d = random_stack(n, 3, dtype, seed=n)
    for c_in, c_out, shape in [(n, n, (2, 5, 7)), (max(1, n // 2), max(1, n // 3), (1, 81))]:
        torch.manual_seed(n)
        x = torch.randn(shape[0], c_in, *shape[1:], dtype=torch.float64).to(dtype)
        bias, scale = torch.randn(2, c_out, dtype=torch.float64).to(dtype)
        for s in (None, scale):
            y = kernel.acdc_stack(x, a, d, c_out, bias, scale=s)
            assert y.dtype == dtype
            assert error(y, reference(x, a, d, c_out, bias, s)) < TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("n", "dtype"),
    of_gradients(LENGTHS[: LENGTHS.index(2048)], [torch.float32, torch.float64]),
)
def test_gradients_are_those_of_the_dense_product(
    n: int, dtype: torch.dtype, instruction_set: str
) -> None:
    """The gradients of x, a, d, bias and scale, with repeat and fold."""
    tolerance = 10 * TOLERANCE[dtype]
    for c_in, c_out, shape in [(n, n, (2, 5, 7)), (max(1, n // 2), max(1, n // 3), (1, 81))]:
        torch.manual_seed(n)
        a, d = random_stack(n, 3, dtype, seed=n)
        leaves = [torch.randn(shape[0], c_in, *shape[1:], dtype=dtype), a, d]
        leaves += [torch.randn(c_out, dtype=dtype), torch.randn(c_out, dtype=dtype)]
        outer = torch.randn(shape[0], c_out, *shape[1:], dtype=dtype)
        for leaf in leaves:
            leaf.requires_grad_()
        x, a, d, bias, scale = leaves
        y = kernel.acdc_stack(x, a, d, c_out, bias, scale=scale)
        got = torch.autograd.grad(y, leaves, outer)
        want = torch.autograd.grad(reference(x, a, d, c_out, bias, scale), leaves, outer.double())
        for name, g, w in zip(("x", "a", "d", "bias", "scale"), got, want, strict=True):
            assert error(g, w) < tolerance, name


@pytest.mark.parametrize(("n", "dtype"), of_gradients(LENGTHS, TOLERANCE))
def test_transposed_is_the_transposed_matrix(
    n: int, dtype: torch.dtype, instruction_set: str
) -> None:
    """Values and the gradients of all operands, contiguous and channels last."""
    # The stack whose transpose runs takes c_out channels to c_in.
    for c_in, c_out, shape in [(n, n, (2, 5, 7)), (max(1, n // 3), max(1, n // 2), (1, 1, 81))]:
        torch.manual_seed(n)
        a, d = random_stack(n, 3, dtype, seed=n)
        leaves = [torch.randn(shape[0], c_in, *shape[1:]).to(dtype), a, d]
        if n % 2:
            leaves[0] = leaves[0].to(memory_format=torch.channels_last)
        leaves += [torch.randn(c_out).to(dtype), torch.randn(c_out).to(dtype)]
        for leaf in leaves:
            leaf.requires_grad_()
        x, a, d, bias, scale = leaves
        y = kernel.acdc_stack(x, a, d, c_out, bias, scale=scale, transposed=True)
        weight = reference_weight(a, d, c_out, c_in)
        expected = torch.einsum("oi,bo...->bi...", weight, x.double())
        expected = expected * scale.double()[:, None, None] + bias.double()[:, None, None]
        assert y.dtype == dtype
        assert error(y, expected) < 2 * TOLERANCE[dtype]
        outer = torch.randn(y.shape).to(dtype)
        got = torch.autograd.grad(y, leaves, outer)
        want = torch.autograd.grad(expected, leaves, outer.double())
        for name, g, w in zip(("x", "a", "d", "bias", "scale"), got, want, strict=True):
            assert error(g, w) < 10 * TOLERANCE[dtype], name


@pytest.mark.parametrize("transposed", [False, True])
def test_gradcheck(transposed: bool) -> None:
    """Gradients agree with numerical differentiation, which shares no code with the reference."""
    a, d = random_stack(12, 2, torch.float64)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    bias, scale = torch.randn(2, 7, dtype=torch.float64).unbind()
    leaves = [leaf.clone().requires_grad_() for leaf in (x, a, d, bias, scale)]

    def stack(x: Tensor, a: Tensor, d: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
        return kernel.acdc_stack(x, a, d, 7, bias, scale=scale, transposed=transposed)

    assert torch.autograd.gradcheck(stack, leaves)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,), (4,), (1, 2), (0, 3), (0, 4)])
def test_only_the_wanted_gradients(wanted: tuple[int, ...], transposed: bool) -> None:
    """Only the leaves that need a gradient get one."""
    a, d = random_stack(24, 2, torch.float64)
    leaves = [
        torch.randn(1, 24, 9, dtype=torch.float64),
        a,
        d,
        torch.randn(24, dtype=torch.float64),
        torch.randn(24, dtype=torch.float64),
    ]
    for i in wanted:
        leaves[i].requires_grad_()
    x, a, d, bias, scale = leaves
    y = kernel.acdc_stack(x, a, d, 24, bias, scale=scale, transposed=transposed)
    y.square().sum().backward()
    got = [leaf.grad for leaf in leaves]
    weight = reference_weight(a, d, 24, 24)
    y = scale[:, None] * ((weight.mT if transposed else weight) @ x) + bias[:, None]
    expected = torch.autograd.grad(y.square().sum(), [leaves[i] for i in wanted])
    for i, want in zip(wanted, expected, strict=True):
        assert error(got[i], want) < 1e-12
    assert [i for i in range(5) if got[i] is not None] == list(wanted)


def test_second_derivative_is_refused() -> None:
    """An error is raised; the gradient is not silently zero."""
    a, d = random_stack(8, 1, torch.float64)
    x = torch.randn(1, 8, 3, dtype=torch.float64, requires_grad=True)
    y = kernel.acdc_stack(x, a.requires_grad_(), d, 8)
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="once, not twice"):
        grad.sum().backward()


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3),
    "sliced": lambda x: torch.cat([x, x], dim=1)[:, ::2],
    "expanded": lambda x: x[:1].expand_as(x),
    "misaligned": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view_as(x),
    "misaligned_channels_last": lambda x: (
        torch.cat([x.new_zeros(1), x.flatten()])[1:]
        .view(x.shape[0], *x.shape[2:], x.shape[1])
        .movedim(-1, 1)
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (4, 8), (1, 33)], ids=str)
def test_layouts(layout: str, size: tuple[int, int], instruction_set: str) -> None:
    """Inputs and gradients may have any strides; the output has x's memory format."""
    a, d = random_stack(48, 2, torch.float32)
    x = LAYOUTS[layout](torch.randn(5, 40, *size))
    x = x.detach().requires_grad_()
    y = kernel.acdc_stack(x, a, d, 37)
    assert error(y, reference(x, a, d, 37)) < 2e-6
    if layout == "contiguous":
        assert y.is_contiguous()
    if layout.endswith("channels_last"):
        assert y.is_contiguous(memory_format=torch.channels_last)
    for outer in (torch.ones(()).expand_as(y), torch.randn_like(y), torch.randn(y.shape)):
        (grad,) = torch.autograd.grad(y, x, outer, retain_graph=True)
        weight = reference_weight(a, d, 40, 37)
        assert error(grad, torch.einsum("oi,bo...->bi...", weight, outer.double())) < 2e-5


@pytest.mark.parametrize(
    ("channels", "dtype"),
    [
        ((1000, 1024), torch.float32),
        ((700, 400), torch.float64),
        ((700, 400), torch.bfloat16),
    ],
    ids=str,
)
def test_large_images(channels: tuple[int, int], dtype: torch.dtype, instruction_set: str) -> None:
    """Images whose memory is prefetched, if vectors are long, and whose outputs get large pages."""
    c_in, c_out = channels
    a, d = random_stack(1024, 2, dtype)
    x = torch.randn(1, c_in, 36, 41, dtype=torch.float64).to(dtype).requires_grad_()
    y = kernel.acdc_stack(x, a, d, c_out)
    expected = reference(x, a, d, c_out)
    assert error(y, expected) < TOLERANCE[dtype]
    outer = torch.randn(y.shape, dtype=torch.float64).to(dtype)
    (grad,), (want,) = (torch.autograd.grad(out, x, outer) for out in (y, expected))
    assert error(grad, want) < 10 * TOLERANCE[dtype]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("steps", [(2, 2), (1, 3), (3, 1), (9, 9)], ids=str)
def test_a_strided_image_is_read_where_it_lies(
    layout: str, steps: tuple[int, int], instruction_set: str
) -> None:
    """A strided 1×1 convolution leaves out rows and columns; only NCHW images are copied first."""
    a, d = random_stack(48, 2, torch.float32)
    image = LAYOUTS[layout](torch.randn(3, 40, 9, 37)).requires_grad_()
    x = image[:, :, :: steps[0], :: steps[1]]
    assert (layouts.readable(x) is x) == (layout == "channels_last")
    y = kernel.acdc_stack(x, a, d, 37)
    expected = reference(x, a, d, 37)
    assert error(y, expected) < 2e-6
    assert layout == "contiguous" or y.is_contiguous(memory_format=torch.channels_last)
    outer = torch.randn_like(y)
    (grad,), (want,) = (torch.autograd.grad(out, image, outer) for out in (y, expected))
    assert error(grad, want) < 2e-5


def test_negated_views_and_other_layouts_go_to_the_dispatcher() -> None:
    """The dispatcher resolves negative bits and refuses sparse tensors."""
    a, d = random_stack(6, 2, torch.float32)
    complex_numbers = torch.randn(4, 6, dtype=torch.complex64)
    x = complex_numbers.conj().imag
    assert x.is_neg()
    assert error(kernel.acdc_stack(x, a, d, 6), reference(x.clone(), a, d, 6)) < 2e-6
    bias = torch._neg_view(torch.randn(6))
    x = torch.randn(4, 6)
    expected = reference(x, a, d, 6, bias.clone())
    assert error(kernel.acdc_stack(x, a, d, 6, bias), expected) < 2e-6
    with pytest.raises((NotImplementedError, RuntimeError), match="Sparse"):
        kernel.acdc_stack(x.to_sparse(), a, d, 6)
    zeros = torch._efficientzerotensor((4, 6))  # has no memory
    assert torch.equal(kernel.acdc_stack(zeros, a, d, 6) + 0, torch.zeros(4, 6))


def test_many_gradients_at_once() -> None:
    """`is_grads_batched`, for which torch uses a transform of its own, not torch.func's."""
    a, d = random_stack(6, 2, torch.float64)
    x = torch.randn(4, 6, 3, dtype=torch.float64, requires_grad=True)
    leaves = (x, a.requires_grad_(), d.requires_grad_())
    y = kernel.acdc_stack(*leaves, 5)
    outer = torch.randn(2, *y.shape, dtype=torch.float64)
    together = torch.autograd.grad(y, leaves, outer, is_grads_batched=True, retain_graph=True)
    for number, one in enumerate(outer):
        alone = torch.autograd.grad(y, leaves, one, retain_graph=True)
        for many, single in zip(together, alone, strict=True):
            torch.testing.assert_close(many[number], single)


class Seen(torch.overrides.TorchFunctionMode):
    """Records the functions that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_who_looks_on_sees_the_operator() -> None:
    a, d = random_stack(6, 2, torch.float32)
    x = torch.randn(4, 6)
    with Seen() as seen:
        kernel.acdc_stack(x, a, d, 6)
    assert any("seclcompress.acdc_stack" in name for name in seen.names)
    for early in (False, True):
        traced = torch.fx.experimental.proxy_tensor.make_fx(
            lambda x: kernel.acdc_stack(x, a, d, 6), pre_dispatch=early
        )(x)
        assert "seclcompress.acdc_stack" in traced.code
        torch.testing.assert_close(traced(2 * x), kernel.acdc_stack(2 * x, a, d, 6))
    traced = torch.jit.trace(lambda x: kernel.acdc_stack(x, a, d, 6), x)
    assert "acdc_stack" in str(traced.graph)
    with torch._subclasses.FakeTensorMode():
        fake = kernel.acdc_stack(torch.randn(4, 6), torch.randn(2, 6), torch.randn(2, 6), 5)
    assert isinstance(fake, torch._subclasses.FakeTensor)


def test_who_looks_on_is_noticed() -> None:
    """Modes and transforms are detected around plain tensors and after an import within a mode."""
    x, quiet = torch.randn(4, 6), []

    def ask(z: Tensor) -> Tensor:
        quiet.append(nobody_watches(x))
        return z

    ask(x)
    with torch.inference_mode():
        ask(x)
    torch.func.vmap(ask)(torch.ones(2))
    torch.func.grad(lambda z: ask(z).sum())(torch.ones(2))
    with FlopCounterMode(display=False):
        ask(x)
    assert quiet == [True, True, False, False, False]
    for mode in ("torch.inference_mode()", "FlopCounterMode(display=False)"):
        code = f"""
import torch
from torch.utils.flop_counter import FlopCounterMode
with {mode}:
    from seclcompress.kernel.watched import nobody_watches
x = torch.ones(2)
print(nobody_watches(x))
with FlopCounterMode(display=False):
    print(nobody_watches(x))
"""
        assert words_of_a_new_process(code) == ["True", "False"]


def test_one_channel_of_a_clip_has_the_layout_that_the_compiler_expects() -> None:
    """A copy of the clip is both contiguous and channels last; the output has the layout of x."""
    a, d = random_stack(8, 2, torch.float32)
    x = torch.randn(2, 4, 6, 8, 1).movedim(-1, 1)[..., ::2].requires_grad_()
    y = kernel.acdc_stack(x, a, d, 5)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    assert error(y, reference(x, a, d, 5)) < 2e-6
    operator = torch.ops.seclcompress.acdc_stack.default
    torch.library.opcheck(operator, (x.detach(), a, d, 5, None, None, False))


@pytest.mark.parametrize("shape", [(0, 6, 4, 4), (2, 6, 0, 4), (0, 6), (3, 6, 0)], ids=str)
def test_empty(shape: tuple[int, ...]) -> None:
    """Without positions, shapes are right and the parameters' gradients are zero."""
    a, d = random_stack(8, 2, torch.float32)
    x, bias = torch.randn(shape).requires_grad_(), torch.zeros(5, requires_grad=True)
    y = kernel.acdc_stack(x, a.requires_grad_(), d.requires_grad_(), 5, bias)
    assert y.shape == (shape[0], 5, *shape[2:])
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == shape
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in (a, d, bias))


@pytest.mark.parametrize(
    "shape", [(3,), (3, 17), (2, 3, 4), (2, 2, 3, 4), (2, 2, 2, 3, 4)], ids=str
)
def test_any_number_of_dimensions(shape: tuple[int, ...]) -> None:
    """From (batch, channels) to three spatial dimensions."""
    a, d = random_stack(20, 2, torch.float64)
    x = torch.randn(shape[0], 20, *shape[1:], dtype=torch.float64)
    y = kernel.acdc_stack(x, a, d, 10)
    assert error(y, reference(x, a, d, 10)) < 1e-14
    if x.dim() == 5:
        x = x.to(memory_format=torch.channels_last_3d)
        assert torch.equal(kernel.acdc_stack(x, a, d, 10), y)
        assert kernel.acdc_stack(x, a, d, 10).is_contiguous(memory_format=torch.channels_last_3d)


def test_bfloat16_is_float32_inside(instruction_set: str) -> None:
    """Outputs are rounded once, at the end; gradients have the parameters' dtypes."""
    a, d = random_stack(96, 4, torch.bfloat16)
    x, bias = torch.randn(3, 80, 7, 7).bfloat16(), torch.randn(96).bfloat16()
    inside = kernel.acdc_stack(x.float(), a.float(), d.float(), 96, bias.float())
    assert torch.equal(kernel.acdc_stack(x, a, d, 96, bias), inside.bfloat16())
    assert torch.equal(kernel.acdc_stack(x, a.float(), d, 96, bias.float()), inside.bfloat16())
    a.requires_grad_()
    d_float = d.float().requires_grad_()
    kernel.acdc_stack(x, a, d_float, 96).sum().backward()
    assert a.grad is not None
    assert a.grad.dtype == torch.bfloat16
    assert d_float.grad is not None
    assert d_float.grad.dtype == torch.float32


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


def in_child(check: object) -> int:
    """Forks, runs check in the child, and returns its exit code; kills it after 20 seconds."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if check() else 1)  # type: ignore[operator]
        except BaseException:
            os._exit(2)
    for _ in range(2000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_survives_fork() -> None:
    """A forked child computes the same, even if another thread was using the kernel."""
    torch.set_num_threads(3)
    a, d = random_stack(128, 4, torch.float32)
    x = torch.randn(2, 128, 100)
    y = kernel.acdc_stack(x, a, d, 128)
    stop = threading.Event()

    def keep_the_pool_busy() -> None:
        while not stop.is_set():
            kernel.acdc_stack(x, a, d, 128)

    thread = threading.Thread(target=keep_the_pool_busy)
    thread.start()
    try:
        codes = [
            in_child(lambda: torch.equal(kernel.acdc_stack(x, a, d, 128), y)) for _ in range(5)
        ]
    finally:
        stop.set()
        thread.join()
    assert codes == [0] * 5
    assert torch.equal(kernel.acdc_stack(x, a, d, 128), y)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="where threads have numbers")
def test_a_small_call_leaves_torchs_threads_alive() -> None:
    """GNU OpenMP ends the threads that a smaller team leaves out; torch would start them again."""
    code = """
import os, torch
from seclcompress import kernel
torch.set_num_threads(6)
product, small, (a, d) = torch.randn(700, 700), torch.randn(1, 24, 49), torch.randn(2, 1, 24)
def threads():
    return set(os.listdir("/proc/self/task"))
product @ product
before = threads()
for _ in range(3):
    kernel.acdc_stack(small, a, d, 24)
    product @ product
print(len(before) >= 6, len(before - threads()))
"""
    assert words_of_a_new_process(code) == ["True", "0"]


def test_concurrent_calls_agree() -> None:
    """Calls from several Python threads at once give the same results."""
    torch.set_num_threads(2)
    a, d = random_stack(128, 4, torch.float32)
    x = torch.randn(2, 128, 100)
    y = kernel.acdc_stack(x, a, d, 128)
    wrong = []

    def call() -> None:
        for _ in range(50):
            if not torch.equal(kernel.acdc_stack(x, a, d, 128), y):
                wrong.append(threading.get_ident())

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("dtype", "channels_last", "affine"),
    [
        (torch.float32, False, True),
        (torch.float32, True, False),
        (torch.float64, True, True),
        (torch.bfloat16, False, False),
        (torch.bfloat16, True, True),
    ],
    ids=str,
)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("n", [20, 22])  # by the kernel, and by torch.fft
def test_opcheck(
    dtype: torch.dtype, channels_last: bool, affine: bool, transposed: bool, n: int
) -> None:
    """Schema, fake implementation, autograd registration, AOT dispatch."""
    a, d = random_stack(n, 2, dtype)
    x = torch.randn(2, 10, 3, 5, dtype=dtype)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
        a, d = a.mT.contiguous().mT, d.mT.contiguous().mT
    leaves = [leaf.requires_grad_() for leaf in (x, a, d)]
    bias, scale = (torch.randn(15, dtype=dtype).requires_grad_() if affine else None for _ in "bs")
    arguments = (*leaves, 15, bias, scale, transposed)
    torch.library.opcheck(torch.ops.seclcompress.acdc_stack.default, arguments)
    grad = torch.randn(2, 15, 3, 5, dtype=dtype)
    # The gradient of backward is refused on purpose, so its operands need none here.
    plain = [t.detach() for t in (grad, x, a, d)]
    for input_grad in (False, True):
        torch.library.opcheck(
            torch.ops.seclcompress.acdc_stack_backward.default, (*plain, input_grad)
        )


class Stack(torch.nn.Module):
    """A module around the operator."""

    def __init__(self) -> None:
        """Draws the diagonals of two layers, N = 32."""
        super().__init__()
        a, d = random_stack(32, 2, torch.float32)
        self.a, self.d = torch.nn.Parameter(a), torch.nn.Parameter(d)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the stack between other operations, which a compiler sees."""
        return torch.relu(kernel.acdc_stack(x, self.a, self.d, 24)) * 2


def test_compile_forward_and_backward() -> None:
    """The operator compiles to one graph without breaks, which gives the same bits."""
    assert_compiled_alike(Stack(), torch.randn(2, 20, 5, 5))


def test_export_with_a_dynamic_batch() -> None:
    """The operator stays one node of the graph."""
    module = Stack().eval()
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(
        module, (torch.randn(3, 20, 5, 5),), dynamic_shapes={"x": {0: batch}}
    )
    x = torch.randn(7, 20, 5, 5)
    assert any("acdc_stack" in str(node.target) for node in exported.graph.nodes)
    assert torch.equal(exported.module()(x), module(x))


SMALL = (torch.randn(2, 6, 4), torch.randn(3, 8), torch.randn(3, 8), 8)


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, torch.randn(2, 9, 4), r"x has shape \(2, 9, 4\).*N = 8"),
        (0, torch.randn(2, 0, 4), "1 to N = 8 channels"),
        (0, torch.randn(8), r"\(batch, channels, \*spatial\)"),
        (0, torch.randn(2, 6, 4).half(), "x is torch.float16"),
        (0, torch.randint(0, 9, (2, 6, 4)), "x is torch.int64"),
        (0, torch.randn(2, 6, 4).double(), r"a is torch.float32 and x is torch.float64"),
        (1, torch.randn(3, 9), r"a has shape \(3, 9\) and d \(3, 8\)"),
        (1, torch.randn(8), r"must be \(layers, N\)"),
        (2, torch.randn(3, 8).double(), "d is torch.float64"),
        (3, 9, "out_channels is 9: it must be 1 to N = 8"),
        (3, 0, "out_channels is 0"),
        (3, -1, "out_channels is -1"),
        (4, torch.randn(7), r"bias has shape \(7,\)"),
        (4, torch.randn(8, 1), r"bias has shape \(8, 1\)"),
        (4, torch.randn(8).double(), "bias is torch.float64"),
        (5, torch.randn(9), r"scale has shape \(9,\)"),
        (5, torch.randn(8).double(), "scale is torch.float64"),
    ],
)
def test_refusals(index: int, value: object, message: str) -> None:
    """Each error names the operand and its value."""
    arguments: list[object] = [*SMALL, None, None]
    arguments[index] = value
    with pytest.raises(ValueError, match=message):
        kernel.acdc_stack(*arguments[:5], scale=arguments[5])  # type: ignore[arg-type]


def test_refuses_no_layers() -> None:
    """A stack without layers does not reach the compiled code."""
    with pytest.raises(ValueError, match="at least one layer"):
        kernel.acdc_stack(torch.randn(1, 8, 2), torch.empty(0, 8), torch.empty(0, 8), 8)


@pytest.mark.parametrize("n", [11, 22, 26, 97])
def test_lengths_without_an_fft_plan(n: int) -> None:
    """torch.fft runs stacks of lengths for which the compiled kernel has no FFT plan."""
    assert not kernel.supports(n, torch.float64, "cpu")
    a, d = random_stack(n, 3, torch.float64)
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    assert error(kernel.acdc_stack(x, a, d, 9), reference(x, a, d, 9)) < 1e-13


def test_they_are_registered_for_gpus() -> None:
    """Operators are registered for GPUs; the compiled code never gets an address on a GPU."""
    operators = ("acdc_stack", "acdc_matrix")
    for name in (*operators, *(f"{operator}_backward" for operator in operators)):
        for key in ("CPU", "CUDA"):
            assert torch._C._dispatch_has_kernel_for_dispatch_key(f"seclcompress::{name}", key)


def _fakes_gpus() -> bool:
    """Whether this torch runs fake GPU tensors without a driver; torch 2.8 does not."""
    try:
        with FakeTensorMode():
            torch.fft.rfft(torch.empty(2, 4, device="cuda")[0, :3])
    except RuntimeError:
        return False
    return True


@pytest.mark.skipif(not _fakes_gpus(), reason="neither a GPU nor a torch that fakes one")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("n", [20, 21, 22])
@pytest.mark.parametrize("transposed", [False, True])
def test_on_a_gpu_that_is_not_there(n: int, dtype: torch.dtype, transposed: bool) -> None:
    """All operands and tables are on the GPU, and results look as the fake implementation says."""
    with FakeTensorMode():
        a, d = torch.empty(2, 3, n, dtype=dtype, device="cuda").unbind()
        x = torch.empty(2, 8, 3, 5, dtype=dtype, device="cuda")
        assert ops.backend(a) is by_fft
        arguments = (x, a, d, 9, torch.empty_like(a[0, :9]), torch.empty_like(a[0, :9]), transposed)
        for run in (ops._forward, ops._forward_fake):
            y = run(*arguments)
            assert (y.shape, y.dtype, y.device.type) == ((2, 9, 3, 5), dtype, "cuda")
        found = ops._backward(y, x, a, d, True)
        promised = ops._backward_fake(y, x, a, d, True)
        _alike(found, promised)


def _alike(found: tuple[Tensor, ...], promised: tuple[Tensor, ...]) -> None:
    for one, other in zip(found, promised, strict=True):
        assert (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
        assert one.stride() == other.stride()


@pytest.mark.skipif(not _fakes_gpus(), reason="neither a GPU nor a torch that fakes one")
@pytest.mark.parametrize("channels", [(20, 20), (9, 20), (20, 9), (20, 1), (1, 20)], ids=str)
def test_a_matrix_on_a_gpu_that_is_not_there(channels: tuple[int, int]) -> None:
    with FakeTensorMode():
        a, d = torch.empty(2, 3, 20, device="cuda").unbind()
        weights = [run(a, d, *channels) for run in (matrix._forward, matrix._forward_fake)]
        _alike(weights[:1], weights[1:])
        outer = weights[0]
        _alike(matrix._backward(outer, a, d), matrix._backward_fake(outer, a, d))


@pytest.mark.parametrize("scratch", [1, 2**9, 2**11, 2**14, 2**28])
@pytest.mark.parametrize(
    "shape", [(1, 6, 1), (3, 6, 5, 7), (7, 6), (2, 6, 2, 2, 3), (0, 6, 3), (3, 6, 0)]
)
def test_parts_of_any_size(scratch: int, shape: tuple[int, ...], monkeypatch) -> None:
    """All vectors are computed once, however few torch.fft gets at a time."""
    monkeypatch.setattr(by_native, "has_fft_plan", lambda n: False)
    monkeypatch.setattr(by_fft, "SCRATCH_BYTES", scratch)
    a, d = (factor.requires_grad_() for factor in random_stack(12, 2, torch.float64))
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    y = kernel.acdc_stack(x, a, d, 5)
    expected = reference(x, a, d, 5)
    assert error(y, expected) < 1e-13
    outer = torch.randn(y.shape, dtype=torch.float64)
    got = torch.autograd.grad(y, (x, a, d), outer)
    want = torch.autograd.grad(expected, (x, a, d), outer)
    assert all(error(g, w) < 1e-12 for g, w in zip(got, want, strict=True))


def test_memory_by_fft_does_not_grow_with_the_depth(monkeypatch) -> None:
    """Neither the tensors that autograd keeps nor the peak of the backward pass grow with depth."""
    monkeypatch.setattr(by_native, "has_fft_plan", lambda n: False)
    monkeypatch.setattr(by_fft, "SCRATCH_BYTES", 2**20)
    largest: dict[int, int] = {}
    for depth in (2, 24):
        a, d = (factor.requires_grad_() for factor in random_stack(64, depth, torch.float32))
        x = torch.randn(4, 64, 32, 32, requires_grad=True)
        kept: list[int] = []

        def keep(tensor: Tensor, kept: list[int] = kept) -> Tensor:
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = kernel.acdc_stack(x, a, d, 64)
        assert sum(kept) <= x.numel() + a.numel() + d.numel()
        with torch.profiler.profile(profile_memory=True) as profile:
            y.sum().backward()
        now = top = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                now += event.nbytes()
                top = max(top, now)
        largest[depth] = top
    assert largest[24] < 1.5 * largest[2]


def test_backward_checks_its_sizes() -> None:
    """The backward operator can be called directly, so it checks its operands."""
    x, a, d, _ = SMALL
    with pytest.raises(ValueError, match="differ in the channels only"):
        torch.ops.seclcompress.acdc_stack_backward(torch.randn(2, 8, 3), x, a, d, True)
    with pytest.raises(ValueError, match="out_channels is 9"):
        torch.ops.seclcompress.acdc_stack_backward(torch.randn(2, 9, 4), x, a, d, True)


def test_supports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel supports exactly the lengths without a prime factor above 7."""
    cpu = torch.device("cpu")
    smooth = [n for n in range(1, 400) if kernel.supports(n, torch.float32, cpu)]
    expected = []
    for n in range(1, 400):
        rest = n
        for p in (2, 3, 5, 7):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            expected.append(n)
    assert smooth == expected
    assert not kernel.supports(0, torch.float32, cpu)
    assert not kernel.supports(-4, torch.float32, cpu)
    assert not kernel.supports(2**40, torch.float32, cpu)
    assert not kernel.supports(64, torch.float16, cpu)
    assert not kernel.supports(64, torch.float32, "cuda")
    assert kernel.worthwhile(64, torch.float32, "cuda")
    assert kernel.worthwhile(22, torch.bfloat16, "cuda:1"), "by torch.fft, which knows any length"
    assert not kernel.worthwhile(64, torch.float16, "cuda")
    beyond: list[bool] = []
    torch.func.grad(lambda x: beyond.append(kernel.worthwhile(64, x.dtype, "cuda")) or x.sum())(
        torch.ones(3)
    )
    assert beyond == [False]
    monkeypatch.setattr(by_native, "UNWANTED", True)
    assert not kernel.worthwhile(64, torch.float32, "cuda")
    assert not kernel.worthwhile(22, torch.float32, "cpu")
    assert not kernel.supports(64, torch.float32, "meta")


def test_without_the_compiled_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the compiled kernel torch.fft runs the operator; imports and shapes still work."""
    expected = kernel.acdc_stack(*SMALL)
    monkeypatch.setattr(by_native, "_native", None)
    assert not kernel.available()
    assert not kernel.supports(64, torch.float32, "cpu")
    assert not kernel.worthwhile(64, torch.float32, "cpu")
    torch.testing.assert_close(kernel.acdc_stack(*SMALL), expected)
    assert kernel.acdc_stack(SMALL[0].to("meta"), *(t.to("meta") for t in SMALL[1:3]), 5).shape == (
        2,
        5,
        4,
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_fuzz(data: st.DataObject) -> None:
    """For any sizes, layouts and alignments, values and gradients are those of the reference."""
    draw = data.draw
    n = draw(st.sampled_from([n for n in range(1, 200) if by_native.has_fft_plan(n)]))
    c_in, c_out = draw(st.integers(1, n)), draw(st.integers(1, n))
    layers, batch = draw(st.integers(1, 4)), draw(st.integers(0, 9))
    spatial = draw(st.lists(st.integers(0, 9), max_size=3))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    torch.manual_seed(draw(st.integers(0, 1000)))
    torch.set_num_threads(draw(st.integers(1, 4)))
    a, d = random_stack(n, layers, dtype)
    offset = draw(st.integers(0, 17))
    count = batch * c_in * math.prod(spatial)
    flat = torch.randn(offset + count, dtype=dtype)[offset:]
    if draw(st.booleans()):
        x = flat.view(batch, *spatial, c_in).movedim(-1, 1)
    else:
        x = flat.view(batch, c_in, *spatial)
    x = x.detach().requires_grad_()
    leaves = [x, a.requires_grad_(), d.requires_grad_()]
    if draw(st.booleans()):
        y = kernel.acdc_stack(*leaves, c_out)
        expected = reference(*leaves, c_out)
    else:
        y = kernel.acdc_stack(*leaves, c_out, transposed=True)
        expected = torch.einsum(
            "oi,bo...->bi...", reference_weight(*leaves[1:], c_out, c_in), x.double()
        )
    # Many channels folded into few may cancel; errors are relative to the size before folding.
    floor = math.sqrt(n / c_out) * x.detach().abs().max().item() if x.numel() else 1.0
    assert error(y, expected, floor) < 2 * TOLERANCE[dtype]
    outer = torch.randn_like(y)
    got = torch.autograd.grad(y, leaves, outer)
    want = torch.autograd.grad(expected, leaves, outer.double())
    assert all(error(g, w, floor) < 20 * TOLERANCE[dtype] for g, w in zip(got, want, strict=True))


class TestSayingWhichKernelRuns:
    def test_in_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(by_native, "UNWANTED", False)
        for sets, words in (
            (["avx2", "baseline"], "fused kernel for avx2"),
            ([], "no fused kernel (built without a compiler)"),
        ):
            monkeypatch.setattr(by_native, "instruction_sets", lambda sets=sets: sets)
            assert kernel.description() == words
        monkeypatch.setattr(by_native, "UNWANTED", True)
        assert kernel.description() == "fused kernel switched off (SECLCOMPRESS_KERNEL=0)"

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no kernel for Windows")
    @pytest.mark.parametrize(("required", "code"), [("0", 0), ("1", 1)])
    def test_a_build_can_be_told_to_fail_without_it(
        self, required: str, code: int, tmp_path: Path
    ) -> None:
        pytest.importorskip("setuptools")
        root = Path(__file__).parents[2]
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(root / name, tmp_path)
        sources = tmp_path / "seclcompress" / "kernel"
        sources.mkdir(parents=True)
        shutil.copy(root / "seclcompress" / "__init__.py", sources.parent)  # it has the version
        shutil.copytree(root / "seclcompress" / "kernel" / "csrc", sources / "csrc")
        environment = {**os.environ, "CC": "false", "CXX": "false"}
        done = subprocess.run(
            [sys.executable, "setup.py", "build_ext", "--build-lib", "out"],
            cwd=tmp_path,
            env={**environment, "SECLCOMPRESS_REQUIRE_KERNEL": required},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert not list((tmp_path / "out").rglob("*.so"))
