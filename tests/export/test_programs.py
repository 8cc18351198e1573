"""A .pt2 file from a stranger: no code of it is run, and a damaged one is called so."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seclcompress import workflows
from seclcompress.errors import ArtefactError
from seclcompress.export import get
from seclcompress.export.programs import check_program

_INPUTS = "archive/data/sample_inputs/model.pt"
_CONFIG = "archive/data/weights/model_weights_config.json"
_CONSTANTS = "archive/data/constants/model_constants_config.json"
_GRAPH = "archive/models/model.json"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "it.pt2"
    workflows.export("wrn10_1", path, format="torch", num_classes=10, input_size=(3, 16, 16))
    return path


class Runs:
    """Runs a command where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


def changed(program: Path, target: Path, changes: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, changes.get(name, old.read(name)))
        for name in changes.keys() - set(old.namelist()):
            new.writestr(name, changes[name])
    return target


def record(program: Path, name: str) -> Any:
    with zipfile.ZipFile(program) as archive:
        return json.loads(archive.read(name))


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def refused(path: Path, words: str = "") -> None:
    with pytest.raises(ArtefactError, match=words):
        get("torch").load(path, threads=1)
    with pytest.raises(ArtefactError, match=words):
        workflows.evaluate(path, data="digits")


def test_what_seclcompress_writes_passes(program: Path) -> None:
    check_program(program)
    found = get("torch").load(program, threads=1)
    assert found(torch.zeros(2, 3, 16, 16).numpy())[0].shape == (2, 10)


@pytest.mark.parametrize("old", [True, False], ids=["zip", "old"])
def test_a_pickled_command_among_the_inputs(program: Path, tmp_path: Path, old: bool) -> None:
    marker = tmp_path / "ran"
    file = io.BytesIO()
    torch.save(Runs(marker), file, _use_new_zipfile_serialization=not old)
    evil = changed(program, tmp_path / "evil.pt2", {_INPUTS: file.getvalue()})
    refused(evil, "sample_inputs")
    assert not marker.exists()
    with pytest.raises(Exception):  # noqa: B017, PT011 - torch itself runs it, and fails afterwards
        torch.export.load(evil).module()(1)
    assert marker.exists(), "the file of this test does what it is said to do"


def test_a_pickled_weight(program: Path, tmp_path: Path) -> None:
    config = record(program, _CONFIG)
    first = next(iter(config["config"].values()))
    first["use_pickle"] = True
    weight = f"archive/data/weights/{first['path_name']}"
    changes = {_CONFIG: json.dumps(config).encode(), weight: saved(Runs(tmp_path / "ran"))}
    refused(changed(program, tmp_path / "evil.pt2", changes), "pickled object")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["opaque_obj_0", "custom_obj_0", "tensor_0"])
def test_a_pickled_constant(program: Path, tmp_path: Path, kind: str) -> None:
    entry = {"path_name": kind, "is_param": False, "use_pickle": True, "tensor_meta": None}
    changes = {
        _CONSTANTS: json.dumps({"config": {"it": entry}}).encode(),
        f"archive/data/constants/{kind}": pickle.dumps(Runs(tmp_path / "ran")),
    }
    refused(changed(program, tmp_path / "evil.pt2", changes), "refused")
    entry["path_name"] = "../sample_inputs/model.pt"
    changes = {_CONSTANTS: json.dumps({"config": {"it": entry}}).encode()}
    refused(changed(program, tmp_path / "again.pt2", changes), "pickled object")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    [
        "data/aotinductor/model/it.so",
        "data/weights/model.pt",
        "data/constants/model.pt",
        "models/other.json",
        "version",
        "models/Model.json",
    ],
)
def test_other_records(program: Path, tmp_path: Path, name: str) -> None:
    refused(
        changed(program, tmp_path / "evil.pt2", {f"archive/{name}": b"{}"}),
        "nothing that seclcompress writes",
    )


def _call(graph: Any) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"


def _library(graph: Any) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.load_library"


def _saves(graph: Any) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.save.default"


def _argument(graph: Any) -> None:
    node = graph["graph_module"]["graph"]["nodes"][0]
    node["inputs"][0]["arg"] = {"as_operator": "torch.os.system"}


def _guard(graph: Any) -> None:
    graph["guards_code"] = ["__import__('os').system('true')"]


def _size(graph: Any) -> None:
    text = json.dumps(graph)
    found = json.loads(text.replace("Symbol('s", "__import__('os').system('s"))
    assert found != graph
    graph.update(found)


def _name(graph: Any) -> None:
    graph["graph_module"]["graph"]["inputs"][-1]["as_tensor"]["name"] = "x=print(1)"


def _container(graph: Any) -> None:
    signature = graph["graph_module"]["module_call_graph"][0]["signature"]
    signature["in_spec"] = signature["in_spec"].replace("builtins.dict", "os.system")


@pytest.mark.parametrize(
    "plant", [_call, _library, _saves, _argument, _guard, _size, _name, _container]
)
def test_code_in_the_graph(program: Path, tmp_path: Path, plant: Callable[[Any], None]) -> None:
    graph = record(program, _GRAPH)
    plant(graph)
    evil = changed(program, tmp_path / "evil.pt2", {_GRAPH: json.dumps(graph).encode()})
    refused(evil, "nothing that seclcompress writes")


def test_damaged(program: Path, tmp_path: Path) -> None:
    content = program.read_bytes()
    file = tmp_path / "it.pt2"
    file.write_bytes(content[: len(content) // 2])
    refused(file, "damaged")
    for size in (0, 1, 100, len(content) - 30, len(content) - 1):
        file.write_bytes(content[:size])
        refused(file, "damaged")
    file.write_bytes(b"no zip" * 1000)
    refused(file, "damaged")
    for name in (_GRAPH, _CONFIG, _CONSTANTS, _INPUTS):
        with zipfile.ZipFile(program) as old, zipfile.ZipFile(file, "w") as new:
            for other in set(old.namelist()) - {name}:
                new.writestr(other, old.read(other))
        refused(file, "damaged")
    for name in (_GRAPH, _CONFIG, _INPUTS):
        refused(changed(program, file, {name: b"\x80nothing"}), "damaged")
    refused(changed(program, file, {_GRAPH: b"{}"}), "damaged")
    middle = bytearray(content)
    at = content.index(b'"graph_module"')
    middle[at : at + 4] = b"????"
    file.write_bytes(middle)
    refused(file, "damaged")


def test_no_path_of_this_machine(program: Path) -> None:
    with zipfile.ZipFile(program) as archive:
        for name in archive.namelist():
            assert str(Path(__file__).parents[2]).encode() not in archive.read(name), name
