"""No existing file is lost, and nothing half-written is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from seclcompress import resolve
from seclcompress.errors import ArtefactError
from seclcompress.files import (
    check_free,
    give_second_name,
    remove_ours,
    set_aside,
    system,
    write_file,
    write_folder,
)
from seclcompress.files import write as writing

CONFIG = '{"versions": {"seclcompress": "0"}}'


def save(path: Path, content: str = CONFIG, overwrite: bool = False) -> None:
    write_folder(path, {"config.json": content.encode()}, overwrite)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ArtefactError, match="is there already"):
        save(tmp_path / "out")
    assert names(tmp_path / "out") == []


def test_overwrite_never_removes_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(ArtefactError, match=r"what seclcompress did not write \(cat.jpg\)"):
        save(tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_overwrite_replaces_the_whole_folder(tmp_path: Path) -> None:
    for name in ("best.safetensors", "metrics.jsonl"):
        files = {"config.json": CONFIG.encode(), name: b""}
        write_folder(tmp_path / "out", files, overwrite=name == "metrics.jsonl")
    assert names(tmp_path / "out") == ["config.json", "manifest.json", "metrics.jsonl"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("content", ["{}", '{"versions": {"other": 1}}', "[]", "{", "3"])
def test_a_config_of_another_program(tmp_path: Path, content: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(content)
    with pytest.raises(ArtefactError, match=r"not replaced, not even by --overwrite"):
        save(tmp_path / "model", overwrite=True)
    assert (tmp_path / "model" / "config.json").read_text() == content


def test_weights_of_another_program(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "model.safetensors").write_text("precious")
    with pytest.raises(ArtefactError, match="it has no config.json of seclcompress"):
        save(tmp_path / "hf", overwrite=True)
    assert (tmp_path / "hf" / "model.safetensors").read_text() == "precious"


def test_left_over_temporaries_are_ours(tmp_path: Path) -> None:
    folder = tmp_path / "run.partial"
    folder.mkdir()
    for name in (
        "checkpoint.safetensors",
        ".checkpoint.safetensors.x1y2z3_0",
        ".best.safetensors.z0000000",
        ".checkpoint.previous.safetensors.link",
        ".manifest.json.abcd1234",
    ):
        (folder / name).touch()
    check_free(folder, overwrite=True)
    (folder / "notes.txt").touch()
    assert remove_ours(folder) == ["notes.txt"]
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    assert remove_ours(folder) == []
    assert not folder.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_stopped_between_two_renames_the_old_folder_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    save(tmp_path / "out")
    rename, calls = Path.rename, []

    def stop(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop)
    monkeypatch.setattr(writing, "exchange", lambda one, other: False)
    with pytest.raises((error, ArtefactError)):
        save(tmp_path / "out", "new", overwrite=True)
    assert '"seclcompress"' in (tmp_path / "out" / "config.json").read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "important.txt").write_text("data")
    with pytest.raises(ArtefactError, match="it is no folder"):
        save(tmp_path / "important.txt", overwrite=True)
    assert (tmp_path / "important.txt").read_text() == "data"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fail(path: Path) -> None:
        assert names(path.parent) == ["config.json", "manifest.json"]
        raise error

    monkeypatch.setattr(writing, "sync_file", fail)
    with pytest.raises(error):
        save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtefactError, match="is a file, not a folder"):
        save(tmp_path / "file" / "out")


def test_a_file_is_replaced_in_one_step(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    monkeypatch.setattr(
        "os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(ArtefactError, match="No space left"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_second_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "other", ".other.link"):  # a killed process has left the last one
        write_file(tmp_path / name, name.encode())
    assert give_second_name(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes() == b"one"
    assert names(tmp_path) == ["one", "other"]

    def refuse(*args: object) -> None:
        raise OSError(95, "Operation not supported")

    write_file(tmp_path / "one", b"new")
    monkeypatch.setattr(os, "link", refuse)
    assert not give_second_name(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == b"one"


class TestExchange:
    def test_two_folders_have_each_others_names(self, tmp_path: Path) -> None:
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            (tmp_path / name / name).touch()
        if not system.exchange(tmp_path / "one", tmp_path / "other"):
            pytest.skip("this system or file system cannot exchange names")
        assert names(tmp_path / "one") == ["other"]
        assert names(tmp_path / "other") == ["one"]

    def test_where_it_cannot_nothing_has_happened(self, tmp_path: Path) -> None:
        (tmp_path / "one").mkdir()
        assert not system.exchange(tmp_path / "one", tmp_path / "missing")
        assert names(tmp_path) == ["one"]

    @pytest.mark.parametrize("library", [object(), None])
    def test_a_c_library_without_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: object
    ) -> None:
        def open_library(name: None, use_errno: bool) -> object:
            if library is None:
                raise OSError("no such library")
            return library

        monkeypatch.setattr("ctypes.CDLL", open_library)
        assert not system.exchange(tmp_path, tmp_path)
        save(tmp_path / "out")
        save(tmp_path / "out", CONFIG + " ", overwrite=True)
        assert (tmp_path / "out/config.json").read_text() == CONFIG + " "
        assert names(tmp_path) == ["out"]

    def test_it_is_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save(tmp_path / "probe")
        save(tmp_path / "out")
        if not system.exchange(tmp_path / "probe", tmp_path / "out"):
            pytest.skip("this system or file system cannot exchange names")

        def two_steps(temporary: Path, path: Path) -> None:
            pytest.fail("there is a way in one step")

        monkeypatch.setattr(writing, "_replace_in_two_steps", two_steps)
        save(tmp_path / "out", CONFIG + " ", overwrite=True)
        assert (tmp_path / "out/config.json").read_text() == CONFIG + " "

    @pytest.mark.parametrize("times", [1, 2])
    def test_what_came_into_the_folder_in_the_last_moment_is_not_lost(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
    ) -> None:
        save(tmp_path / "out")
        exchange, calls = system.exchange, []

        def late(one: Path, other: Path) -> bool:
            calls.append(1)
            if len(calls) <= times:  # at the second call `out` is the new folder, which is given up
                (tmp_path / "out" / "thesis.tex").write_text("dear diary")
            return exchange(one, other)

        monkeypatch.setattr(writing, "exchange", late)
        with pytest.raises(ArtefactError, match=r"did not write \(thesis.tex\)"):
            save(tmp_path / "out", CONFIG + " ", overwrite=True)
        assert names(tmp_path / "out") == ["config.json", "manifest.json", "thesis.tex"]
        assert (tmp_path / "out/config.json").read_text() == CONFIG
        assert len(list(tmp_path.rglob("thesis.tex"))) == times
        assert len(list(tmp_path.rglob("*.json"))) == 2
        assert names(tmp_path)[-1] == "out"
        assert len(names(tmp_path)) == times


class TestLeftBehind:
    def test_a_dead_process_s_is_removed_and_a_living_one_s_is_not(self, tmp_path: Path) -> None:
        dead, living = tmp_path / ".out.new.abcd1234", tmp_path / ".out.new.efgh5678"
        foreign = [tmp_path / ".out.new.longername", tmp_path / ".other.new.abcd1234"]
        for folder in (dead, living, *foreign):
            folder.mkdir()
            (folder / "model.safetensors").touch()
        with system.locked(living) as held:
            if not held:
                pytest.skip("this file system has no locks")
            save(tmp_path / "out")
        assert not dead.exists()
        assert all((folder / "model.safetensors").exists() for folder in (living, *foreign))

    def test_what_somebody_put_there_stays(self, tmp_path: Path) -> None:
        (tmp_path / ".out.new.abcd1234").mkdir()
        (tmp_path / ".out.new.abcd1234" / "thesis.tex").touch()
        save(tmp_path / "out")
        assert (tmp_path / ".out.new.abcd1234" / "thesis.tex").exists()

    def test_without_locks_nothing_is_removed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none(handle: int, how: int) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr("fcntl.flock", none)
        (tmp_path / ".out.new.abcd1234").mkdir()
        save(tmp_path / "out")
        save(tmp_path / "out", CONFIG + " ", overwrite=True)
        assert names(tmp_path) == [".out.new.abcd1234", "out"]

    def test_a_folder_that_was_set_aside_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The process is killed between two renames, on a system that cannot exchange names."""
        aside = tmp_path / ".out.old.abcd1234" / "out"
        save(aside)
        assert set_aside(tmp_path / "out") == aside
        with pytest.raises(ArtefactError, match=r"old.abcd1234/out\. Move it back, or give it up"):
            save(tmp_path / "out")
        monkeypatch.chdir(tmp_path)
        for spec in ("out", "./out"):
            with pytest.raises(ArtefactError, match=r"There is no folder .*abcd1234/out: move it"):
                resolve.locate(spec)
        assert aside.is_dir()
        save(tmp_path / "out", overwrite=True)
        assert names(tmp_path) == ["out"]
        assert set_aside(tmp_path / "out") is None


