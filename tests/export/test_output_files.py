"""Where an export goes: nothing is lost, a saved folder stays whole, no path of a person goes along."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import seclcompress
from seclcompress import export, workflows
from seclcompress.errors import ArtefactError
from seclcompress.export.contract import Job
from seclcompress.export.formats.onnx import Onnx
from seclcompress.files import check_free
from seclcompress.workflows.reporting import _stored


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whose") / "small"
    workflows.convert("wrn10_1", folder, num_classes=10, input_size=(3, 16, 16))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "secret person" / "small"))


@pytest.fixture
def _two_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ONNX a format of two files, as OpenVINO's is, which needs no further package."""
    monkeypatch.setattr(Onnx, "beside", (".bin",))


@pytest.mark.usefixtures("_two_files")
def test_a_file_that_would_lie_beside_it_is_not_lost(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "it.bin").write_text("mine")
    with pytest.raises(ArtefactError, match=r"it\.bin is there already"):
        workflows.export(folder, tmp_path / "it")
    assert (tmp_path / "it.bin").read_text() == "mine"
    assert not (tmp_path / "it.onnx").exists()


@pytest.mark.parametrize("ending", [".onnx", ".bin"])
@pytest.mark.usefixtures("_two_files")
def test_a_file_that_comes_while_it_works_is_not_lost(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    write = Onnx.write

    def slowly(self: Onnx, job: Job) -> object:
        (tmp_path / f"it{ending}").write_text("mine")
        return write(self, job)

    monkeypatch.setattr(Onnx, "write", slowly)
    with pytest.raises(ArtefactError, match="there already"):
        workflows.export(folder, tmp_path / "it")
    assert [file.name for file in tmp_path.glob("it*")] == [f"it{ending}"]
    assert (tmp_path / f"it{ending}").read_text() == "mine"


def test_openvino_declares_both_of_its_files(folder: Path, tmp_path: Path) -> None:
    chosen = export.get("openvino")
    assert chosen.endings == (".xml", ".bin")
    if chosen.missing():
        pytest.skip("openvino is not installed")
    found = workflows.export(folder, tmp_path / "it", format="openvino")
    assert set(found.files) == {"it.xml", "it.bin"}
    (tmp_path / "it.xml").unlink()
    with pytest.raises(ArtefactError, match=r"it\.bin is there already"):
        workflows.export(folder, tmp_path / "it", format="openvino")


def test_in_a_saved_folder_it_is_one_of_its_files(folder: Path) -> None:
    workflows.export(folder, folder / "it.onnx")
    check_free(folder, overwrite=True)  # or the folder could never be replaced
    with pytest.raises(ArtefactError, match="--overwrite"):
        workflows.export(folder, folder / "it.onnx")
    workflows.export(folder, folder / "it.onnx", overwrite=True)
    with pytest.raises(ArtefactError, match=r"into a saved folder: '\.it\.onnx' is no plain file"):
        workflows.export(folder, folder / ".it.onnx")


@pytest.mark.parametrize("manifest", [True, False], ids=["manifest", "none, as of 0.1"])
def test_the_network_of_a_saved_folder_is_not_replaced(folder: Path, manifest: bool) -> None:
    if not manifest:
        (folder / "manifest.json").unlink()
    before = (folder / "model.safetensors").read_bytes()
    for name in ("model", "model.safetensors"):
        with pytest.raises(ArtefactError, match="belongs to the saved folder"):
            workflows.export(folder, folder / name, format="weights", overwrite=True)
    assert (folder / "model.safetensors").read_bytes() == before
    seclcompress.load(folder)
    workflows.export(folder, folder / "plain", format="weights")
    workflows.export(folder, folder / "plain", format="weights", overwrite=True)


def test_a_plan_is_written_by_the_same_rules(folder: Path) -> None:
    def plan(name: str) -> None:
        workflows.convert("wrn10_1", write_plan=folder / name, overwrite=True)

    config = (folder / "config.json").read_bytes()
    with pytest.raises(ArtefactError, match="belongs to the saved folder"):
        plan("config.json")
    assert (folder / "config.json").read_bytes() == config
    plan("plan.json")
    plan("plan.json")
    check_free(folder, overwrite=True)
    again = {"num_classes": 10, "input_size": (3, 16, 16), "overwrite": True}
    workflows.convert("wrn10_1", folder, write_plan=folder / "plan.json", **again)
    workflows.convert("wrn10_1", folder, write_plan=folder / "plan.json", **again)


@pytest.mark.parametrize("format", export.names())
def test_no_path_of_a_person_is_in_a_file(folder: Path, tmp_path: Path, format: str) -> None:
    if export.get(format).missing():
        pytest.skip("its packages are not installed")
    found = workflows.export(folder, tmp_path / "it", format=format)
    assert found.content.network == "small"
    for name in found.files:
        content = (tmp_path / name).read_bytes()
        for part in ("secret person", str(tmp_path), str(Path(__file__).parents[2])):
            assert part.encode() not in content


def test_the_page_calls_each_format_by_its_title(folder: Path) -> None:
    for name in export.names():
        one = export.get(name)
        for ending in one.endings:
            (folder / f"student_{name}").with_suffix(ending).write_bytes(b"1234")
    shutil.copy(folder / "model.safetensors", folder / "student_weights.safetensors")
    shown = {file.name: (file.format, file.size) for file in _stored(folder)}
    size = (folder / "model.safetensors").stat().st_size
    assert shown == {
        "model.safetensors": ("safetensors", size),
        "student_weights.safetensors": ("safetensors", size),
        "student_executorch.pte": ("ExecuTorch", 4),
        "student_litert.tflite": ("LiteRT", 4),
        "student_onnx.onnx": ("ONNX", 4),
        "student_openvino.xml": ("OpenVINO", 8),
        "student_torch.pt2": ("torch.export", 4),
    }
