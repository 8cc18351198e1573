from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seclcompress import stack
from seclcompress.transforms import dct_matrix


def by_definition(x: Tensor, a: Tensor, d: Tensor, out: int, extra_riffle: bool) -> Tensor:
    """Equation 2 of the paper, written out with matrices."""
    depth, n = a.shape
    c = dct_matrix(n, x.dtype, x.device)
    order = [i // 2 + (i % 2) * ((n + 1) // 2) for i in range(n)]
    riffle = torch.eye(n, dtype=x.dtype)[:, order]
    y = x[:, [i % x.shape[1] for i in range(n)]]
    for layer in range(depth):
        middle = riffle if extra_riffle else torch.eye(n, dtype=x.dtype)
        y = y @ torch.diag(a[layer]) @ c @ middle @ torch.diag(d[layer]) @ c.T @ riffle
    folded = torch.zeros(len(x), out, dtype=x.dtype)
    for i in range(n):
        folded[:, i % out] += y[:, i]
    return folded


shapes = st.integers(1, 40).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(1, n), st.integers(1, n), st.integers(1, 4))
)


# If hypothesis drew `extra` and `way`, the rarest of the six pairs would come once in 100 examples.
@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("way", ["matmul", "fft", "kernel"])
@given(shape=shapes, seed=st.integers(0, 99))
@settings(max_examples=40)
def test_every_way_is_the_definition(
    shape: tuple[int, int, int, int], extra: bool, seed: int, way: str
) -> None:
    n, c_in, c_out, depth = shape
    generator = torch.Generator().manual_seed(seed)
    a, d = torch.randn(2, depth, n, dtype=torch.float64, generator=generator)
    x = torch.randn(2, c_in, dtype=torch.float64, generator=generator)
    expected = by_definition(x, a, d, c_out, extra)
    scale = expected.abs().max().clamp_min(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack, "FFT_FROM_LENGTH", 1 if way == "fft" else 10**6)
        if way != "kernel":
            patch.setattr(stack.kernel, "supports", lambda *about: False)
        w = stack.stack_matrix(a, d, c_in, c_out, extra_riffle=extra)
        run = stack.run_stack(x, a, d, c_out, extra_riffle=extra)
    assert w.shape == (c_out, c_in)
    for result in (stack.apply_stack(x, a, d, c_out, extra_riffle=extra), run, x @ w.T):
        assert (result - expected).abs().max() / scale < 1e-9


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize(("c_in", "c_out"), [(4, 3), (3, 4), (5, 5)])
@pytest.mark.parametrize("by_fft", [False, True])
def test_gradients(c_in: int, c_out: int, extra: bool, by_fft: bool, monkeypatch) -> None:
    monkeypatch.setattr(stack, "FFT_FROM_LENGTH", 1 if by_fft else 10**6)
    monkeypatch.setattr(stack.kernel, "supports", lambda *about: False)
    n = max(c_in, c_out)
    a, d = torch.randn(2, 2, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a, d = a.requires_grad_(), d.clone().requires_grad_()
    x = torch.randn(2, c_in, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, a, d: stack.apply_stack(x, a, d, c_out, extra_riffle=extra), (x, a, d)
    )
    assert torch.autograd.gradcheck(
        lambda a, d: stack.stack_matrix(a, d, c_in, c_out, extra_riffle=extra), (a, d)
    )


def test_expand_repeats_and_fold_adds() -> None:
    x = torch.arange(3.0)
    assert stack.expand(x, 8).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert stack.fold(torch.arange(8.0), 3).tolist() == [0 + 3 + 6, 1 + 4 + 7, 2 + 5]


def test_no_extra_riffle_unless_asked_for() -> None:
    a, d = torch.randn(2, 3, 8, dtype=torch.float64)
    x = torch.randn(5, 6, dtype=torch.float64)
    expected = by_definition(x, a, d, 7, extra_riffle=False)
    for result in (
        stack.apply_stack(x, a, d, 7),
        stack.run_stack(x, a, d, 7),
        x @ stack.stack_matrix(a, d, 6, 7).T,
    ):
        torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("by_fft", [False, True])
@pytest.mark.parametrize(("c_in", "c_out"), [(4, 3), (3, 4)])
def test_as_many_a_as_d(c_in: int, c_out: int, by_fft: bool, extra: bool, monkeypatch) -> None:
    monkeypatch.setattr(stack, "FFT_FROM_LENGTH", 1 if by_fft else 10**6)
    monkeypatch.setattr(stack.kernel, "supports", lambda *about: False)
    a, d = torch.ones(2, 4), torch.ones(3, 4)
    with pytest.raises(ValueError, match="longer"):
        stack.apply_stack(torch.ones(1, c_in), a, d, c_out, extra_riffle=extra)
    with pytest.raises(ValueError, match="longer"):
        stack.stack_matrix(a, d, c_in, c_out, extra_riffle=extra)


@pytest.mark.parametrize(("c_in", "c_out"), [(4, 3), (3, 4)])
def test_the_matrix_lies_where_the_diagonals_do(c_in: int, c_out: int) -> None:
    a, d = torch.empty(2, 3, 4, dtype=torch.float64, device="meta")
    w = stack.stack_matrix(a, d, c_in, c_out)
    assert (w.device.type, w.dtype, w.shape) == ("meta", torch.float64, (c_out, c_in))


def test_a_step_costs_what_is_cheaper() -> None:
    assert stack.vector_cost(64, 12, fused=False) == 2 * 12 * 64 * 64
    assert stack.vector_cost(255, 1, fused=False) == 2 * 255 * 255
    assert stack.vector_cost(256, 1, fused=False) == 5 * (4 * 256 + 5 * 256 * 8)
    assert stack.vector_cost(1024, 1, fused=False) == 5 * (4 * 1024 + 5 * 1024 * 10)
    assert stack.vector_cost(1024, 1, fused=True) == 4 * 1024 + 5 * 1024 * 10


def test_costs_by_hand() -> None:
    assert stack.stack_mult_adds(32, 12) == 12 * (4 * 32 + 5 * 32 * 5)
    assert stack.stack_mult_adds(1, 3) == 12
    assert stack.stack_mult_adds(90, 2) == 2 * (360 + math.ceil(450 * math.log2(90)))
    assert stack.stack_parameters(64, 12) == 1536


@given(power=st.integers(0, 40), depth=st.integers(1, 99))
def test_powers_of_two_are_not_rounded(power: int, depth: int) -> None:
    assert stack.stack_mult_adds(2**power, depth) == depth * 2**power * (4 + 5 * power)


def test_break_even_against_a_square_matrix() -> None:
    """docs/mathematics.md: below these lengths N, the stack costs more than N² Mult-Adds."""
    for depth, length in {2: 70, 4: 163, 8: 374, 12: 603, 16: 842}.items():
        assert stack.stack_mult_adds(length - 1, depth) > (length - 1) ** 2
        assert stack.stack_mult_adds(length + 1, depth) < (length + 1) ** 2
