"""The operator `seclcompress.AcdcStack` in ONNX Runtime, against the operator of torch.

Every function of ONNX Runtime's interface that the library uses is run here: what is wrong with one of
the positions in csrc/onnxruntime/abi.h ends in a crash or another result.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import seclcompress
from seclcompress import kernel
from seclcompress.errors import UsageError
from seclcompress.kernel import library

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(
    not library.has_onnxruntime_library(), reason="built without a compiler"
)

Array = np.ndarray[Any, Any]
ALL = ("x", "a", "d", "bias", "scale")


def operands(
    image: tuple[int, ...], n: int, depth: int, out: int, names: tuple[str, ...] = ALL
) -> dict[str, Array]:
    """Operands of torch's operator by name; those that are not named are left out."""
    random = np.random.default_rng(0)
    diagonal = (depth, n)
    made = {
        "x": random.standard_normal(image),
        "a": random.normal(1, 0.1, diagonal) * random.choice([-1, 1], diagonal),
        "d": random.normal(1, 0.1, diagonal) * random.choice([-1, 1], diagonal),
        "bias": random.standard_normal(out),
        "scale": random.uniform(0.5, 2, out),
    }
    return {name: made[name].astype(np.float32) for name in names}


def model(
    values: dict[str, Array],
    out: int,
    *,
    held: bool = True,
    shape: list[str | int | None] | None = None,
    **attributes: int,
) -> bytes:
    """A model of one node; the operands besides x are in the file (`held`), or inputs."""
    from onnx import TensorProto, helper, numpy_helper

    optional = [name if name in values else "" for name in ALL]
    while not optional[-1]:
        optional.pop()
    attributes = {"out_channels": out, "channels_last": 0} | attributes
    node = helper.make_node("AcdcStack", optional, ["y"], domain="seclcompress", **attributes)
    others = [name for name in values if name != "x"]
    inputs = ["x"] if held else list(values)
    shapes: dict[str, Any] = {name: list(value.shape) for name, value in values.items()}
    shapes["x"] = shape or shapes["x"]
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "one_node",
        [helper.make_tensor_value_info(name, kind, shapes[name]) for name in inputs],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(values[name], name) for name in others] if held else [],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("seclcompress", 1)]
    written: bytes = helper.make_model(
        graph, opset_imports=opsets, ir_version=10
    ).SerializeToString()
    return written


def session(written: bytes, threads: int = 2) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(seclcompress.onnxruntime_library())
    return ort.InferenceSession(written, options, providers=["CPUExecutionProvider"])


def by_torch(values: dict[str, Array], out: int) -> Array:
    tensors = {name: torch.from_numpy(value) for name, value in values.items()}
    x, a, d = (tensors[name] for name in ("x", "a", "d"))
    y = kernel.acdc_stack(x, a, d, out, tensors.get("bias"), scale=tensors.get("scale"))
    return np.asarray(y)


def assert_alike(found: Array, expected: Array) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max(initial=0) <= 1e-5 * np.abs(expected).max(initial=0)


@pytest.mark.parametrize(
    ("image", "n", "out"),
    [
        ((1, 64, 8, 8), 64, 64),
        ((2, 48, 5, 7), 105, 100),
        ((3, 7, 1, 1), 7, 5),
        ((1, 3, 33, 31), 8, 8),
        ((2, 640, 7, 7), 1024, 1000),
        ((5, 96), 96, 10),
        ((2, 12, 4, 3, 5), 15, 12),
    ],
    ids=str,
)
@pytest.mark.parametrize("depth", [1, 4, 12])
def test_it_computes_what_torch_computes(
    image: tuple[int, ...], n: int, out: int, depth: int
) -> None:
    values = operands(image, n, depth, out)
    [found] = session(model(values, out)).run(None, {"x": values["x"]})
    assert_alike(found, by_torch(values, out))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_sizes(data: st.DataObject) -> None:
    n = data.draw(st.sampled_from([1, 2, 6, 16, 27, 45, 64, 98, 128]))
    channels, out = data.draw(st.integers(1, n)), data.draw(st.integers(1, n))
    batch, height, width = (data.draw(st.integers(*ends)) for ends in ((1, 3), (1, 9), (1, 9)))
    depth, names = (
        data.draw(st.integers(1, 12)),
        data.draw(st.sampled_from([ALL, ALL[:4], ALL[:3]])),
    )
    last, held = data.draw(st.booleans()), data.draw(st.booleans())
    values = operands((batch, channels, height, width), n, depth, out, names)
    expected = by_torch(values, out)
    if last:
        values["x"] = np.ascontiguousarray(np.moveaxis(values["x"], 1, -1))
        expected = np.moveaxis(expected, 1, -1)
    written = model(values, out, held=held, channels_last=int(last))
    given_here = {"x": values["x"]} if held else values
    [found] = session(written, threads=data.draw(st.integers(1, 3))).run(None, given_here)
    assert_alike(found, expected)


