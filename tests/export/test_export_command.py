"""`seclcompress export`, `evaluate` and `bench` of files, by exit codes and words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Invoke

from seclcompress.export.formats.onnx import Onnx


@pytest.fixture
def small(invoke: Invoke) -> str:
    invoke("convert", "wrn10_1", "--depth", 2, "--num-classes", 10, "-o", "small")
    return "small"


def test_from_a_folder_to_a_file_that_is_evaluated_and_timed(invoke: Invoke, small: str) -> None:
    flags = ("export", small, "-o", "it.onnx", "--weights", "factors", "--data", "digits")
    result = invoke(*flags)
    size = Path("it.onnx").stat().st_size
    assert f"Wrote it.onnx: {size:,} bytes for" in result.stdout
    assert "top-1 before" in result.stdout
    for stage in ("Prepared:", "Made", "Compared on 72 images", "does not fold constants"):
        assert stage in result.stderr
    again = invoke("export", small, "-o", "it.onnx", code=1)
    assert "there already" in again.stderr
    assert Path("it.onnx").stat().st_size == size
    found = json.loads(invoke(*flags, "--overwrite", "--json").stdout)
    assert found["bytes"] == size
    assert found["verified"]["agreement"] == 100
    said = invoke("evaluate", "it.onnx", "--data", "digits")
    assert f"top-1 {found['after']['accuracy']:.2f} %" in said.stdout
    assert "runs in onnxruntime" in said.stderr
    assert "ms a batch" in invoke("bench", "it.onnx", "--rounds", 3).stdout
    timed = json.loads(invoke("bench", "it.onnx", "--rounds", 3, "--json").stdout)
    assert 0 < timed["median"] < 10


def test_what_differs_ends_with_1_and_leaves_nothing(invoke: Invoke, small: str) -> None:
    flags = ("--weights", "factors", "--dtype", "int8", "--tolerance", 1e-9)
    result = invoke("export", small, "-o", "it.onnx", *flags, code=1)
    assert "Nothing was written" in result.stderr
    assert not Path("it.onnx").exists()


def test_wrong_usage_ends_with_2(invoke: Invoke, small: str, monkeypatch) -> None:
    assert "--data" in invoke("export", small, "-o", "it", "--dtype", "int8", code=2).stderr
    assert "There are:" in invoke("export", small, "-o", "it", "--format", "x", code=2).stderr
    monkeypatch.setattr(Onnx, "packages", ("notthere",))
    result = invoke("export", small, "-o", "it", code=2)
    assert "Error: export needs notthere, which is not installed" in " ".join(result.stderr.split())
    assert "pip install 'seclcompress[export]'" in " ".join(result.stderr.split())
    assert list(Path().glob("it*")) == []


def test_runtimes_side_by_side(invoke: Invoke, small: str) -> None:
    flags = ("bench", small, "--runtime", "torch,onnxruntime", "--rounds", 3)
    found = json.loads(invoke(*flags, "--json").stdout)
    assert list(found["runtimes"]) == ["torch", "onnxruntime"]
    for row in found["runtimes"].values():
        assert set(row) >= {"original", "separable", "dense"}
        assert all(timing["median"] > 0 for timing in row.values())
    out = invoke(*flags).stdout
    for words in ("onnxruntime, ms", "times faster (onnxruntime)", "original"):
        assert words in out
    unknown = invoke("bench", small, "--runtime", "abacus", "--rounds", 3, code=2)
    assert "Unknown runtime 'abacus'" in unknown.stderr
    for not_one in ("none", "", "torch,none"):
        unknown = invoke("bench", small, "--runtime", not_one, "--rounds", 3, code=2)
        words = (
            f"Unknown runtime '{not_one.removeprefix('torch,')}'. There are: executorch, litert, "
        )
        assert words + "onnxruntime, openvino, torch." in " ".join(unknown.stderr.split())


def test_count_says_the_bytes_of_files(invoke: Invoke, small: str) -> None:
    found = json.loads(invoke("count", small, "--json").stdout)
    ways, columns = found["exported_bytes"], found["columns"]
    assert ways["factors float32"]["auto"] == 4 * columns["auto"]["parameters"]
    assert ways["dense float32"]["auto"] > ways["factors float32"]["auto"]
    assert ways["dense float32"]["original"] == 4 * columns["original"]["parameters"]
    assert ways["factors int8"]["auto"] == columns["auto"]["parameters"]
    assert "export, factors" in invoke("count", small).stdout
    # The file has the graph, too, and batch norm has two numbers a channel in it instead of four.
    invoke("export", small, "-o", "it.onnx")
    size = Path("it.onnx").stat().st_size
    assert 0.9 < size / ways["dense float32"]["auto"] < 1.3
