"""Exporting through Python: the file is what was asked for, says what it is, and computes the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from listening import Listening
from torch import Tensor, nn

import seclcompress
from seclcompress import artefact, export, workflows
from seclcompress.errors import ArtefactError, DataError, ExportError, UsageError
from seclcompress.export import verify
from seclcompress.export.formats.onnx import Onnx
from seclcompress.export.race import race
from seclcompress.plan import PlanOptions
from seclcompress.settings.training import TrainingSettings


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student that a teacher's moment of training has given classes and preprocessing."""
    folder = tmp_path_factory.mktemp("exporting")
    options = PlanOptions(config={"depth": 3}, min_channels=32)
    workflows.convert("wrn10_2", folder / "new", options=options, num_classes=10)
    short = TrainingSettings(epochs=1, train_images=256, batch_size=64, lr=0.05)
    workflows.train(str(folder / "new"), data="digits", output_dir=folder / "it", settings=short)
    return folder / "it"


def outputs_of(folder: Path, images: Tensor) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(seclcompress.load(folder)(images))


@pytest.mark.parametrize("weights", ["dense", "factors"])
def test_an_onnx_file(student: Path, tmp_path: Path, weights: str) -> None:
    listening = Listening()
    found = workflows.export(student, tmp_path / "it", weights=weights, observer=listening)
    assert found.path == tmp_path / "it.onnx"
    assert found.files == {"it.onnx": found.path.stat().st_size}
    assert list(tmp_path.iterdir()) == [found.path]
    images = torch.randn(3, 3, 32, 32)
    session = ort.InferenceSession(found.path)
    (scores,) = session.run(["scores"], {"images": images.numpy()})
    expected = outputs_of(student, images)
    assert np.abs(scores - expected).max() < 1e-4 * np.abs(expected).max()
    model = onnx.load(found.path)
    onnx.checker.check_model(model)
    about = {entry.key: entry.value for entry in model.metadata_props}
    config = artefact.read_config(student)
    assert json.loads(about["classes"]) == config.classes
    shown = json.loads(about["preprocessing"])
    assert config.preprocessing is not None
    assert shown["mean"] == list(config.preprocessing.mean)
    assert shown["std"] == list(config.preprocessing.std)
    assert (shown["size"], shown["channels"]) == ([3, 32, 32], "RGB")
    assert not any(
        str(Path(__file__).parents[2]) in text for text in (str(model.graph), str(about))
    )
    assert found.parameters == sum(p.numel() for p in seclcompress.load(student).parameters())
    assert found.verified.agreement == 100
    said = " ".join(listening.messages)
    for words in ("Prepared:", "Made", "Compared on 8 images in onnxruntime", "loads in"):
        assert words in said
    assert ("does not fold constants" in said) == (weights == "factors")


def test_factors_are_as_many_numbers_as_the_student_has(student: Path, tmp_path: Path) -> None:
    dense = workflows.export(student, tmp_path / "dense")
    factors = workflows.export(student, tmp_path / "factors", weights="factors")
    small = workflows.export(student, tmp_path / "small", weights="factors", dtype="int8")
    assert small.bytes < factors.bytes < dense.bytes
    model = onnx.load(factors.path)
    held = sum(int(np.prod(value.dims)) for value in model.graph.initializer)
    in_folder = sum(value.numel() for value in seclcompress.load(student).state_dict().values())
    assert 0.9 * factors.parameters < held <= in_folder
    # ONNX Runtime is left with the dense network's own operations.
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    ort.InferenceSession(factors.path, options)
    folded = onnx.load(tmp_path / "folded.onnx")
    options.optimized_model_filepath = str(tmp_path / "folded_dense.onnx")
    ort.InferenceSession(dense.path, options)
    of_dense = onnx.load(tmp_path / "folded_dense.onnx")
    assert [n.op_type for n in folded.graph.node] == [n.op_type for n in of_dense.graph.node]