class TestRefused:
    @pytest.fixture
    def nobody(self, tmp_path: Path) -> Iterator[Path]:
        """A folder in which the current user, who is not root, cannot write."""
        folder = Path(tempfile.mkdtemp())
        save(folder / "ours")
        (folder / "ours").chmod(0o555)
        (folder / "hidden").mkdir(mode=0o000)
        folder.chmod(0o555)
        was_root = os.geteuid() == 0
        if was_root:
            os.setresuid(65534, 65534, 0)
        yield folder
        if was_root:
            os.setresuid(0, 0, 0)
        folder.chmod(0o755)
        (folder / "hidden").chmod(0o755)
        (folder / "ours").chmod(0o755)
        shutil.rmtree(folder)

    def test_no_permission(self, nobody: Path) -> None:
        for place in ("out", "deep/out"):
            with pytest.raises(ArtefactError, match="no permission to write in"):
                save(nobody / place)
        with pytest.raises(ArtefactError, match="no permission to write in"):
            save(nobody / "ours", overwrite=True)
        with pytest.raises(ArtefactError, match=r"Cannot write .*/plan.json: Permission denied"):
            write_file(nobody / "plan.json", b"x")
        with pytest.raises(ArtefactError, match=r"Cannot write .*hidden.*: Permission denied"):
            save(nobody / "hidden" / "out")
        with pytest.raises(ArtefactError, match=r"Cannot write .*hidden: Permission denied"):
            save(nobody / "hidden", overwrite=True)
        assert names(nobody) == ["hidden", "ours"]
        assert (nobody / "ours/config.json").read_text() == CONFIG
        with pytest.raises(
            ArtefactError, match=r"Cannot read .*hidden/net/config.json: Permission"
        ):
            resolve.locate(str(nobody / "hidden" / "net"))
        with pytest.raises(ArtefactError, match=r"Cannot read .*: Permission denied"):
            resolve.locate(str(nobody / "hidden"))

    @pytest.mark.parametrize("place", ["x" * 300, "new/..", "..", "."])
    def test_names_that_are_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        for overwrite in (False, True):
            if place == "." and overwrite:
                continue  # the current folder is empty, so it may be replaced
            with pytest.raises(ArtefactError):
                save(Path(place), overwrite=overwrite)
        assert names(tmp_path / "here") == []

    def test_a_pipe_in_place_of_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        os.mkfifo(tmp_path / "out" / "config.json")
        with pytest.raises(ArtefactError, match="its config.json is no file"):
            save(tmp_path / "out", overwrite=True)

    def test_a_link_to_a_folder(self, tmp_path: Path) -> None:
        save(tmp_path / "real")
        (tmp_path / "link").symlink_to("real")
        with pytest.raises(ArtefactError, match="it is no folder"):
            save(tmp_path / "link", overwrite=True)
        (tmp_path / "broken").symlink_to("nowhere")
        with pytest.raises(ArtefactError, match="is there already"):
            save(tmp_path / "broken")
        assert (tmp_path / "link").is_symlink()


