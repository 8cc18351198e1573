"""The classes of data are lined up with those of a network by their names."""

from __future__ import annotations

import pytest
import torch
from runs import data_of

from seclcompress.data import Data, Presentation, align_classes, permutation
from seclcompress.data.in_memory import Decoded
from seclcompress.errors import DataError
from seclcompress.preprocessing import Preprocessing


def data(*classes: str) -> Data:
    pixels = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1).repeat(1, 3, 8, 8)
    images = Decoded(pixels, torch.tensor([0, 1, 2, 0, 1, 2]))
    return data_of(images, images, list(classes), (3, 8, 8))


def named(found: Data) -> list[str]:
    """The class name of each image, in the order of the images."""
    plain = Preprocessing(mean=(0,), std=(1,))
    [batch] = found.test.read([torch.arange(6)], Presentation((3, 8, 8), plain))
    assert batch.images[:, 0, 0, 0].mul(255).round().tolist() == list(range(6))
    assert torch.equal(found.train.labels, batch.targets)
    return [found.classes[label] for label in batch.targets]


def test_another_order_is_lined_up_and_said() -> None:
    before = data("rot", "blau", "gruen")
    found, words = align_classes(before, ["blau", "gruen", "rot"], "net", by_order=False)
    assert found.classes == ["blau", "gruen", "rot"]
    assert named(found) == named(before) == ["rot", "blau", "gruen"] * 2
    assert found.test.labels.tolist() == [2, 0, 1] * 2
    assert words == (
        "The classes of at hand are in another order than those of net; they are lined up by their "
        "names."
    )
    assert before.test.labels.tolist() == [0, 1, 2] * 2  # the data themselves are as they were


def test_the_same_or_unknown_names_need_no_word() -> None:
    before = data("a", "b", "c")
    for trained in (None, ["a", "b", "c"], ["a", "b"]):  # another number: read_outputs says so
        assert align_classes(before, trained, "net", by_order=False) == (before, None)


def test_other_names_are_refused_or_taken_by_order() -> None:
    before, trained = data("amber", "green", "red"), ["blue", "green", "red"]
    with pytest.raises(
        DataError,
        match="net was trained on other classes than at hand has: only the network has blue; only the "
        "data have amber. .* say --classes-by-order",
    ):
        align_classes(before, trained, "net", by_order=False)
    found, words = align_classes(before, trained, "net", by_order=True)
    assert found is before
    assert words is not None
    assert words.endswith("They are taken in their order (--classes-by-order).")


def test_a_name_that_occurs_twice_says_nothing() -> None:
    twice = ["crane", "crane", "stork"]
    assert permutation(["crane", "stork", "crane"], twice) is None
    with pytest.raises(DataError, match="name a class twice"):
        align_classes(data("crane", "stork", "crane"), twice, "net", by_order=False)


def test_names_win_over_the_order() -> None:
    found, words = align_classes(data("b", "a", "c"), ["a", "b", "c"], "net", by_order=True)
    assert found.classes == ["a", "b", "c"]
    assert words is not None
    assert "by their names" in words
