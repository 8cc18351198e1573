"""Which files of a folder are images, and what is said of the others."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from PIL import Image
from torchvision import datasets

from seclcompress.data.finding import class_folders, endings, find_images
from seclcompress.errors import DataError

POSIX = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")


def picture(path: Path, kind: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), (200, 40, 40)).save(path, kind)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        picture(tmp_path / name / "1.png")
    return tmp_path


def names(folder: Path) -> list[str]:
    found = find_images(folder)
    return [Path(path).relative_to(folder).as_posix() for path, _ in found.samples]


def test_the_order_is_torchvisions(folder: Path) -> None:
    """So a run that was started before can go on."""
    for name in ("a/z.png", "a/b/1.png", "A.PNG", "a.jpg", "0/x.webp", "a b/q.tif"):
        picture(folder / "dog" / name)
    assert find_images(folder).samples == datasets.ImageFolder(folder).samples


def test_endings_that_cameras_and_browsers_write(folder: Path) -> None:
    for name, kind in (
        ("1.JFIF", "JPEG"),
        ("2.gif", "GIF"),
        ("3.jpe", "JPEG"),
        ("4.jp2", "JPEG2000"),
    ):
        picture(folder / "dog" / name, kind)
    assert {"dog/1.JFIF", "dog/2.gif", "dog/3.jpe"} <= set(names(folder))
    assert ".eps" not in endings()  # it would start a program
    assert ".pdf" not in endings()


def test_what_is_not_read_is_said_by_ending(folder: Path) -> None:
    for number in range(30):
        (folder / "dog" / f"{number}.HEIC").write_bytes(b"")
    (folder / "cat" / "labels.txt").write_text("1")
    (folder / "cat" / "noending").write_text("1")
    (folder / "cat" / "Thumbs.db").write_text("1")
    found = find_images(folder)
    assert len(found.samples) == 2
    [words] = found.notes
    assert "1 (no ending), 30 .heic, 1 .txt files were not read; images end in .jpg, " in words


def test_files_beside_the_class_folders_are_said(folder: Path) -> None:
    picture(folder / "lost.png")
    [words] = find_images(folder).notes
    assert "lost.png: not read, as it lies beside the class folders" in words


def test_hidden_folders_and_files_are_no_classes(folder: Path) -> None:
    for name in (".ipynb_checkpoints/1.png", "__MACOSX/1.png", "cat/.cache/2.png", "@eaDir/3.png"):
        picture(folder / name)
    for name in ("cat/._1.png", "cat/.hidden.png"):
        picture(folder / name)
    (folder / ".DS_Store").write_bytes(b"")
    assert class_folders(folder) == ["cat", "dog"]
    found = find_images(folder)
    assert names(folder) == ["cat/1.png", "dog/1.png"]
    [words] = found.notes
    for name in (".ipynb_checkpoints", "@eaDir"):
        assert name in words
    assert "hidden folders and those of a system are no classes" in words


@POSIX
def test_pipes_devices_and_sockets_are_left_out(folder: Path) -> None:
    os.mkfifo(folder / "cat" / "pipe.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "cat" / "null.png").symlink_to("/dev/null")
    listening = socket.socket(socket.AF_UNIX)
    before = Path.cwd()
    try:
        os.chdir(folder / "cat")  # the path of a socket has to be short
        listening.bind("s.png")
    finally:
        os.chdir(before)
        listening.close()
    found = find_images(folder)
    assert len(found.samples) == 2
    [words] = found.notes
    assert "it is no regular file but a pipe, device or socket" in words
    for name in ("cat/null.png", "cat/pipe.png", "and 1 more"):
        assert name in words


@POSIX
def test_symbolic_links_are_followed_but_not_in_circles(folder: Path) -> None:
    picture(folder.parent / f"{folder.name}-more" / "2.png")
    (folder / "bird").symlink_to(folder.parent / f"{folder.name}-more", target_is_directory=True)
    (folder / "cat" / "again").symlink_to(folder / "cat", target_is_directory=True)
    (folder / "cat" / "all").symlink_to(folder, target_is_directory=True)  # all would be cats
    (folder / "cat" / "root").symlink_to("/", target_is_directory=True)
    (folder / "dog" / "up").symlink_to(folder / "dog", target_is_directory=True)
    (folder / "dog" / "a").symlink_to("b")
    (folder / "dog" / "b").symlink_to("a")
    (folder / "dog" / "gone.png").symlink_to("nowhere.png")
    (folder / "dog" / "too.png").symlink_to("1.png")
    found = find_images(folder)
    assert found.classes == ["bird", "cat", "dog"]
    assert names(folder) == ["bird/2.png", "cat/1.png", "dog/1.png", "dog/too.png"]
    loops, broken = found.notes
    assert "cat/again, cat/all, cat/root and 1 more: not followed, as this symbolic link" in loops
    assert "dog/a, dog/b, dog/gone.png: not read, as this symbolic link leads nowhere" in broken


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no permissions as on POSIX")
def test_a_folder_that_may_not_be_read(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (folder / "cat").chmod(0)
    try:
        with pytest.raises(DataError, match="cat cannot be read: .*Permission denied"):
            find_images(folder)
    finally:
        (folder / "cat").chmod(0o700)


def test_an_empty_class_is_an_error_that_says_what_is_there(folder: Path) -> None:
    (folder / "dog" / "1.png").rename(folder / "dog" / "1.heic")
    with pytest.raises(
        DataError, match=r"dog has no images\. Add some, .* 1 \.heic file was not read"
    ):
        find_images(folder)
