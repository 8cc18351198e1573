"""Sending a folder: what goes and what stays, and that nothing is made or replaced unasked."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import jsonschema
import pytest
from conftest import Invoke
from hub_server import Hub

from seclcompress import artefact
from seclcompress.errors import ArtefactError, HubError, UsageError
from seclcompress.report.schemas import json_schema
from seclcompress.workflows import upload

OURS = ["README.md", "config.json", "manifest.json", "model.safetensors"]


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(converted, tmp_path / "small"))


@pytest.mark.usefixtures("logged_in")
class TestLoggedIn:
    def test_there_and_back(self, hub: Hub, folder: Path) -> None:
        (folder / "diary.txt").write_text("not for others")
        (folder / ".config.json.abcd1234").write_text("left by a process that died")
        sent = upload(folder, "ann/small", create=True)
        assert sorted(sent.files) == OURS == sorted(hub.files("ann/small"))
        assert sent.created
        assert sent.url == f"https://huggingface.co/ann/small/commit/{sent.commit}"
        assert not hub.repositories["ann/small"].private
        assert sent.commit == hub.repositories["ann/small"].branches["main"]
        place = artefact.place("hf://ann/small", download=True)
        for name in ("README.md", "config.json", "model.safetensors"):
            assert (place / name).read_bytes() == (folder / name).read_bytes()

    def test_nothing_is_made_unasked(self, hub: Hub, folder: Path) -> None:
        with pytest.raises(HubError, match="there is no such repository, .*--create makes it"):
            upload(folder, "ann/small")
        assert hub.repositories == {}
        hub.add("ann/small", {})
        with pytest.raises(HubError, match="the repository has no branch next. --create makes it"):
            upload(folder, "ann/small", revision="next")
        assert list(hub.repositories["ann/small"].branches) == ["main"]
        upload(folder, "ann/small", revision="next", create=True, message="Try this")
        assert sorted(hub.files("ann/small", "next")) == OURS
        assert hub.files("ann/small") == {}
        assert hub.repositories["ann/small"].messages[-1] == "Try this"

    def test_nothing_is_replaced_unasked(self, hub: Hub, folder: Path) -> None:
        mine = {"README.md": b"# Mine", "notes.txt": b"stays"}
        hub.add("ann/small", mine)
        with pytest.raises(HubError, match=r"README.md is there already.*--overwrite"):
            upload(folder, "ann/small", create=True)
        assert hub.files("ann/small") == mine
        upload(folder, "ann/small", overwrite=True)
        found = hub.files("ann/small")
        assert found["notes.txt"] == b"stays"
        assert found["README.md"] == (folder / "README.md").read_bytes()
        assert "Upload a network with seclcompress" in hub.repositories["ann/small"].messages[-1]

    def test_what_somebody_sends_in_the_meantime_is_kept(self, hub: Hub, folder: Path) -> None:
        made = hub.add("ann/small", {})
        hub.before_commit = lambda: made.commit({"README.md": b"# Faster"})
        with pytest.raises(HubError, match="answers 412: .*A commit has happened since"):
            upload(folder, "ann/small")
        assert hub.files("ann/small") == {"README.md": b"# Faster"}

    def test_private(self, hub: Hub, folder: Path) -> None:
        upload(folder, "ann/secret", create=True, private=True)
        assert hub.repositories["ann/secret"].private
        hub.add("ann/open", {})
        with pytest.raises(HubError, match="it is public, and --private was said"):
            upload(folder, "ann/open", private=True)
        assert hub.files("ann/open") == {}

    def test_without_the_right_to_write(self, hub: Hub, folder: Path) -> None:
        hub.add("locked/small", {})
        with pytest.raises(HubError, match=r"answers 403: .*You may not do this with your token"):
            upload(folder, "locked/small")

    def test_what_cannot_be_read_is_not_sent(self, hub: Hub, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"nothing")
        with pytest.raises(ArtefactError, match=r"model.safetensors"):
            upload(folder, "ann/small", create=True)
        (folder / "config.json").write_text("{}")
        with pytest.raises(ArtefactError, match="was not written by seclcompress"):
            upload(folder, "ann/small", create=True)
        assert hub.requests == []

    @pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
    def test_a_link_to_a_file_elsewhere_is_not_sent(
        self, hub: Hub, folder: Path, tmp_path: Path
    ) -> None:
        (folder / "README.md").unlink()
        (folder / "README.md").symlink_to(tmp_path / "key")
        (tmp_path / "key").write_text("secret")
        with pytest.raises(ArtefactError, match="outside the folder"):
            upload(folder, "ann/small", create=True)
        assert hub.requests == []

    def test_the_command(self, hub: Hub, folder: Path, invoke: Invoke) -> None:
        flags = ("upload", "small", "ann/small", "--create", "--private")
        (folder / "diary.txt").write_text("")
        said = invoke(*flags)
        assert "Not sent, as seclcompress did not write it in small: diary.txt." in said.stderr
        assert said.stdout.splitlines()[-1].startswith("Sent to hf://ann/small: https")
        again = invoke(*flags, code=1).stderr
        assert "README.md, config.json, manifest.json, model.safetensors are there already" in (
            " ".join(again.split())
        )
        record = json.loads(invoke(*flags, "--overwrite", "--json").stdout)
        jsonschema.validate(record, json_schema("upload"), jsonschema.Draft202012Validator)
        assert sorted(record["files"]) == OURS
        assert not record["created"]


def test_a_dry_run_connects_to_nobody(hub: Hub, folder: Path, invoke: Invoke) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["training"] = {"data": "imagefolder:/home/ann/faces"}
    (folder / "config.json").write_text(json.dumps(config))
    said = invoke("upload", "small", "hf://ann/small@next", "--dry-run")
    assert [line.split()[0] for line in said.stdout.splitlines()] == [*OURS, "Would"]
    assert said.stdout.endswith("Would be sent to hf://ann/small@next.\n")
    assert "imagefolder:/home/ann/faces. Others will read it." in " ".join(said.stderr.split())
    assert hub.requests == []


def test_without_a_token(hub: Hub, folder: Path) -> None:
    with pytest.raises(HubError, match="you are not logged in. Please log in with `hf auth login`"):
        upload(folder, "ann/small", create=True)
    assert hub.requests == []


def test_a_folder_of_0_1_has_no_manifest_and_no_card(hub: Hub, invoke: Invoke) -> None:
    shutil.copytree(Path(__file__).parents[1] / "written_by_0_1" / "distilled", "old")
    said = invoke("upload", "old", "ann/old", "--dry-run")
    assert "config.json" in said.stdout
    assert "the repository gets no model card" in " ".join(said.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["small", "small"], 2, "names no owner"),
        (["small", "ann/small@v1", "--revision", "v2"], 2, "name two revisions"),
        (["small", "ann/small", "--revision", "../x"], 2, "after the @ stands a branch"),
        (["hf://ann/small", "ann/other"], 2, "is on the Hub already"),
        (["nowhere", "ann/small"], 1, "There is no folder nowhere."),
        (["resnet18", "ann/small"], 1, "There is no folder resnet18."),
    ],
)
def test_what_cannot_be_meant(
    hub: Hub, folder: Path, invoke: Invoke, arguments: list[str], code: int, words: str
) -> None:
    assert words in " ".join(invoke("upload", *arguments, code=code).stderr.split())
    assert hub.requests == []


def test_another_programs_manifest(hub: Hub, folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(ArtefactError, match="its manifest.json was not written by seclcompress"):
        upload(folder, "ann/small", dry_run=True)


def test_without_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seclcompress.hub import fetching

    monkeypatch.setattr(fetching.extras, "missing", lambda *names: ["huggingface-hub"])
    with pytest.raises(UsageError, match=r"upload needs huggingface-hub, .*compress\[hub\]"):
        upload(folder, "ann/small")
    assert sorted(upload(folder, "ann/small", dry_run=True).files) == OURS
