"""The parts of a data folder, and its division where it has no test images."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from PIL import Image

from seclcompress.data import usual_input_size
from seclcompress.data.layout import find_parts, fingerprint
from seclcompress.errors import DataError


def fill(folder: Path, *classes: str, count: int = 2, side: int = 9) -> None:
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (side, side)).save(folder / name / f"{number}.png")


@pytest.mark.parametrize("train", ["train", "training", "Train"])
@pytest.mark.parametrize("test", ["val", "valid", "validation", "test", "VAL"])
def test_names_of_the_parts(tmp_path: Path, train: str, test: str) -> None:
    fill(tmp_path / train, "a", "b", count=3)
    fill(tmp_path / test, "a", "b", count=1)
    parts = find_parts(tmp_path)
    assert (len(parts.train), len(parts.test)) == (6, 2)
    assert parts.notes == ()


def test_what_is_not_used_is_said(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        fill(tmp_path / name, "a")
    [words] = find_parts(tmp_path).notes
    assert "the test images are those of val/; not used: test." in words


@pytest.mark.parametrize("pair", [("train", "training"), ("val", "valid")])
def test_two_of_one_kind_are_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    for name in ("train", "val", *pair):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        fill(tmp_path / name, "a")
    with pytest.raises(DataError, match=f"has {pair[0]}/ and {pair[1]}/: which of them is meant"):
        find_parts(tmp_path)


def test_parts_that_are_missing(tmp_path: Path) -> None:
    fill(tmp_path / "flat", "cat", "dog")
    with pytest.raises(
        DataError, match=r"no folder of test images: .*It has cat, dog. --validation"
    ):
        find_parts(tmp_path / "flat")
    fill(tmp_path / "half" / "train", "cat")
    with pytest.raises(
        DataError, match=r"--validation 0.2 would test on a fifth of each class in t"
    ):
        find_parts(tmp_path / "half")
    fill(tmp_path / "other" / "val", "cat")
    with pytest.raises(DataError, match="no folder of training images"):
        find_parts(tmp_path / "other")


class TestValidation:
    @pytest.mark.parametrize("inside", ["", "train"])
    def test_the_same_share_of_each_class(self, tmp_path: Path, inside: str) -> None:
        fill(tmp_path / inside, "a", count=20)
        fill(tmp_path / inside, "b", count=10)
        fill(tmp_path / inside, "c", count=2)
        parts = find_parts(tmp_path, 0.2)
        assert [label for _, label in parts.test] == [0] * 4 + [1] * 2 + [2]
        assert not set(parts.train) & set(parts.test)
        assert len(parts.train) + len(parts.test) == 32
        assert "7 of 32 images are for the test (--validation 0.2)" in parts.notes[-1]
        names = [f"a/{number}.png" for number in range(20)]
        first = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:4]
        found = [Path(path).relative_to(tmp_path / inside).as_posix() for path, _ in parts.test]
        assert sorted(found[:4]) == sorted(first)

    def test_the_same_images_wherever_the_folder_lies(self, tmp_path: Path) -> None:
        fill(tmp_path / "one", "a", "b", count=30)
        shutil.copytree(tmp_path / "one", tmp_path / "else" / "two")
        sets = []
        for folder in (tmp_path / "one", tmp_path / "else" / "two"):
            parts = find_parts(folder, 0.3)
            sets.append([Path(path).relative_to(folder) for path, _ in parts.test])
        assert sets[0] == sets[1]

    def test_new_files_move_few_others(self, tmp_path: Path) -> None:
        fill(tmp_path, "a", count=50)
        before = {path for path, _ in find_parts(tmp_path, 0.2).test}
        Image.new("RGB", (9, 9)).save(tmp_path / "a" / "new.png")
        after = {path for path, _ in find_parts(tmp_path, 0.2).test}
        assert len(before ^ after) <= 2

    def test_one_image_cannot_be_divided(self, tmp_path: Path) -> None:
        fill(tmp_path, "a", "b")
        (tmp_path / "b" / "1.png").unlink()
        with pytest.raises(DataError, match="class b of .* has one image"):
            find_parts(tmp_path, 0.5)

    def test_of_the_training_images_where_there_are_test_images(self, tmp_path: Path) -> None:
        fill(tmp_path / "train", "a", "b", count=20)
        fill(tmp_path / "val", "a", "b", count=3)
        whole, parts = find_parts(tmp_path), find_parts(tmp_path, 0.2)
        assert (whole.validation, parts.test) == ([], whole.test)
        assert [label for _, label in parts.validation] == [0] * 4 + [1] * 4
        assert sorted(parts.train + parts.validation) == sorted(whole.train)
        assert "8 of 40 training images are held out to choose the best epoch" in parts.notes[-1]
        # Those that would be the test images if the folder had no others.
        (tmp_path / "val").rename(tmp_path.with_name(f"{tmp_path.name}-val"))
        assert find_parts(tmp_path, 0.2).test == parts.validation
        assert fingerprint(tmp_path, whole) != fingerprint(tmp_path, parts)


def test_a_fingerprint_is_of_names_and_parts(tmp_path: Path) -> None:
    fill(tmp_path / "one", "a", "b", count=10)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    found = [fingerprint(tmp_path / n, find_parts(tmp_path / n, 0.2)) for n in ("one", "two")]
    assert found[0] == found[1]
    assert fingerprint(tmp_path / "one", find_parts(tmp_path / "one", 0.4)) != found[0]
    (tmp_path / "two" / "a" / "3.png").rename(tmp_path / "two" / "a" / "x.png")
    assert fingerprint(tmp_path / "two", find_parts(tmp_path / "two", 0.2)) != found[0]


def test_the_input_size_is_that_of_pictures_of_one_size(tmp_path: Path) -> None:
    fill(tmp_path, "a", count=4, side=64)
    name = f"imagefolder:{tmp_path}"
    assert usual_input_size(name, 0.5) == (3, 64, 64)
    Image.new("RGB", (40, 64)).save(tmp_path / "a" / "odd.png")
    assert usual_input_size(name, 0.5) is None
    for file in (tmp_path / "a").iterdir():
        Image.new("RGB", (400, 300)).save(file)
    assert usual_input_size(name, 0.5) is None  # large: nobody wants that without being asked
    for file in (tmp_path / "a").iterdir():
        Image.new("RGB", (48, 40)).save(file)
    assert usual_input_size(name, 0.5) == (3, 40, 48)
    assert usual_input_size("cifar10") == (3, 32, 32)
    assert usual_input_size("svhn") is None
