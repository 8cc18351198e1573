"""Folders in repositories of the Hub: what is asked of it, what is kept, and what is refused.

The client is the real huggingface_hub; the hub is on this machine (`hub_server.py`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Invoke
from hub_server import Hub

from seclcompress import artefact, downloads, resolve, workflows
from seclcompress.errors import ArtefactError, HubError, UsageError
from seclcompress.hub import fetching

SMALL = "hf://ann/small"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def shared(hub: Hub, converted: Path) -> Hub:
    """A hub with a converted network, and a file that is none of ours."""
    hub.add("ann/small", {**contents(converted), "evil.py": b"raise SystemExit"})
    return hub


def test_only_files_of_a_network_and_only_when_asked(shared: Hub, converted: Path) -> None:
    with pytest.raises(
        HubError, match=r"hf://ann/small is not on this machine. Allow .*--download"
    ):
        artefact.load(SMALL)
    assert shared.requests == []
    found = artefact.load(SMALL, download=True).state_dict()
    wanted = artefact.load(converted).state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert sorted(shared.downloaded()) == ["README.md", "config.json", "model.safetensors"]

    shared.requests.clear()
    located = resolve.locate(SMALL)
    assert located.label == SMALL
    assert located.repository is not None
    assert located.repository.commit == shared.repositories["ann/small"].branches["main"]
    assert (
        artefact.load(str(located.repository), download=True) is not None
    )  # a commit never changes
    assert shared.requests == []


def test_the_bars_of_a_download_are_shown_where_they_are_asked_for(
    shared: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    artefact.place(SMALL, download=True)
    assert capfd.readouterr().err == ""
    shared.repositories["ann/small"].commit({"README.md": b"changed"})
    monkeypatch.setattr(downloads, "_shown", True)
    artefact.place(SMALL, download=True)
    assert "%" in capfd.readouterr().err


def test_a_branch_that_moved_is_asked_for_anew(shared: Hub, tmp_path: Path) -> None:
    first = artefact.place(SMALL, download=True)
    workflows.convert("wrn10_1", tmp_path / "wide", num_classes=3, input_size=(3, 8, 8), seed=5)
    shared.repositories["ann/small"].commit(contents(tmp_path / "wide"))
    assert artefact.place(SMALL) == first
    second = artefact.place(SMALL, download=True)
    assert second != first
    assert artefact.read_config(second).network.num_classes == 3
    assert artefact.place(f"{SMALL}@{first.name}") == first
    assert artefact.place(SMALL) == second


def test_a_tag_and_a_revision_that_is_not_there(shared: Hub) -> None:
    made = shared.repositories["ann/small"]
    made.branches["v1"] = made.branches["main"]
    assert artefact.load(f"{SMALL}@v1", download=True) is not None
    with pytest.raises(HubError, match="the repository has no revision v2"):
        artefact.load(f"{SMALL}@v2", download=True)


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        (
            {"model.safetensors": b"x"},
            HubError,
            "has no config.json, so it is not a folder of secl",
        ),
        (
            {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x"},
            ArtefactError,
            "was not written by seclcompress",
        ),
        (
            {"config.json": b" " * (4 * 2**20 + 1), "model.safetensors": b"x"},
            HubError,
            r"config.json has 4,194,305 bytes, one of seclcompress at most 4,194,304",
        ),
    ],
)
def test_weights_of_other_programs_are_not_downloaded(
    hub: Hub, files: dict[str, bytes], error: type[Exception], words: str
) -> None:
    hub.add("bob/other", files)
    with pytest.raises(error, match=words):
        artefact.load("hf://bob/other", download=True)
    assert "model.safetensors" not in hub.downloaded()


def test_a_repository_without_weights(hub: Hub, converted: Path) -> None:
    hub.add("ann/half", {"config.json": (converted / "config.json").read_bytes()})
    with pytest.raises(HubError, match="hf://ann/half@[0-9a-f]{40} has no model.safetensors"):
        artefact.load("hf://ann/half", download=True)
    with pytest.raises(HubError, match="is not on this machine"):
        artefact.load("hf://ann/half")


def test_damaged_weights_are_refused_as_in_any_folder(hub: Hub, converted: Path) -> None:
    hub.add("ann/bad", {**contents(converted), "model.safetensors": b"\x08\0\0\0\0\0\0\0{} "})
    with pytest.raises(ArtefactError, match="not a readable safetensors file"):
        artefact.load("hf://ann/bad", download=True)


def test_a_repository_that_is_private_gated_or_missing(
    hub: Hub, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("ann/private", contents(converted), private=True)
    hub.add("ann/gated", contents(converted), gated=True)
    for name in ("private", "missing"):
        with pytest.raises(
            HubError, match=r"no such repository, or it is private: .*hf auth login"
        ):
            artefact.load(f"hf://ann/{name}", download=True)
    with pytest.raises(HubError, match="have agreed to the terms on .*/ann/gated"):
        artefact.load("hf://ann/gated", download=True)
    monkeypatch.setenv("HF_TOKEN", "hf_a_token_of_the_tests")
    assert artefact.load("hf://ann/private", download=True) is not None


def test_without_a_network(shared: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    place = artefact.place(SMALL, download=True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the port that discards
    with pytest.raises(HubError, match=r"127.0.0.1:9 was not reached.*without --download"):
        artefact.place(SMALL, download=True)
    assert artefact.place(SMALL) == place


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.extras, "missing", lambda *names: ["huggingface-hub"])
    with pytest.raises(
        UsageError, match=r"hf://ann/small needs huggingface-hub, .*compress\[hub\]"
    ):
        artefact.load(SMALL)


def test_links_of_the_cache_are_followed_and_no_others(shared: Hub, tmp_path: Path) -> None:
    place = artefact.place(SMALL, download=True)
    blobs = place.parents[1] / "blobs"
    assert (place / "config.json").resolve().parent == blobs
    secret = tmp_path / "secret"
    secret.write_bytes((place / "config.json").read_bytes())
    (place / "config.json").unlink()
    (place / "config.json").symlink_to(secret)
    with pytest.raises(ArtefactError, match=r"is a link to .*secret, outside the folder"):
        artefact.read_config(place)


def test_blobs_beside_a_plain_folder_are_no_part_of_it(converted: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(converted, tmp_path / "snapshots" / "net"))
    (tmp_path / "blobs").mkdir()
    (folder / "config.json").rename(tmp_path / "blobs" / "x")
    (folder / "config.json").symlink_to(tmp_path / "blobs" / "x")
    with pytest.raises(ArtefactError, match="outside the folder"):
        artefact.read_config(folder)


class TestCommands:
    """Every command that takes a folder takes a repository, and downloads it with --download."""

    def test_count_and_bench(self, shared: Hub, invoke: Invoke) -> None:
        refused = invoke("count", SMALL, code=1).stderr
        assert "Allow the download with --download" in " ".join(refused.split())
        counted = json.loads(invoke("count", SMALL, "--download", "--json").stdout)
        assert counted["network"] == SMALL
        assert counted["columns"]["auto"]["parameters"] == 10_570
        assert SMALL in invoke("bench", SMALL, "--rounds", 3).stdout

    def test_evaluate_export_and_report(self, shared: Hub, invoke: Invoke, tmp_path: Path) -> None:
        flags = ("--data", "digits", "--batch-size", 200)
        said = invoke("evaluate", SMALL, *flags, "--download").stdout
        assert said.startswith(f"{SMALL} on digits: top-1 ")
        invoke("export", SMALL, "--format", "torch", "-o", "small.pt2")
        assert (tmp_path / "small.pt2").stat().st_size > 10_000
        invoke("report", SMALL, "-o", "page.html")
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert "hf download ann/small config.json --local-dir downloaded" in page
        invoke("report", "hf://ann/none", "-o", "other.html", code=1)

    def test_distil_from_one_and_go_on_with_one(self, shared: Hub, invoke: Invoke) -> None:
        run = ("--data", "digits", "--train-images", 100, "--epochs", 1, "--batch-size", 50)
        shared.requests.clear()
        made = ("--input-size", "3x16x16", "--num-classes", 10, "--seed", 5)
        invoke("convert", "wrn10_1", *made, "-o", "teacher")
        flags = ("--teacher", "teacher", "--untrained-teacher", *run, "--download")
        invoke("distill", SMALL, *flags, "-o", "one")
        commit = shared.repositories["ann/small"].branches["main"]
        config = artefact.read_config(Path("one"))
        assert config.training["from_folder"] is None  # nobody had trained it
        shared.add("ann/trained", contents(Path("one")))
        invoke("train", "hf://ann/trained", *run, "--download", "-o", "two")
        commit = shared.repositories["ann/trained"].branches["main"]
        training = artefact.read_config(Path("two")).training
        assert training["from_folder"] == f"hf://ann/trained@{commit}"
        card = Path("two/README.md").read_text(encoding="utf-8")
        assert f"seclcompress train hf://ann/trained@{commit} --input-size 3x16x16" in card
        assert "It has to be downloaded" in card

    def test_convert_one(self, hub: Hub, invoke: Invoke, tmp_path: Path) -> None:
        source = resolve.locate("wrn10_1", num_classes=4)
        about = artefact.ArtefactConfig(network=source.network, input_size=(3, 16, 16))
        artefact.save(tmp_path / "plain", source.load()[0], about)
        hub.add("ann/plain", contents(tmp_path / "plain"))
        invoke("convert", "hf://ann/plain", "-o", "student", code=1)
        invoke("convert", "hf://ann/plain", "-o", "student", "--download")
        commit = hub.repositories["ann/plain"].branches["main"]
        card = Path("student/README.md").read_text(encoding="utf-8")
        assert f"have the weights of `hf://ann/plain@{commit}`" in card
        assert "has its number of classes already" in " ".join(
            invoke("count", "hf://ann/plain", "--num-classes", 3, code=2).stderr.split()
        )
