"""The fused kernel against a float64 reference with matrices: values, gradients, layouts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from compiled_kernel import RUNS_KERNEL
from dense_reference import (
    LAYOUTS,
    TOLERANCE,
    error,
    random_stack,
    reference,
    reference_weight,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from seclcompress import kernel
from seclcompress.kernel import by_native
from seclcompress.kernel import layout as layouts

pytestmark = RUNS_KERNEL

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
