"""A folder's manifest names our files; a forged manifest cannot claim files of others."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from seclcompress.errors import ArtefactError
from seclcompress.files import (
    MANIFEST,
    ManifestError,
    add_file,
    check_free,
    note,
    remove_ours,
    write_file,
    write_folder,
)
from seclcompress.files.manifest import check_entry, is_named, read_manifest

WRITTEN_BY_0_1 = Path(__file__).parents[1] / "written_by_0_1"
UNKNOWN = {"net.onnx": b"a kind that nobody knows", "tables_2.csv": b""}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put(folder: Path, manifest: object, *files: str) -> Path:
    """Makes a folder as another program or person would."""
    folder.mkdir(exist_ok=True)
    content = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    (folder / MANIFEST).write_bytes(content)
    for name in files:
        (folder / name).write_text("precious")
    return folder


def is_left_alone(folder: Path, why: str) -> None:
    """Checks that a folder is neither replaced nor cleared, and that the message says why."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ArtefactError, match=why) as raised:
        write_folder(folder, UNKNOWN, overwrite=True)
    assert "not replaced, not even by --overwrite" in str(raised.value)
    assert len(str(raised.value)) < 500
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


class TestFolders:
    def test_it_names_all_that_is_there(self, tmp_path: Path) -> None:
        write_folder(tmp_path / "out", UNKNOWN)
        content = json.loads((tmp_path / "out" / MANIFEST).read_text())
        assert content["files"] == names(tmp_path / "out") == sorted([*UNKNOWN, MANIFEST])
        assert isinstance(content["seclcompress"], str)
        for name, expected in UNKNOWN.items():
            assert (tmp_path / "out" / name).read_bytes() == expected
        write_folder(tmp_path / "again", dict(reversed(UNKNOWN.items())))
        same = (tmp_path / "out" / MANIFEST).read_bytes() == (
            tmp_path / "again" / MANIFEST
        ).read_bytes()
        assert same

    def test_a_kind_that_is_unknown_today_is_replaced(self, tmp_path: Path) -> None:
        write_folder(tmp_path / "out", UNKNOWN)
        with pytest.raises(ArtefactError, match="is there already"):
            write_folder(tmp_path / "out", {})
        write_folder(tmp_path / "out", {"other.kind": b""}, overwrite=True)
        assert names(tmp_path / "out") == [MANIFEST, "other.kind"]
        assert names(tmp_path) == ["out"]

    def test_what_the_manifest_does_not_name_is_named_in_words(self, tmp_path: Path) -> None:
        write_folder(tmp_path / "out", UNKNOWN)
        for name in ("thesis.tex", "metrics.jsonl"):  # the second is the name of a file of 0.1
            (tmp_path / "out" / name).write_text("precious")
            is_left_alone(tmp_path / "out", rf"did not write \({name}\)")
            (tmp_path / "out" / name).unlink()

    def test_another_program_has_saved_its_network_over_ours(self, tmp_path: Path) -> None:
        config = b'{"versions": {"seclcompress": "0"}}'
        write_folder(tmp_path / "out", {"config.json": config, "model.safetensors": b""})
        (tmp_path / "out" / "config.json").write_text('{"architectures": ["Bert"]}')
        is_left_alone(tmp_path / "out", "its config.json was not written by seclcompress")

    @pytest.mark.parametrize(
        "name",
        ["", ".", "..", "../x", "a/b", "a\\b", "/x", ".bashrc", "*", "x*y", "a\n", "x" * 300],
    )
    def test_names_that_no_file_may_have(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ManifestError):
            write_folder(tmp_path / "out", {name: b""})
        with pytest.raises(ManifestError):
            note(tmp_path / "run", name)
        assert [path for path in tmp_path.iterdir() if path.is_file() or names(path)] == []

    def test_what_no_manifest_could_be_read_with_is_not_written(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match="is written by the folder itself"):
            write_folder(tmp_path / "out", {MANIFEST: b"{}"})
        with pytest.raises(ManifestError, match="it may have"):
            write_folder(tmp_path / "out", {f"{number:0100}.x": b"" for number in range(1000)})
        assert names(tmp_path) == []