FULL_DISK = """
import sys
from pathlib import Path
from seclcompress.errors import ArtefactError
from seclcompress.files import write_file, write_folder

place, ballast = Path(sys.argv[1]), Path(sys.argv[1], "ballast")
OLD = '{"versions": {"seclcompress": "0"}}'

def save(content):
    files = {"config.json": OLD.encode(), "model.safetensors": content}
    write_folder(place / "out", files, overwrite=True)

save(b"old" * 4096)
write_file(place / "plan.json", b"old" * 4096)
refused = 0
for blocks in range(64):
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    try:
        with ballast.open("r+b") as file:
            file.truncate(max(0, ballast.stat().st_size - 4096 * blocks))
    except OSError:
        pass
    for name, attempt in {
        "out/model.safetensors": lambda: save(b"new" * 16384),
        "plan.json": lambda: write_file(place / "plan.json", b"new" * 16384),
    }.items():
        expected = b"new" * 16384
        try:
            attempt()
        except ArtefactError as error:
            assert "No space left" in str(error), error
            expected, refused = b"old" * 4096, refused + 1
        found = (place / name).read_bytes()
        assert found == expected, (blocks, name, len(found))
    left = sorted(path.name for path in place.iterdir())
    assert left == ["ballast", "out", "plan.json"], left
    ballast.unlink()
    save(b"old" * 4096)
    write_file(place / "plan.json", b"old" * 4096)
assert 10 < refused < 128, refused
print("refused", refused)
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """A file system of 256 KiB, filled until a given number of blocks is left."""
    mount = f"mount -t tmpfs -o size=256k none {tmp_path} && exec {sys.executable} - {tmp_path}"
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no unshare here, so no file system of our own")
    probe = [unshare, "-rm", "sh", "-c", f"mount -t tmpfs -o size=256k none {tmp_path}"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a file system of their own")
    result = subprocess.run(
        [unshare, "-rm", "sh", "-c", mount],
        input=FULL_DISK,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert result.returncode == 0, result.stderr
    assert "refused" in result.stdout


WRITER = """
import sys
from pathlib import Path
from seclcompress.errors import ArtefactError
from seclcompress.files import write_folder