def test_a_file_is_evaluated_as_its_network(student: Path, tmp_path: Path) -> None:
    before = workflows.evaluate(student, data="digits")
    for format, ending in (("onnx", ".onnx"), ("torch", ".pt2")):
        found = workflows.export(student, tmp_path / "it", format=format, data="digits")
        assert found.before is not None
        assert found.after is not None
        after = workflows.evaluate(tmp_path / f"it{ending}", data="digits")
        assert after.accuracy == found.after.accuracy == before.accuracy == found.before.accuracy
        assert after.loss == pytest.approx(before.loss, rel=1e-4)
        assert found.verified.images == 64 + 8


def test_int8_calibrates_on_images(student: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data"):
        workflows.export(student, tmp_path / "it", dtype="int8")
    found = workflows.export(student, tmp_path / "it", dtype="int8", data="digits")
    assert found.before is not None
    assert found.after is not None
    assert abs(found.after.accuracy - found.before.accuracy) < 5
    kinds = {node.op_type for node in onnx.load(found.path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert found.content.dtype == "int8"
    evaluated = workflows.evaluate(found.path, data="digits")
    assert evaluated.accuracy == found.after.accuracy


def test_weights_in_int8_cannot_saturate_without_vnni(student: Path, tmp_path: Path) -> None:
    """Two products of an unsigned byte and a weight must fit into 16 bits: 2 · 255 · 64 < 2¹⁵."""
    found = workflows.export(student, tmp_path / "it", dtype="int8", data="digits")
    model = onnx.load(found.path)
    weights = [
        onnx.numpy_helper.to_array(one)
        for one in model.graph.initializer
        if one.data_type == onnx.TensorProto.INT8 and len(one.dims) > 1
    ]
    assert weights
    assert max(int(np.abs(one.astype(int)).max()) for one in weights) == 64


@pytest.mark.parametrize("weights", ["dense", "factors"])
def test_halves(student: Path, tmp_path: Path, weights: str) -> None:
    whole = workflows.export(student, tmp_path / "whole", weights=weights)
    half = workflows.export(student, tmp_path / "half", weights=weights, dtype="float16")
    assert half.bytes < 0.75 * whole.bytes
    assert 0 < half.verified.relative_difference < 0.05


def test_weights_for_a_script(student: Path, tmp_path: Path) -> None:
    import safetensors.torch

    found = workflows.export(student, tmp_path / "it", format="weights")
    state = safetensors.torch.load_file(found.path)
    plain = seclcompress.to_dense(seclcompress.load(student))
    assert state.keys() == plain.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    with pytest.raises(UsageError, match="weights without a network"):
        workflows.evaluate(found.path, data="digits")


def test_what_computes_something_else_is_not_written(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExportError, match="Nothing was written"):
        workflows.export(student, tmp_path / "it", weights="factors", dtype="int8", tolerance=1e-9)
    assert list(tmp_path.iterdir()) == []
    load = Onnx.load

    def wrong(self: Onnx, path: Path, **how: object):
        run = load(self, path, **how)  # type: ignore[arg-type]
        return lambda images: [one + np.nan for one in run(images)]

    monkeypatch.setattr(Onnx, "load", wrong)
    with pytest.raises(ExportError, match="computes something else"):
        workflows.export(student, tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_file_stays(student: Path, tmp_path: Path) -> None:
    file = tmp_path / "it.onnx"
    file.write_text("mine")
    with pytest.raises(ArtefactError, match="--overwrite"):
        workflows.export(student, file)
    with pytest.raises(ExportError):
        workflows.export(
            student, file, weights="factors", dtype="int8", tolerance=1e-9, overwrite=True
        )
    assert file.read_text() == "mine"
    workflows.export(student, file, overwrite=True)
    assert file.stat().st_size > 1000


class Decides(nn.Module):
    """Its Python code decides by the number of images, so that it can be traced for one only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        scores = self.head(self.conv(images).mean((2, 3)))
        return scores * 2 if len(images) % 7 == 1 else scores + scores


def decides() -> nn.Module:
    return Decides()


class Pair(Decides):
    def forward(self, images: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        features = self.conv(images)
        return {"out": self.head(features.mean((2, 3))), "features": features}


def pair() -> nn.Module:
    return Pair()


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_a_network_that_decides_by_the_batch_takes_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    listening = Listening()
    found = workflows.export(
        "test_exporting:decides",
        tmp_path / "it",
        format=format,
        input_size=(3, 16, 16),
        observer=listening,
    )
    assert found.content.batch == 1
    assert any("one image at a time" in words for words in listening.messages)
    assert found.verified.images == 8, "one after another"


def test_one_image_at_a_time_is_timed_in_batches() -> None:
    found = race({"original": Decides()}, ["onnxruntime"], (3, 16, 16), batch=3, rounds=2)
    assert found.timings["onnxruntime"]["original"].median > 0


def test_several_outputs_keep_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    found = workflows.export("test_exporting:pair", tmp_path / "it", input_size=(3, 16, 16))
    session = ort.InferenceSession(found.path)
    assert [output.name for output in session.get_outputs()] == ["out", "features"]


def test_what_a_format_does_not_have(student: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="It has: --weights dense --dtype float32"):
        workflows.export(student, tmp_path / "it", format="torch", weights="factors")
    with pytest.raises(UsageError, match=r"Unknown format 'caffe'. There are: executorch, litert"):
        workflows.export(student, tmp_path / "it", format="caffe")
    with pytest.raises(UsageError, match=r"ends as files of --format torch do"):
        workflows.export(student, tmp_path / "it.pt2")
    with pytest.raises(UsageError, match="object detection"):
        workflows.export("ssdlite320_mobilenet_v3_large", tmp_path / "it")


def test_missing_packages_are_named(student: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Onnx, "packages", ("onnx", "notthere"))
    with pytest.raises(UsageError, match=r"^export needs notthere.*seclcompress\[export\]"):
        workflows.export(student, tmp_path / "it")
    with pytest.raises(UsageError, match=r"^--format onnx needs notthere"):
        workflows.export(student, tmp_path / "it", format="onnx")
    file = tmp_path / "it.onnx"
    file.write_bytes(b"")
    with pytest.raises(UsageError, match=rf"^evaluate {re.escape(str(file))} needs notthere"):
        workflows.evaluate(file, data="digits")
    with pytest.raises(UsageError, match=r"^--runtime onnxruntime needs notthere"):
        workflows.bench("wrn10_1", input_size=(3, 8, 8), rounds=2, runtimes=["onnxruntime"])


@pytest.mark.parametrize("ending", [".onnx", ".pt2", ".safetensors"])
def test_files_of_others_are_refused_in_words(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"it{ending}"
    with pytest.raises(ArtefactError, match="There is no file"):
        workflows.evaluate(file, data="digits")
    file.write_bytes(b"something else")
    with pytest.raises(ArtefactError, match=r"damaged|has written|no ONNX file"):
        workflows.evaluate(file, data="digits")


def test_a_file_of_another_program(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(n, 1, [1]) for n in "xy")
    onnx.save(
        onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y])), tmp_path / "a.onnx"
    )
    with pytest.raises(ArtefactError, match="does not say what it is"):
        workflows.evaluate(tmp_path / "a.onnx", data="digits")


def test_options_of_networks_are_none_of_a_file(student: Path, tmp_path: Path) -> None:
    found = workflows.export(student, tmp_path / "it")
    with pytest.raises(UsageError, match="drop --num-classes, --execution"):
        workflows.evaluate(found.path, data="digits", num_classes=10, execution="fast")


def test_a_file_is_made_on_the_cpu(student: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the device is cpu, not cuda"):
        workflows.export(student, tmp_path / "it", settings=TrainingSettings(device="cuda"))


def test_a_file_for_other_classes_is_refused(tmp_path: Path) -> None:
    found = workflows.export("wrn10_1", tmp_path / "it", num_classes=7)
    with pytest.raises(DataError):
        workflows.evaluate(found.path, data="digits")


def test_every_format_is_complete() -> None:
    assert export.names() == ["executorch", "litert", "onnx", "openvino", "torch", "weights"]
    for name in export.names():
        one = export.get(name)
        assert one.summary
        assert one.title
        assert one.suffix.startswith(".")
        assert export.of_file(f"file{one.suffix}") is one
        assert set(one.offers) <= {"dense", "factors"}
        assert {d for ds in one.offers.values() for d in ds} <= set(verify.TOLERANCE)
