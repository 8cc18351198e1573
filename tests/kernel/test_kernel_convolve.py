"""The fused convolution against torch's own in float64: shapes, geometry, layouts, threads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from seclcompress import kernel
from seclcompress.kernel import by_native

PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))
SAME = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)


@pytest.fixture
def way(instruction_set: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An instruction set of the kernel, or torch's own operations in its place."""
    if instruction_set == "fft":
        monkeypatch.setattr(by_native, "there", lambda: False)
    return instruction_set


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_definition(
    x: Tensor,
    filters: Tensor | None,
    filter_bias: Tensor | None,
    matrix: Tensor | None,
    bias: Tensor | None,
    relu: bool,
    geometry: tuple[tuple[int, int], ...],
) -> Tensor:
    """Without a residual; in float64, by explicit padding, sums over taps, and a product."""
    x = x.double()
    stride, padding, dilation = geometry
    rows, columns = (1, 1) if filters is None else filters.shape[:2]
    x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    high = (x.shape[2] - dilation[0] * (rows - 1) - 1) // stride[0] + 1
    wide = (x.shape[3] - dilation[1] * (columns - 1) - 1) // stride[1] + 1
    y = x.new_zeros(*x.shape[:2], high, wide)
    for i in range(rows):
        for j in range(columns):
            top, left = i * dilation[0], j * dilation[1]
            part = x[:, :, top :: stride[0], left :: stride[1]][:, :, :high, :wide]
            y += part if filters is None else part * filters[i, j].double()[:, None, None]
    y = y if filter_bias is None else y + filter_bias[:, None, None]
    y = y if matrix is None else torch.einsum("oc,bchw->bohw", matrix.double(), y)
    y = y if bias is None else y + bias[:, None, None]
    return y.relu() if relu else y


@SAME
@given(data=st.data())
def test_it_is_the_definition(data: st.DataObject, way: str, restore_threads: None) -> None:
    draw = data.draw
    torch.set_num_threads(draw(st.integers(1, 3), "threads"))
    parts = draw(st.sampled_from(["filters", "matrix", "both"]))
    batch, channels = draw(st.integers(1, 3)), draw(st.integers(1, 70))
    out = draw(st.integers(1, 70)) if parts != "filters" else channels
    taps = draw(PAIR) if parts != "matrix" else (1, 1)
    geometry = (draw(PAIR), draw(st.tuples(st.integers(0, 3), st.integers(0, 3))), draw(PAIR))
    least = [
        max(1, apart * (tap - 1) + 1 - 2 * edge)
        for tap, edge, apart in zip(taps, *geometry[1:], strict=True)
    ]
    sizes = [draw(st.integers(low, low + 18)) for low in least]
    x = randn(batch, channels, *sizes)
    if draw(st.booleans(), "channels last"):
        x = x.contiguous(memory_format=torch.channels_last)
    filters = randn(*taps, channels, seed=1) if parts != "matrix" else None
    filter_bias = randn(channels, seed=2) if filters is not None and draw(st.booleans()) else None
    matrix = randn(out, channels, seed=3) if parts != "filters" else None
    bias = randn(out, seed=4) if matrix is not None and draw(st.booleans()) else None
    relu = draw(st.booleans(), "relu")
    operands = (
        x,
        filters,
        filter_bias,
        None if matrix is None else kernel.pack_matrix(matrix),
        bias,
    )
    expected = by_definition(x, filters, filter_bias, matrix, bias, False, geometry)
    residual = None
    if draw(st.booleans(), "residual"):
        residual = randn(*expected.shape, seed=5)
        residual = residual[:, :1] if draw(st.booleans(), "broadcast") else residual
        expected = expected + residual
    expected = expected.relu() if relu else expected
    with torch.inference_mode():
        found = kernel.convolve(*operands, residual, out, relu, *geometry)
    scale = max(1.0, float(expected.abs().max()))
    assert found.shape == expected.shape
    assert (found.double() - expected).abs().max() <= 1e-5 * scale
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_images_in_several_tiles(threads: int, way: str, restore_threads: None) -> None:
    torch.set_num_threads(threads)
    x, filters, matrix = randn(2, 96, 41, 37), randn(3, 3, 96, seed=1), randn(130, 96, seed=2)
    geometry = ((2, 1), (1, 1), (1, 1))
    expected = by_definition(x, filters, None, matrix, None, True, geometry)
    packed = kernel.pack_matrix(matrix)
    found = kernel.convolve(x, filters, None, packed, None, None, 130, True, *geometry)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("out", [1, 15, 16, 17, 64])
def test_packing_is_undone(out: int) -> None:
    matrix = randn(out, 5)
    packed = kernel.pack_matrix(matrix)
    assert packed.shape == (-(-out // 16), 6, 16)
    assert torch.equal(kernel.unpack_matrix(packed, out), matrix)


def test_not_a_number_stays(way: str) -> None:
    x = torch.full((1, 4, 3, 3), float("nan"))
    packed = kernel.pack_matrix(torch.eye(4))
    assert kernel.convolve(x, None, None, packed, None, None, 4, True).isnan().all()


def test_an_empty_batch(way: str) -> None:
    packed = kernel.pack_matrix(randn(6, 4))
    found = kernel.convolve(randn(0, 4, 3, 3), None, None, packed, None, None, 6, False)
    assert found.shape == (0, 6, 3, 3)


def test_a_derivative_that_is_wanted_is_torchs() -> None:
    x = randn(1, 4, 5, 5).double().requires_grad_()
    filters = randn(3, 3, 4, seed=1).double()
    packed = kernel.pack_matrix(randn(6, 4, seed=2).double())
    assert torch.autograd.gradcheck(
        lambda x: kernel.convolve(x, filters, None, packed, None, None, 6, False, (2, 2), (1, 1)), x
    )


def test_the_operator_passes_torchs_checks() -> None:
    packed, filters = kernel.pack_matrix(randn(6, 4, seed=2)), randn(3, 3, 4, seed=1)
    operands = (randn(2, 4, 7, 5), filters, randn(4), packed, randn(6), randn(2, 6, 4, 3))
    rest = (6, True, [2, 2], [1, 1], [1, 1])
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.seclcompress.convolve, (*operands, *rest), test_utils=checks)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": randn(4, 5, 5)}, "x has shape"),
        ({"filters": None, "matrix": None}, "neither filters nor matrix"),
        ({"filters": randn(3, 3, 5)}, "filters have shape"),
        ({"matrix": randn(1, 4, 16)}, "matrix has shape"),
        ({"matrix": None}, "out_channels is 6"),
        ({"bias": randn(5)}, "bias has shape"),
        ({"residual": randn(1, 6, 4, 5)}, "residual has shape"),
        ({"stride": (0, 1)}, "stride"),
        ({"dilation": (5, 1)}, "less than the kernel"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], words: str) -> None:
    fits = {
        "x": randn(1, 4, 5, 5),
        "filters": randn(3, 3, 4),
        "filter_bias": None,
        "matrix": kernel.pack_matrix(randn(6, 4)),
        "bias": None,
        "residual": None,
        "out_channels": 6,
        "relu": False,
    }
    with pytest.raises(ValueError, match=words):
        kernel.convolve(**{**fits, **change})
