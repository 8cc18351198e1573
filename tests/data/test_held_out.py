"""Validation images: the same share of each class of the training images, always the same ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import paint
from runs import data_of

from seclcompress.data import Data, align_classes, has_test_images, load_data
from seclcompress.data.held_out import hold_out, how_many
from seclcompress.data.in_memory import Decoded
from seclcompress.errors import DataError

SIZE = (3, 8, 8)


def numbered(labels: list[int]) -> Data:
    """Images whose pixels are their numbers."""
    pixels = torch.arange(len(labels), dtype=torch.float32).reshape(-1, 1, 1, 1)
    images = Decoded(pixels, torch.tensor(labels))
    return data_of(images, images, [str(label) for label in range(max(labels) + 1)], SIZE)


@given(
    st.dictionaries(st.integers(0, 6), st.integers(2, 40), min_size=1),
    st.floats(0.01, 0.99),
    st.randoms(),
)
def test_every_image_is_in_one_part_and_every_class_in_both(counts, share, random) -> None:
    labels = [label for label, count in counts.items() for _ in range(count)]
    random.shuffle(labels)
    data = numbered(labels)
    found = hold_out(data, share)
    train, held = found.train, found.validation
    assert sorted([*train.pixels.flatten().tolist(), *held.pixels.flatten().tolist()]) == list(
        range(len(labels))
    )
    for part in (train, held):
        numbers = part.pixels.flatten().long()
        assert torch.equal(part.labels, torch.tensor(labels)[numbers])
    for label, count in counts.items():
        assert int((held.labels == label).sum()) == how_many(share, count, "")
        assert int((train.labels == label).sum()) >= 1
    assert torch.equal(hold_out(data, share).validation.pixels, held.pixels)
    assert found.test is data.test


def test_digits_and_fewer_training_images() -> None:
    """The images are held out first, so they are the same for any number of training images."""
    whole = load_data("digits", SIZE)
    assert (whole.validation, list(whole.parts)) == (None, ["training", "test"])
    some = load_data("digits", SIZE, validation=0.1)
    few = load_data("digits", SIZE, validation=0.1, train_images=200)
    assert (len(some.train), len(some.validation), len(some.test)) == (1295, 142, 360)
    assert len(few.train) == 200
    assert torch.equal(few.validation.pixels, some.validation.pixels)
    assert torch.equal(some.test.pixels, whole.test.pixels)
    assert "--validation 0.1 of each class" in some.notes[-1]


def test_a_folder(tmp_path: Path) -> None:
    name = paint(tmp_path, {"a": "red", "b": "blue"}, parts={"train": 10, "val": 3})
    data = load_data(name, SIZE, validation=0.3)
    assert [len(images) for images in data.parts.values()] == [14, 6, 6]
    assert has_test_images(name)
    assert has_test_images("digits")
    paint(tmp_path / "flat", {"a": "red", "b": "blue"}, parts={"": 10})
    flat = f"imagefolder:{tmp_path / 'flat'}"
    assert not has_test_images(flat)
    divided = load_data(flat, SIZE, validation=0.3)
    assert (divided.validation, len(divided.test)) == (None, 6)


def test_classes_are_lined_up_in_all_parts() -> None:
    data = hold_out(numbered([0, 1] * 10), 0.2)
    found, _ = align_classes(data, ["1", "0"], "net", by_order=False)
    assert torch.equal(found.validation.labels, 1 - data.validation.labels)
    assert torch.equal(found.train.labels, 1 - data.train.labels)


def test_a_class_of_one_image_cannot_be_divided() -> None:
    with pytest.raises(DataError, match=r"--validation 0.5: class 1 of at hand has one image"):
        hold_out(numbered([0, 0, 1]), 0.5).train  # noqa: B018 (opens it)
