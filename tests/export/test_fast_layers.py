"""ONNX files whose fast layers run in our operator: what they hold, say and compute."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from conftest import Invoke
from listening import Listening
from torch import Tensor, nn

import seclcompress
from seclcompress import export, substitutions, workflows
from seclcompress.errors import ArtefactError, UsageError
from seclcompress.export.content import Content
from seclcompress.export.contract import Job
from seclcompress.export.graph.operators import STACK
from seclcompress.export.graph.tracing import trace_network
from seclcompress.export.prepare import in_operators, prepare
from seclcompress.export.race import race
from seclcompress.export.result import Exported
from seclcompress.inference import for_inference
from seclcompress.kernel import library
from seclcompress.plan import PlanOptions
from seclcompress.substitutions import structured_layers

pytestmark = pytest.mark.skipif(
    not library.has_onnxruntime_library(), reason="built without a compiler"
)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student with strided, 1×1 and 3×3 fast layers, a dense one, and batch norms to fold."""
    folder = tmp_path_factory.mktemp("fast")
    options = PlanOptions(config={"depth": 3})
    plan = workflows.convert("wrn10_1", options=options, num_classes=10).plan
    rewritten = {layer.name for layer in plan.rewritten[1:]}
    layers = [
        layer.model_copy(update={"execution": "fast"}) if layer.name in rewritten else layer
        for layer in plan.layers
    ]
    edited = plan.model_copy(update={"layers": layers})
    workflows.convert("wrn10_1", folder / "it", plan=edited, num_classes=10)
    return folder / "it"


def scores(path: Path, images: Tensor) -> np.ndarray:
    options = ort.SessionOptions()
    options.register_custom_ops_library(seclcompress.onnxruntime_library())
    [found] = ort.InferenceSession(path, options).run(["scores"], {"images": images.numpy()})
    return np.asarray(found)


Make = Callable[..., Exported]