def test_scale_without_bias() -> None:
    values = operands((2, 6, 3, 3), 8, 2, 8, ("x", "a", "d", "scale"))
    [found] = session(model(values, 8)).run(None, {"x": values["x"]})
    assert_alike(found, by_torch(values, 8))


def test_one_session_takes_any_number_of_images() -> None:
    values = operands((4, 24, 5, 5), 32, 3, 32)
    runs = session(model(values, 32, shape=["batch", 24, "height", "width"]))
    assert runs.get_outputs()[0].shape == ["batch", 32, "height", "width"]
    for batch, height, width in ((1, 5, 5), (4, 2, 9), (0, 5, 5), (2, 0, 3), (3, 1, 1)):
        x = np.random.default_rng(1).standard_normal((batch, 24, height, width)).astype(np.float32)
        [found] = runs.run(None, {"x": x})
        assert_alike(found, by_torch(values | {"x": x}, 32))


@pytest.mark.parametrize("last", [0, 1])
def test_the_runtime_knows_the_outputs_shape(last: int) -> None:
    values = operands((2, 6, 6, 6), 8, 1, 7)
    written = model(values, 7, channels_last=last)
    assert session(written).get_outputs()[0].shape == ([2, 6, 6, 7] if last else [2, 7, 6, 6])
    # An unknown size without a name is no size.
    runs = session(model(values, 7, channels_last=last, shape=[None, 6, 6, 6]))
    [found] = runs.run(None, {"x": values["x"]})
    assert found.shape == ((2, 6, 6, 7) if last else (2, 7, 6, 6))


def test_values_that_are_not_finite_stay_where_they_are() -> None:
    values = operands((1, 16, 8, 8), 16, 2, 16)
    values["x"][0, 3, 0, 0] = np.inf
    [found] = session(model(values, 16)).run(None, {"x": values["x"]})
    assert np.isfinite(found[:, :, 1:]).all()
    assert not np.isfinite(found[0, :, 0, 0]).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": (2, 9, 3, 3)}, "x's number of channels is 9; it must be from 1 to N = 8"),
        ({"x": (2,)}, r"x has shape \(2\); it must have at least 2 dimensions"),
        ({"d": (2, 9)}, r"a has shape \(3, 8\) and d \(2, 9\); both must be \(layers, N\)"),
        ({"a": (3, 11), "d": (3, 11)}, r"a has shape \(3, 11\); N must have no prime factors but"),
        ({"bias": (7,)}, r"bias has shape \(7\); it must have one number for each output channel"),
        ({"scale": (1, 8)}, r"scale has shape \(1, 8\)"),
    ],
    ids=str,
)
@pytest.mark.parametrize("held", [True, False])
def test_a_wrong_model_is_refused_in_words(
    change: dict[str, tuple[int, ...]], words: str, held: bool
) -> None:
    values = operands((2, 6, 3, 3), 8, 3, 8)
    values |= {name: np.ones(shape, dtype=np.float32) for name, shape in change.items()}
    with pytest.raises(Exception, match=rf"seclcompress\.AcdcStack: {words}"):
        session(model(values, 8, held=held)).run(None, {"x": values["x"]} if held else values)


