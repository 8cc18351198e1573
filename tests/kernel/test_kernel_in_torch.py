"""The fused kernel as an operator of torch: modes, tracing, compiling, exporting, fake devices."""

from __future__ import annotations

import pytest
import torch
from compiled_kernel import RUNS_KERNEL
from dense_reference import (
    TOLERANCE,
    assert_compiled_alike,
    error,
    random_stack,
    reference,
)
from new_process import words_of_a_new_process
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from seclcompress import kernel
from seclcompress.kernel import by_fft, matrix, ops
from seclcompress.kernel.watched import nobody_watches

pytestmark = RUNS_KERNEL


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
