from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st

from seclcompress import transforms as tf

lengths = st.integers(1, 97) | st.sampled_from([128, 210, 256, 343, 509, 1000])


def vectors(n: int, seed: int = 0, rows: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, n, dtype=torch.float64, generator=generator)


@given(n=lengths, seed=st.integers(0, 1000))
def test_dct_is_scipys(n: int, seed: int) -> None:
    x = vectors(n, seed)
    expected = scipy.fft.dct(x.numpy(), norm="ortho")
    np.testing.assert_allclose(tf.dct(x).numpy(), expected, atol=1e-10)


@given(n=lengths, seed=st.integers(0, 1000))
def test_idct_is_scipys_and_inverts(n: int, seed: int) -> None:
    x = vectors(n, seed)
    np.testing.assert_allclose(
        tf.idct(x).numpy(), scipy.fft.idct(x.numpy(), norm="ortho"), atol=1e-10
    )
    torch.testing.assert_close(tf.idct(tf.dct(x)), x, atol=1e-12, rtol=0)


@given(n=lengths)
def test_matrix_is_the_transform_and_orthogonal(n: int) -> None:
    c = tf.dct_matrix(n, torch.float64, torch.device("cpu"))
    x = vectors(n)
    torch.testing.assert_close(x @ c, tf.dct(x), atol=1e-11, rtol=0)
    torch.testing.assert_close(c @ c.T, torch.eye(n, dtype=torch.float64), atol=1e-11, rtol=0)


def filtered(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    return tf.leave_order(tf.filter_ordered(tf.enter_order(x), gain))


@given(n=lengths, seed=st.integers(0, 1000))
def test_the_filter_is_dct_scale_idct(n: int, seed: int) -> None:
    x, gain = vectors(n, seed), vectors(n, seed + 1, rows=1)[0]
    expected = tf.idct(tf.dct(x) * gain)
    torch.testing.assert_close(filtered(x, gain), expected, atol=1e-11, rtol=0)


@given(n=lengths)
def test_orders_and_riffles_undo_each_other(n: int) -> None:
    x = torch.arange(n)
    assert torch.equal(tf.unriffle(tf.riffle(x)), x)
    assert torch.equal(tf.leave_order(tf.enter_order(x)), x)
    direct = tf.enter_order(tf.riffle(tf.leave_order(x)))
    assert torch.equal(tf.riffle_ordered(x), direct)
    assert torch.equal(tf.unriffle_ordered(direct), x)


@given(n=lengths, seed=st.integers(0, 1000))
def test_gradients_of_the_filter_are_autograds(n: int, seed: int) -> None:
    x, outer = vectors(n, seed, rows=6).view(2, 3, n).requires_grad_(), vectors(n, 2, rows=6)
    gain = vectors(n, seed + 1, rows=1)[0].requires_grad_()
    outer = outer.view(2, 3, n)
    expected = torch.autograd.grad(tf.filter_ordered(x, gain), (x, gain), outer)
    with torch.no_grad():
        found = tf.filter_gradients_ordered(x, gain, outer)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, [0]), (2, [0, 1]), (5, [0, 3, 1, 4, 2]), (6, [0, 3, 1, 4, 2, 5])],
)
def test_riffle_splits_with_the_longer_half_first(n: int, expected: list[int]) -> None:
    assert tf.riffle(torch.arange(n)).tolist() == expected


@pytest.mark.parametrize("function", [tf.dct, tf.idct])
@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_gradients(function, n: int) -> None:
    assert torch.autograd.gradcheck(function, vectors(n, rows=2).requires_grad_())


@pytest.mark.parametrize("n", [1, 5, 8])
def test_gradient_of_the_filter(n: int) -> None:
    x, gain = vectors(n, rows=2).requires_grad_(), vectors(n, 1, rows=1)[0].requires_grad_()
    assert torch.autograd.gradcheck(filtered, (x, gain))


@given(n=st.integers(1, 5000))
def test_next_fast_length_is_the_nearest_smooth_one(n: int) -> None:
    def smooth(m: int) -> bool:
        for radix in (2, 3, 5, 7):
            while m % radix == 0:
                m //= radix
        return m == 1

    found = tf.next_fast_length(n)
    assert found >= n
    assert [m for m in range(n, found + 1) if smooth(m)] == [found]


def test_next_fast_length_of_torchvisions_odd_widths() -> None:
    widths = [58, 88, 116, 176, 208, 232, 352, 416, 819]
    padded = [60, 90, 120, 180, 210, 240, 360, 420, 840]
    assert [tf.next_fast_length(n) for n in widths] == padded
    with pytest.raises(ValueError, match="at least 1, got 0"):
        tf.next_fast_length(0)


def test_tables_outlive_the_mode_they_were_made_in() -> None:
    with torch.inference_mode():
        tf.dct(torch.ones(2, 33))
    x = torch.ones(2, 33, requires_grad=True)
    tf.dct(x).sum().backward()
    assert x.grad is not None
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        tf.dct(torch.ones(2, 34))
    assert torch.isfinite(tf.dct(torch.ones(2, 34))).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_results_have_the_inputs_dtype_and_device(dtype: torch.dtype, device: str) -> None:
    x = torch.ones(3, 10, dtype=dtype, device=device)
    matrix = tf.dct_matrix(10, dtype, x.device)
    for y in (tf.dct(x), tf.idct(x), filtered(x, x[0]), x @ matrix):
        assert (y.dtype, y.device, y.shape) == (x.dtype, x.device, x.shape)


def test_compiled_transforms() -> None:
    """Compiled transforms leave no table in the cache that only their graph could use."""
    torch._dynamo.reset()
    compiled = torch.compile(tf.dct, backend="aot_eager", fullgraph=True)
    x = torch.randn(3, 39)
    torch.testing.assert_close(compiled(x), tf.dct(x))
    matrix = torch.compile(tf.dct_matrix, backend="aot_eager", fullgraph=True)
    about = (41, torch.float32, x.device)
    torch.testing.assert_close(matrix(*about), tf.dct_matrix(*about))


def test_tables_are_rounded_once() -> None:
    exact, rounded = (
        tf.dct_matrix(88, dtype, torch.device("cpu")) for dtype in (torch.float64, torch.float32)
    )
    assert torch.equal(exact.float(), rounded)


def test_long_transforms_stay_exact() -> None:
    x = vectors(4096)
    c = tf.dct_matrix(4096, torch.float64, torch.device("cpu"))
    torch.testing.assert_close(x @ c, tf.dct(x), atol=1e-10, rtol=0)
