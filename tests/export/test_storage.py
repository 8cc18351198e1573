"""Numbers stored as int8 with a scale a row, or as float16."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from graphs import run
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from seclcompress.export.graph.storage import quantised, rows_of, store_compactly
from seclcompress.export.graph.values import OPSET, held

Numbers = np.ndarray


def model_of(*tensors: Numbers) -> ir.Model:
    graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET})
    for place, numbers in enumerate(tensors):
        value = held(graph, f"held{place}", numbers)
        node = ir.Node("", "Identity", [value])
        node.outputs[0].name, node.outputs[0].type = f"out{place}", value.type
        graph.append(node)
        graph.outputs.append(node.outputs[0])
    return ir.Model(graph, ir_version=10)


def size(model: ir.Model) -> int:
    return sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value)


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 8), st.integers(1, 40)),
        elements=st.floats(-1e4, 1e4, width=32),
    )
)
def test_a_number_is_at_most_half_a_step_off(rows: Numbers) -> None:
    small, scales = quantised(rows)
    assert small.dtype == np.int8
    assert scales.shape == (len(rows), 1)
    assert (scales > 0).all()
    assert (np.abs(small * scales - rows) <= scales * 0.501).all()
    assert np.abs(small.astype(int)).max(initial=0) <= 127


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ((12, 512), 12),  # diagonals: a row each
        ((64, 32, 1, 1), 64),  # a pointwise weight
        ((64, 1, 3, 3), 64),  # depthwise filters
        ((4, 16, 64), 64),  # blocks: their last dimension
        ((16, 3, 32, 32), 1536),
        ((5000,), 1),  # a table
    ],
)
def test_which_numbers_share_a_scale(shape: tuple[int, ...], rows: int) -> None:
    assert rows_of(np.zeros(shape, np.float32)).shape[0] == rows


@pytest.mark.parametrize("shape", [(12, 512), (64, 32, 1, 1), (64, 1, 3, 3), (4, 16, 64), (5000,)])
def test_int8_in_the_runtime(shape: tuple[int, ...]) -> None:
    numbers = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    model = model_of(numbers)
    store_compactly(model, "int8")
    (found,) = run(model)
    assert found.shape == shape
    assert found.dtype == np.float32
    assert np.abs(found - numbers).max() <= np.abs(numbers).max() / 250
    assert numbers.size <= size(model) <= numbers.size * 1.5


def test_what_has_no_rows_is_stored_in_halves_where_those_hold_it() -> None:
    bias = np.linspace(-1, 1, 100, dtype=np.float32)
    large = np.array([1e6] * 100, dtype=np.float32)
    few = np.arange(6, dtype=np.float32).reshape(2, 3)
    whole = np.arange(100)
    model = model_of(bias, large, few, whole)
    store_compactly(model, "int8")
    assert size(model) == 200 + 400 + 12 + 800
    found = run(model)
    assert np.abs(found[0] - bias).max() < 1e-3
    assert (found[1] == large).all()
    assert (found[2] == few).all()
    assert (found[3] == whole).all()


def test_float16_halves_all() -> None:
    numbers = np.random.default_rng(0).normal(size=(12, 512)).astype(np.float32)
    model = model_of(numbers)
    store_compactly(model, "float16")
    assert size(model) == numbers.nbytes // 2
    assert np.abs(run(model)[0] - numbers).max() < 2e-3