@pytest.fixture(scope="module")
def make(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Exports the student, each way once."""

    @functools.cache
    def export_as(**how: str) -> Exported:
        folder = tmp_path_factory.mktemp("made")
        return workflows.export(student, folder / "it", observer=Listening(), **how)

    return export_as


@pytest.mark.parametrize(
    ("execution", "weights", "dtype"),
    [("auto", "dense", "float32"), ("fast", "dense", "float32"), ("auto", "factors", "int8")],
)
def test_a_file_with_fast_layers(
    make: Make, student: Path, execution: str, weights: str, dtype: str
) -> None:
    found = make(execution=execution, weights=weights, dtype=dtype)
    network = seclcompress.load(student).eval()
    layers = structured_layers(network)
    planned = sum(layer.planned_execution == "fast" for layer in layers)
    assert 0 < planned < len(layers)
    fast = planned if execution == "auto" else len(layers)
    graph = onnx.load(found.path).graph
    assert [node.op_type for node in graph.node].count(STACK) == fast == found.content.stacks
    tolerance = 1e-5 if dtype == "float32" else 0.1
    for batch in (1, 3):
        images = torch.randn(batch, 3, 32, 32)
        with torch.no_grad():
            expected = np.asarray(network(images))
        assert (
            np.abs(scores(found.path, images) - expected).max() < tolerance * np.abs(expected).max()
        )
    about = {entry.key: entry.value for entry in onnx.load(found.path).metadata_props}
    assert "seclcompress.onnxruntime_library()" in about["library"]
    assert json.loads(about["seclcompress"])["stacks"] == fast


def test_a_dense_file_needs_no_library(make: Make) -> None:
    dense = make()
    assert dense.content.stacks == 0
    assert "library" not in {entry.key for entry in onnx.load(dense.path).metadata_props}
    ort.InferenceSession(dense.path)


def test_the_file_holds_the_diagonals_and_no_matrix(make: Make, student: Path) -> None:
    found = make(execution="fast", weights="dense", dtype="float32")
    assert found.bytes < make().bytes
    held = sum(int(np.prod(one.dims)) for one in onnx.load(found.path).graph.initializer)
    # Batch norm has two numbers a channel in the file, and four in the folder.
    assert held <= sum(value.numel() for value in seclcompress.load(student).state_dict().values())


def test_what_is_folded_at_load_is_a_constant_to_the_operator(make: Make, tmp_path: Path) -> None:
    """So the diagonals are prepared once, in int8 as well."""
    found = make(execution="auto", weights="factors", dtype="int8")
    assert found.bytes < make(execution="fast", weights="dense", dtype="float32").bytes
    options = ort.SessionOptions()
    options.register_custom_ops_library(seclcompress.onnxruntime_library())
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    ort.InferenceSession(found.path, options)
    graph = onnx.load(tmp_path / "folded.onnx").graph
    constants = {one.name for one in graph.initializer}
    stacks = [node for node in graph.node if node.op_type == STACK]
    assert len(stacks) == found.content.stacks
    assert all(set(node.input[1:3]) <= constants for node in stacks)


def test_a_file_is_evaluated_as_its_network(make: Make, student: Path) -> None:
    found = make(execution="fast", weights="dense", dtype="float32")
    after = workflows.evaluate(found.path, data="digits")
    assert after.accuracy == workflows.evaluate(student, data="digits").accuracy


def test_without_the_library_a_file_is_refused_in_words(
    make: Make, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = make(execution="fast", weights="dense", dtype="float32")
    dense, of_onnx = make(), export.get("onnx")
    monkeypatch.setattr(library, "_PATH", tmp_path / "not_there.so")
    assert of_onnx.executions() == ("dense",)
    with pytest.raises(
        ArtefactError, match=r"layers that run fast.*library for ONNX Runtime is not"
    ):
        workflows.evaluate(found.path, data="digits")
    with pytest.raises(UsageError, match="--execution dense"):
        workflows.export(student, tmp_path / "new", execution="fast")
    assert list(tmp_path.iterdir()) == []
    of_onnx.load(dense.path, threads=1)


def test_what_has_no_fast_layers_says_so(student: Path, tmp_path: Path) -> None:
    for format in set(export.names()) - {"onnx"}:
        assert export.get(format).executions() == ("dense",)
        with pytest.raises(UsageError, match=f"--format {format} has no --execution auto"):
            workflows.export(student, tmp_path / "it", format=format, execution="auto")
    for weights, dtype in (("dense", "float16"), ("factors", "float16"), ("dense", "int8")):
        with pytest.raises(UsageError, match=r"--weights factors --dtype float32\|int8"):
            workflows.export(
                student, tmp_path / "it", weights=weights, dtype=dtype, execution="fast"
            )
    assert list(tmp_path.iterdir()) == []


DEPTHS = {"acdc": {"depth": 3}, "afdf": {"depth": 2}}  # fewer numbers than the matrix
#: A family of stacks, one of another transform, and one of thin layers in a row.
QUICK = ("acdc", "afdf", "low_rank")
FAMILIES = [
    pytest.param(name, DEPTHS.get(name, {}), marks=() if name in QUICK else pytest.mark.slow)
    for name in substitutions.names()
    if "fast" in substitutions.get(name).executions
]


class Small(nn.Module):
    """A convolution and a Linear, with an odd number of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 15, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(15)
        self.linear = nn.Linear(15, 8)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(torch.relu(self.norm(self.conv(images))).mean((2, 3)))


def small(family: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    network, chosen = Small(), substitutions.get(family)
    for name in ("conv", "linear"):
        layer = getattr(network, name)
        if chosen.refuse(layer, chosen.config(options)) is not None:
            continue
        built = chosen.build(layer, chosen.config(options))
        built.planned_execution = "fast"
        setattr(network, name, built)
    return network.eval()


@pytest.mark.parametrize(
    ("family", "options"), [*FAMILIES, ("acdc", {"extra_riffle": True, "depth": 3})], ids=str
)
def test_every_family_is_written(family: str, options: dict[str, object], tmp_path: Path) -> None:
    """A fast transform that is no stack of the operator is multiplied out, and that is said."""
    network, images = small(family, **options), torch.randn(5, 12, 7, 9)
    fast = structured_layers(network)
    with torch.no_grad():
        expected = network(images).numpy()
    prepared = prepare(network, (12, 7, 9), execution="auto")
    content = Content(network="small", input_size=(12, 7, 9), parameters=1)
    written = export.get("onnx").write(Job(prepared, content))
    (tmp_path / "it.onnx").write_bytes(written.files[".onnx"])
    [found] = export.get("onnx").load(tmp_path / "it.onnx", threads=1)(images.numpy())
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    in_operator = family == "acdc" and "extra_riffle" not in options
    assert written.content.stacks == (len(fast) if in_operator else 0)
    lost = [note for note in written.notes if "there is no operator" in note]
    if family in QUICK:
        assert len(lost) == (family != "low_rank" and not in_operator)


def test_a_network_that_is_one_layer_is_multiplied_out() -> None:
    layer = small("acdc", extra_riffle=True, depth=3).conv
    layer.execution = "fast"
    plain, [note] = in_operators(layer)
    images = torch.randn(2, 12, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), layer(images), atol=1e-4, rtol=1e-4)
    assert structured_layers(plain) == []
    assert "the network: there is no operator" in note
    assert structured_layers(layer) == [layer]


def test_an_activation_in_place_behind_a_linear_is_one_node() -> None:
    relu = nn.ReLU(inplace=True)
    network = nn.Sequential(small("acdc", depth=3).linear, relu, nn.Linear(8, 8)).eval()
    network[0].execution = "fast"
    model, _ = trace_network(network, (15,))
    kinds = [node.op_type for node in model.graph]
    assert kinds.count("Relu") == 1
    assert "ScatterElements" not in kinds
    assert relu.inplace


def test_the_planned_network_races_where_layers_run_fast() -> None:
    network = for_inference(small("acdc"), (12, 8, 8), fuse=False)
    dense = for_inference(small("acdc"), (12, 8, 8), "dense", fuse=False)
    networks = {"dense": dense, "auto": network}
    found = race(networks, ["torch", "onnxruntime"], (12, 8, 8), batch=2, rounds=2)
    assert {name: set(row) for name, row in found.timings.items()} == {
        "torch": {"dense", "auto"},
        "onnxruntime": {"dense", "auto"},
    }
    assert len(structured_layers(network)) == 2  # writing the file has changed nothing


def test_a_runtime_without_fast_layers_gets_plain_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(export.get("onnx")), "executions", lambda _: ("dense",))
    networks = {
        "dense": for_inference(small("acdc"), (12, 8, 8), "dense", fuse=False),
        "auto": for_inference(small("acdc"), (12, 8, 8), fuse=False),
    }
    found = race(networks, ["onnxruntime"], (12, 8, 8), batch=1, rounds=2)
    assert set(found.timings["onnxruntime"]) == {"dense"}


def test_the_command(invoke: Invoke) -> None:
    plan = ("--depth", 2, "--num-classes", 10)
    invoke("convert", "wrn10_1", *plan, "--dry-run", "--write-plan", "plan.json")
    edited = json.loads(Path("plan.json").read_text())
    last = [layer for layer in edited["layers"] if layer["action"] == "rewrite"][-1]
    last["execution"] = "fast"
    Path("plan.json").write_text(json.dumps(edited))
    invoke("convert", "wrn10_1", "--num-classes", 10, "--plan", "plan.json", "-o", "small")
    said = invoke("export", "small", "-o", "it.onnx", "--execution", "auto")
    assert "Layers that run in our operator:" in said.stdout
    assert "seclcompress.onnxruntime_library()" in said.stdout
    assert "ms a batch" in invoke("bench", "it.onnx", "--rounds", 3).stdout
    refused = invoke(
        "export", "small", "-o", "x", "--format", "torch", "--execution", "fast", code=2
    )
    assert "--execution dense" in " ".join(refused.stderr.split())
    timed = invoke("bench", "small", "--runtime", "onnxruntime", "--rounds", 3, "--json")
    assert "auto" in json.loads(timed.stdout)["runtimes"]["onnxruntime"]