class TestKilled:
    """What a later process finds after a kill. test_killed.py kills before every line."""

    def test_the_manifest_comes_first_and_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replace, seen = Path.replace, []

        def watched(path: Path, target: Path) -> Path:
            seen.append(target.name)
            assert names(target.parent) == [path.name]
            assert json.loads(path.read_bytes())["files"] == sorted([*UNKNOWN, MANIFEST])
            return replace(path, target)

        monkeypatch.setattr(Path, "replace", watched)
        write_folder(tmp_path / "out", UNKNOWN)
        assert seen == [MANIFEST]

    def test_between_manifest_and_files(self, tmp_path: Path) -> None:
        dead = tmp_path / ".out.new.abcd1234"
        note(dead, *UNKNOWN)
        (dead / "net.onnx").write_bytes(b"half of")
        write_folder(tmp_path / "out", UNKNOWN)
        assert names(tmp_path) == ["out"]

    def test_in_the_middle_of_the_manifest(self, tmp_path: Path) -> None:
        dead = tmp_path / ".out.new.abcd1234"
        dead.mkdir()
        (dead / f".{MANIFEST}.abcd1234").write_text('{"seclcomp')
        write_folder(tmp_path / "out", UNKNOWN)
        assert names(tmp_path) == ["out"]

    def test_while_a_folder_is_removed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The manifest is removed last, so it names every file that is left."""
        write_folder(tmp_path / "out", UNKNOWN)
        unlink, steps = Path.unlink, []

        def watched(path: Path, missing_ok: bool = False) -> None:
            check_free(tmp_path / "out", overwrite=True)
            steps.append(path.name)
            unlink(path, missing_ok)

        monkeypatch.setattr(Path, "unlink", watched)
        assert remove_ours(tmp_path / "out") == []
        assert len(steps) == 3
        assert steps[-1] == MANIFEST


class TestNote:
    def test_twice_is_once(self, tmp_path: Path) -> None:
        run = tmp_path / "deep" / "run.partial"
        note(run, "a.kind")
        before = (run / MANIFEST).stat()
        note(run, "a.kind")
        note(run)
        after = (run / MANIFEST).stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        note(run, "b.kind", "a.kind")
        assert read_manifest(run) == {"a.kind", "b.kind", MANIFEST}
        assert names(run) == [MANIFEST]

    def test_a_file_and_what_a_library_adds_to_a_name(self, tmp_path: Path) -> None:
        add_file(tmp_path / "run", "best.kind", b"old")
        add_file(tmp_path / "run", "best.kind", b"new")
        note(tmp_path / "run", "events.out.tfevents.*")
        write_file(tmp_path / "run" / "events.out.tfevents.17.host", b"")
        assert (tmp_path / "run" / "best.kind").read_bytes() == b"new"
        check_free(tmp_path / "run", overwrite=True)
        (tmp_path / "run" / "notes.txt").touch()
        assert remove_ours(tmp_path / "run") == ["notes.txt"]

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        note(tmp_path / "run", "a.kind")

        def full(handle: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(ArtefactError, match=r"Cannot write .*manifest.json: No space left"):
                note(tmp_path / "run", "b.kind")
        assert read_manifest(tmp_path / "run") == {"a.kind", MANIFEST}
        assert names(tmp_path / "run") == [MANIFEST]

    def test_another_program_s_manifest_is_not_written_over(self, tmp_path: Path) -> None:
        run = put(tmp_path / "run", {"name": "a web page"})
        before = (run / MANIFEST).read_bytes()
        with pytest.raises(ArtefactError, match="its manifest.json was not written by secl"):
            add_file(run, "a.kind", b"")
        assert (run / MANIFEST).read_bytes() == before
        assert names(run) == [MANIFEST]


OURS = {"seclcompress": "9.9"}


class TestStrangers:
    @pytest.mark.parametrize(
        ("entry", "why"),
        [
            ("*", "before the . of '.' must stand at least 8 characters"),
            ("thesis_1*", None),
            ("thesis*", "must stand at least 8 characters"),
            ("**********", "no plain file name"),
            ("????????*", "no plain file name"),
            ("[a-z]hesis*", "no plain file name"),
            ("../precious", "no plain file name"),
            ("..\\precious", "no plain file name"),
            ("/etc/passwd", "no plain file name"),
            ("../preciou*", "no plain file name"),
            ("..", "no plain file name"),
            (".", "no plain file name"),
            ("", "no plain file name"),
            (".git", "no plain file name"),
            (".ssh_keys*", "no plain file name"),
            ("a\x00b", "no plain file name"),
            ("\ud800", "no plain file name"),
            ("x" * 10_000, "no plain file name"),
            (7, "is no text"),
            (None, "is no text"),
            (["thesis.tex"], "is no text"),
        ],
    )
    def test_entries(self, tmp_path: Path, entry: object, why: str | None) -> None:
        (tmp_path / "precious").write_text("outside")
        manifest = {**OURS, "files": [MANIFEST, "model.safetensors", entry]}
        folder = put(tmp_path / "out", manifest, "model.safetensors")
        if why is None:
            assert check_entry(entry) == entry
            check_free(folder, overwrite=True)
            return
        is_left_alone(folder, rf"its manifest.json is not to be trusted: .*{why}")
        assert remove_ours(folder) == names(folder) == [MANIFEST, "model.safetensors"]
        assert (tmp_path / "precious").read_text() == "outside"

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"[]",
            b"3",
            b'"seclcompress files"',
            b"\xff\xfe\x00",
            b"[" * 60_000,
            b'{"seclcompress": ' + b"1" * 6000 + b"}",
            b'{"name": "a web page", "files": ["thesis.tex"]}',
            b'{"seclcompress": "9", "files": "thesis.tex"}',
            b'{"seclcompress": "9", "files": {"thesis.tex": 1}}',
            b'{"seclcompress": 9, "files": ["thesis.tex"]}',
            b'{"seclcompress": "9"}',
        ],
    )
    def test_what_is_no_manifest(self, tmp_path: Path, content: bytes) -> None:
        folder = put(tmp_path / "out", content, "thesis.tex")
        is_left_alone(folder, "its manifest.json was not written by seclcompress, or is damaged")
        # The names of 0.1 count only in a folder without a manifest.
        (folder / "best.safetensors").touch()
        assert remove_ours(folder) == ["best.safetensors", MANIFEST, "thesis.tex"]

    def test_a_large_one_is_not_read(self, tmp_path: Path) -> None:
        folder = put(tmp_path / "out", b"")
        with (folder / MANIFEST).open("r+b") as file:
            file.truncate(2**40)  # a sparse file, which takes no space on the disk
        with pytest.raises(ArtefactError, match=r"has 1,099,511,627,776 bytes; one of secl"):
            write_folder(folder, UNKNOWN, overwrite=True)

    @pytest.mark.parametrize("kind", ["link", "circle", "pipe", "folder"])
    def test_what_is_no_file(self, tmp_path: Path, kind: str) -> None:
        folder = tmp_path / "out"
        folder.mkdir()
        (folder / "thesis.tex").write_text("precious")
        elsewhere = put(tmp_path / "elsewhere", {**OURS, "files": ["thesis.tex"]})
        if kind == "link":
            (folder / MANIFEST).symlink_to(elsewhere / MANIFEST)
        elif kind == "circle":
            (folder / MANIFEST).symlink_to(MANIFEST)
        elif kind == "pipe":
            os.mkfifo(folder / MANIFEST)
        else:
            (folder / MANIFEST).mkdir()
        is_left_alone(folder, "its manifest.json is no file")
        assert remove_ours(folder) == [MANIFEST, "thesis.tex"]

    def test_folders_are_never_ours(self, tmp_path: Path) -> None:
        """This program writes no folders into its folders, so a manifest that names one is forged."""
        for out in (put(tmp_path / "out", {**OURS, "files": ["photos_2024*"]}), tmp_path / "old"):
            inner = out / ("photos_2024" if out.name == "out" else "best.safetensors")
            inner.mkdir(parents=True)
            (inner / "cat.jpg").write_text("precious")
            is_left_alone(out, rf"did not write \({inner.name}\)")
            assert inner.name in remove_ours(out)
            assert (inner / "cat.jpg").exists()

    def test_a_link_is_removed_and_what_it_leads_to_is_not(self, tmp_path: Path) -> None:
        folder = put(tmp_path / "out", {**OURS, "files": ["photos", "net.onnx"]})
        elsewhere = put(tmp_path / "elsewhere", {}, "cat.jpg")
        (folder / "photos").symlink_to(elsewhere)
        (folder / "net.onnx").symlink_to(elsewhere / "cat.jpg")
        write_folder(folder, UNKNOWN, overwrite=True)
        assert (elsewhere / "cat.jpg").read_text() == "precious"

    @pytest.mark.parametrize(
        ("name", "named"),
        [
            ("a", True),
            (".a.abcd1234", True),
            (".a.link", True),
            (f".{MANIFEST}.abcd1234", True),
            (".a.config", False),
            (".a.abcd12345", False),
            (".events.out.abcd1234", False),
            ("events.out.1", True),
            ("events.out.", True),
            ("events.out", False),
            ("A", False),
            ("b", False),
        ],
    )
    def test_what_an_entry_names(self, tmp_path: Path, name: str, named: bool) -> None:
        (tmp_path / name).touch()
        assert is_named(tmp_path / name, frozenset({"a", "events.out.*"})) == named


class TestWrittenBy01:
    """Folders and runs of 0.1 have no manifest."""

    @pytest.mark.parametrize("name", ["distilled", "converted"])
    def test_a_folder_is_replaced(self, tmp_path: Path, name: str) -> None:
        shutil.copytree(WRITTEN_BY_0_1 / name, tmp_path / "out")
        (tmp_path / "out" / "events.out.tfevents.17.host").touch()
        write_folder(tmp_path / "out", UNKNOWN, overwrite=True)
        assert names(tmp_path / "out") == sorted([*UNKNOWN, MANIFEST])
        assert names(tmp_path) == ["out"]

    @pytest.mark.parametrize("strange", ["thesis.tex", "net.onnx", ".best.safetensors.mine"])
    def test_it_is_not_with_what_0_1_did_not_write(self, tmp_path: Path, strange: str) -> None:
        shutil.copytree(WRITTEN_BY_0_1 / "distilled", tmp_path / "out")
        (tmp_path / "out" / strange).write_text("precious")
        is_left_alone(tmp_path / "out", rf"did not write \({strange}\)")

    RUN = (
        "best.safetensors",
        "metrics.jsonl",
        "checkpoint.safetensors",
        ".checkpoint.previous.safetensors.link",
        "events.out.tfevents.17.host",
    )

    @pytest.mark.parametrize("go_on", [False, True])
    def test_a_run_in_progress_is_cleaned_up(self, tmp_path: Path, go_on: bool) -> None:
        run = tmp_path / "run.partial"
        run.mkdir()
        for name in self.RUN:
            (run / name).touch()
        if go_on:
            add_file(run, "new.kind", b"")
        (run / "notes.txt").touch()
        assert remove_ours(run) == ["notes.txt"]

    def test_a_run_that_goes_on_claims_nothing_else(self, tmp_path: Path) -> None:
        """A user's own network in a folder that Python code has used for a run."""
        for name in ("checkpoint.safetensors", "model.safetensors"):
            (tmp_path / name).touch()
        note(tmp_path, "new.kind")
        assert remove_ours(tmp_path) == ["model.safetensors"]

    def test_a_folder_without_its_files_gets_none_of_their_names(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").touch()
        note(tmp_path, "new.kind")
        assert read_manifest(tmp_path) == {"new.kind", MANIFEST}