def test_wrong_attributes_are_refused() -> None:
    values = operands((2, 6, 3, 3), 8, 3, 8, ("x", "a", "d"))
    with pytest.raises(Exception, match="out_channels is 9; it must be from 1 to N = 8"):
        session(model(values, 9)).run(None, {"x": values["x"]})
    written = model(values, 8).replace(b"out_channels", b"out_channelz")
    with pytest.raises(Exception, match="out_channels"):
        session(written)


def test_an_older_runtime_is_refused_in_words() -> None:
    """A runtime whose newest table is older than the one that is asked for has no such table."""
    said: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
    def create_status(code: int, message: bytes) -> int:
        said.append(message)
        return 1

    table = (ctypes.c_void_p * 1)(ctypes.cast(create_status, ctypes.c_void_p))

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
    def get_api(version: int) -> int | None:
        return ctypes.addressof(table) if version == 1 else None

    @ctypes.CFUNCTYPE(ctypes.c_void_p)
    def get_version() -> int:
        return ctypes.addressof(version)

    version = ctypes.create_string_buffer(b"1.16.3")
    pointers = [ctypes.cast(function, ctypes.c_void_p) for function in (get_api, get_version)]
    base = (ctypes.c_void_p * 2)(*pointers)
    register = ctypes.CDLL(seclcompress.onnxruntime_library()).RegisterCustomOps
    register.argtypes, register.restype = [ctypes.c_void_p, ctypes.c_void_p], ctypes.c_void_p
    assert register(None, base) == 1
    assert said == [b"seclcompress.AcdcStack needs ONNX Runtime 1.17 or later; this one is 1.16.3"]


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_it_runs_on_the_sessions_threads_and_starts_none() -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    values = operands((4, 64, 16, 16), 64, 2, 64)
    before = threads()
    runs = session(model(values, 64), threads=4)
    assert threads() == before + 3
    runs.run(None, {"x": values["x"]})
    assert threads() == before + 3
    del runs
    alone = session(model(values, 64), threads=1)
    alone.run(None, {"x": values["x"]})
    assert threads() == before


def test_several_sessions_share_the_library() -> None:
    """The operator lives longer than the session that has registered it first."""
    values = operands((2, 16, 4, 4), 16, 2, 16)
    written, expected = model(values, 16), by_torch(values, 16)
    for _ in range(2):
        runs = [session(written) for _ in range(3)]
        while runs:
            [found] = runs.pop(0).run(None, {"x": values["x"]})
            assert_alike(found, expected)


def test_it_needs_neither_python_nor_torch(tmp_path: Path) -> None:
    values = operands((1, 16, 3, 3), 16, 2, 16)
    (tmp_path / "it.onnx").write_bytes(model(values, 16))
    np.save(tmp_path / "x.npy", values["x"])
    code = f"""
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.register_custom_ops_library({seclcompress.onnxruntime_library()!r})
session = onnxruntime.InferenceSession("it.onnx", options)
[y] = session.run(None, {{"x": numpy.load("x.npy")}})
numpy.save("y.npy", y)
assert not {{"torch", "seclcompress"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert_alike(np.load(tmp_path / "y.npy"), by_torch(values, 16))


@pytest.mark.skipif(sys.platform != "linux", reason="asks ldd")
def test_it_is_linked_to_no_python() -> None:
    linked = subprocess.run(
        ["ldd", seclcompress.onnxruntime_library()], capture_output=True, text=True, check=True
    ).stdout
    assert "libstdc++" in linked
    assert not [name for name in ("libpython", "libtorch", "libonnxruntime.") if name in linked]


def test_without_the_library_it_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "_PATH", tmp_path / "libseclcompress_onnxruntime.so")
    assert not library.has_onnxruntime_library()
    with pytest.raises(UsageError, match=r"without a C\+\+ compiler, or on Windows"):
        seclcompress.onnxruntime_library()
