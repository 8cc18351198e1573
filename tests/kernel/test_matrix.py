"""The matrix of a stack and its gradients: the stack on an identity that has no memory."""

from __future__ import annotations

import pytest
import torch
from compiled_kernel import RUNS_KERNEL
from dense_reference import TOLERANCE, assert_compiled_alike, error, random_stack, reference_weight
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from seclcompress import kernel
from seclcompress.kernel import by_native, layout

pytestmark = RUNS_KERNEL

CHANNELS = [(64, 64), (64, 40), (24, 64), (50, 60), (1, 64), (64, 1)]


@pytest.mark.parametrize("channels", CHANNELS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values_and_gradients(
    channels: tuple[int, int], dtype: torch.dtype, instruction_set: str
) -> None:
    """Square matrices and others, by every instruction set."""
    a, d = random_stack(64, 12, dtype)
    a.requires_grad_()
    d.requires_grad_()
    weight, expected = kernel.acdc_matrix(a, d, *channels), reference_weight(a, d, *channels)
    assert weight.dtype == dtype
    assert weight.is_contiguous()
    assert error(weight, expected) < 5 * TOLERANCE[dtype]
    outer = torch.randn_like(weight)
    got = torch.autograd.grad(weight, (a, d), outer)
    want = torch.autograd.grad(expected, (a, d), outer.double())
    assert all(error(g, w) < 20 * TOLERANCE[dtype] for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 9, 20, 35, 48, 105, 256, 640])