who, overwrite = sys.argv[2], sys.argv[3] == "overwrite"
won = 0
for attempt in range(60):
    try:
        config = '{"versions": {"seclcompress": "%s"}}' % who
        files = {"config.json": config.encode(), "model.safetensors": who.encode()}
        write_folder(Path(sys.argv[1]), files, overwrite)
        won += 1
    except ArtefactError as error:
        assert "is there already" in str(error) and not overwrite, error
print(won)
"""


@pytest.mark.parametrize("how", ["overwrite", "anew"])
def test_processes_that_write_to_one_place_at_once(tmp_path: Path, how: str) -> None:
    path = tmp_path / "out"
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    in_one_step = system.exchange(tmp_path / "one", tmp_path / "other")
    for name in ("one", "other"):
        (tmp_path / name).rmdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(who), how],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in range(4)
    ]
    seen = False
    while any(writer.poll() is None for writer in writers):
        assert path.exists() or not (seen and in_one_step), "a folder that was there is gone"
        seen = seen or path.exists()
    counts = [int(writer.communicate()[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4
    assert sum(counts) == (240 if how == "overwrite" else 1)
    who = (path / "model.safetensors").read_text()
    assert (path / "config.json").read_text() == CONFIG.replace('"0"', f'"{who}"')
    assert names(tmp_path) == ["out"]