def test_lengths(n: int, instruction_set: str) -> None:
    """More and fewer columns than a tile has positions, both ways; a single radix, and odd ones."""
    a, d = (t.requires_grad_() for t in random_stack(n, 3, torch.float64))
    for channels in {(n, n), (max(1, n // 2), n), (n, max(1, n - 1))}:
        weight, expected = kernel.acdc_matrix(a, d, *channels), reference_weight(a, d, *channels)
        assert error(weight, expected) < 1e-13
        outer = torch.randn_like(weight)
        got, want = (torch.autograd.grad(w, (a, d), outer) for w in (weight, expected))
        assert all(error(g, w) < 1e-12 for g, w in zip(got, want, strict=True))


def test_the_operator_takes_bfloat16(instruction_set: str) -> None:
    """`acdc_matrix` never passes bfloat16 to the operator; gradients have the diagonals' dtype."""
    a, d = random_stack(48, 3, torch.bfloat16)
    weight = torch.ops.seclcompress.acdc_matrix(a, d, 48, 20)
    wide = kernel.acdc_matrix(a.float(), d.float(), 48, 20)
    assert error(weight, wide) < TOLERANCE[torch.bfloat16]
    outer = torch.randn(20, 48).bfloat16()
    got = torch.ops.seclcompress.acdc_matrix_backward(outer, a, d)
    want = torch.ops.seclcompress.acdc_matrix_backward(outer.float(), a.float(), d.float())
    assert all(g.dtype == torch.bfloat16 for g in got)
    assert all(error(g, w) < TOLERANCE[torch.bfloat16] for g, w in zip(got, want, strict=True))


def test_bfloat16_is_rounded_once() -> None:
    """Values are rounded at the end, not in each layer."""
    a, d = random_stack(64, 12, torch.bfloat16)
    weight = kernel.acdc_matrix(a, d, 64, 64)
    assert torch.equal(weight, kernel.acdc_matrix(a.float(), d.float(), 64, 64).bfloat16())


@pytest.mark.parametrize("channels", [(40, 48), (48, 40), (48, 48)], ids=str)
@pytest.mark.parametrize("layout", ["turned", "expanded", "rows", "columns", "strided", "negated"])
def test_a_gradient_of_any_layout(channels: tuple[int, int], layout: str) -> None:
    """Autograd passes gradients of such layouts: that of a sum is expanded."""
    a, d = (t.requires_grad_() for t in random_stack(48, 3, torch.float32))
    weight = kernel.acdc_matrix(a, d, *channels)
    grad = torch.randn_like(weight)
    other = {
        "turned": grad.mT.contiguous().mT,
        "expanded": torch.ones(1, 1).expand_as(grad),
        "rows": grad[:1].expand_as(grad),
        "columns": grad[:, :1].expand_as(grad),
        "negated": torch._neg_view(grad),
        "strided": torch.stack([grad, grad], -1)[..., 0],
    }[layout]
    got = torch.autograd.grad(weight, (a, d), other, retain_graph=True)
    want = torch.autograd.grad(weight, (a, d), other.clone(memory_format=torch.contiguous_format))
    assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("channels", [(6, 6), (4, 6), (6, 3)], ids=str)
def test_gradcheck(channels: tuple[int, int]) -> None:
    a, d = (t.requires_grad_() for t in random_stack(6, 2, torch.float64))
    assert torch.autograd.gradcheck(lambda a, d: kernel.acdc_matrix(a, d, *channels), (a, d))
    (grad,) = torch.autograd.grad(kernel.acdc_matrix(a, d.detach(), *channels).sum(), a)
    assert grad.shape == a.shape


def test_many_gradients_at_once() -> None:
    """`is_grads_batched` passes tensors that only the dispatcher can read."""
    a, d = (t.requires_grad_() for t in random_stack(12, 2, torch.float64))
    weight, outer = kernel.acdc_matrix(a, d, 12, 7), torch.randn(3, 7, 12, dtype=torch.float64)
    together = torch.autograd.grad(weight, (a, d), outer, retain_graph=True, is_grads_batched=True)
    for i, one in enumerate(outer):
        alone = torch.autograd.grad(weight, (a, d), one, retain_graph=True)
        assert all(torch.equal(t[i], g) for t, g in zip(together, alone, strict=True))


def test_second_derivative_is_refused() -> None:
    a, d = (t.requires_grad_() for t in random_stack(6, 2, torch.float64))
    weight = kernel.acdc_matrix(a, d, 6, 6).square().sum()
    (grad,) = torch.autograd.grad(weight, a, create_graph=True)
    with pytest.raises(NotImplementedError, match="once, not twice"):
        grad.sum().backward()


@pytest.mark.parametrize("channels", [(256, 256), (100, 256)], ids=str)
def test_threads_do_not_change_a_bit(channels: tuple[int, int]) -> None:
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        a, d = (t.requires_grad_() for t in random_stack(256, 4, torch.float32))
        weight = kernel.acdc_matrix(a, d, *channels)
        results.append((weight, *torch.autograd.grad(weight.square().sum(), (a, d))))
    assert all(
        torch.equal(one, other)
        for r in results[1:]
        for one, other in zip(results[0], r, strict=True)
    )


def test_what_is_not_finite_reaches_the_matrix() -> None:
    """An infinite factor of an input channel reaches its column, a NaN of a frequency every entry."""
    a, d = random_stack(40, 2, torch.float32)
    a[0, 3] = torch.inf
    finite = kernel.acdc_matrix(a, d, 40, 40).isfinite()
    assert not finite[:, 3].any()
    assert finite.sum() == 39 * 40
    a[0, 3], d[0, 3] = 1.0, torch.nan
    assert not kernel.acdc_matrix(a, d, 40, 40).isfinite().any()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("n", [20, 22])  # by the kernel, and by torch.fft
@pytest.mark.parametrize("channels", [(15, 20), (20, 15), (20, 20)], ids=str)
def test_opcheck(dtype: torch.dtype, n: int, channels: tuple[int, int]) -> None:
    """Schema, fake implementation, autograd registration, AOT dispatch."""
    a, d = (t.mT.contiguous().mT.requires_grad_() for t in random_stack(n, 2, dtype))
    torch.library.opcheck(torch.ops.seclcompress.acdc_matrix.default, (a, d, *channels))
    grad = torch.randn(channels[1], channels[0], dtype=dtype)
    plain = (grad, a.detach(), d.detach())  # its own gradient is refused on purpose
    torch.library.opcheck(torch.ops.seclcompress.acdc_matrix_backward.default, plain)


def test_compile_and_export() -> None:
    """The operator is one node of one graph, which gives the same bits."""

    class Multiply(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            a, d = random_stack(24, 2, torch.float32)
            self.a, self.d = torch.nn.Parameter(a), torch.nn.Parameter(d)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ kernel.acdc_matrix(self.a, self.d, 20, 24).mT

    module, x = Multiply(), torch.randn(3, 20)
    assert_compiled_alike(module, x)
    exported = torch.export.export(module, (x,))
    assert any("acdc_matrix" in str(node.target) for node in exported.graph.nodes)
    assert torch.equal(exported.module()(x), module(x))


def test_who_looks_on_sees_the_operator() -> None:
    a, d = random_stack(12, 2, torch.float32)
    with FakeTensorMode() as mode:
        fake = kernel.acdc_matrix(mode.from_tensor(a), mode.from_tensor(d), 12, 5)
    assert fake.shape == (5, 12)
    traced = torch.fx.experimental.proxy_tensor.make_fx(lambda a: kernel.acdc_matrix(a, d, 12, 5))(
        a
    )
    assert "seclcompress.acdc_matrix" in traced.code
    with FlopCounterMode(display=False):
        assert torch.equal(kernel.acdc_matrix(a, d, 12, 5), traced(a))
    meta = kernel.acdc_matrix(a.to("meta"), d.to("meta"), 12, 5)
    assert (meta.shape, meta.device.type) == ((5, 12), "meta")


FACTORS = torch.randn(3, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FACTORS, torch.randn(3, 9), 8, 8), r"a has shape \(3, 8\) and d \(3, 9\)"),
        ((FACTORS[:0], FACTORS[:0], 8, 8), "at least one layer"),
        ((FACTORS[0], FACTORS[0], 8, 8), r"must be \(layers, N\)"),
        ((FACTORS.half(), FACTORS.half(), 8, 8), "a is torch.float16: the kernel knows"),
        ((FACTORS, FACTORS, 9, 8), "in_channels is 9: it must be 1 to N = 8"),
        ((FACTORS, FACTORS, 8, 0), "out_channels is 0"),
        ((FACTORS, FACTORS.to("meta"), 8, 8), "d is on meta and a on cpu"),
    ],
    ids=range(7),
)
def test_refusals(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernel.acdc_matrix(*arguments)


def test_backward_checks_its_sizes() -> None:
    """The operators can be called directly; wrong operands must not reach the compiled code."""
    forward = torch.ops.seclcompress.acdc_matrix
    with pytest.raises(ValueError, match=r"d is torch\.float64 and a is torch\.float32"):
        forward(FACTORS, FACTORS.double(), 8, 8)
    backward = torch.ops.seclcompress.acdc_matrix_backward
    with pytest.raises(ValueError, match="gradient has shape"):
        backward(torch.randn(8), FACTORS, FACTORS)
    with pytest.raises(ValueError, match="in_channels is 9"):
        backward(torch.randn(8, 9), FACTORS, FACTORS)
    with pytest.raises(ValueError, match=r"gradient is torch\.float64 and a is torch\.float32"):
        backward(torch.randn(8, 8).double(), FACTORS, FACTORS)


def test_a_tensor_without_memory_is_no_identity() -> None:
    x = torch.randn(1, 8, 4)
    x.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="no memory"):
        kernel.acdc_stack(x, FACTORS, FACTORS, 8)
    with pytest.raises(ValueError, match="identity of more than one image"):
        by_native._native.forward(
            by_native._common_arguments(torch.randn(2, 8, 4), FACTORS, FACTORS),
            None,
            layout.view(torch.randn(2, 8, 4)),
            *(0, 0, False),
        )
