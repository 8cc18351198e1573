"""How images of any size and number of channels become a network's input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from runs import data_of

from seclcompress.data import Augmentation, Data, Presentation, load_data
from seclcompress.data.in_memory import Decoded
from seclcompress.errors import DataError
from seclcompress.preprocessing import IMAGENET, Preprocessing

PLAIN = Preprocessing(mean=(0,), std=(1,))


def folder(path: Path, height: int, width: int, count: int = 2) -> str:
    """Images whose red grows from left to right, and whose green grows from top to bottom."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    for part in ("train", "val"):
        (path / part / "a").mkdir(parents=True)
        for number in range(count):
            Image.fromarray(pixels).save(path / part / "a" / f"{number}.png")
    return f"imagefolder:{path}"


def first(data: Data, preprocessing: Preprocessing = PLAIN, **more: object) -> torch.Tensor:
    how = Presentation(data.input_size, preprocessing, **more)  # type: ignore[arg-type]
    return next(iter(data.test.read([torch.arange(len(data.test))], how))).images


@pytest.mark.parametrize("size", [(96, 96), (80, 160), (160, 80)])
def test_a_picture_of_the_inputs_size_is_left_as_it_is(tmp_path: Path, size: tuple) -> None:
    name = folder(tmp_path, *size)
    found = first(load_data(name, (3, *size)))
    with Image.open(tmp_path / "val" / "a" / "0.png") as image:
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    torch.testing.assert_close(found[0], expected, rtol=0, atol=0)
    nearer = first(load_data(name, (3, *size)), PLAIN.model_copy(update={"resize": 120}))
    if size == (96, 96):
        assert not torch.equal(nearer[0], expected)


@pytest.mark.parametrize(("height", "width"), [(64, 128), (128, 64)])
@pytest.mark.parametrize("picture", [(200, 400), (400, 200), (300, 300)])
def test_inputs_that_are_not_square_keep_proportions(
    tmp_path: Path, height: int, width: int, picture: tuple[int, int]
) -> None:
    found = first(load_data(folder(tmp_path, *picture), (3, height, width)))[0]
    assert found.shape == (3, height, width)
    scale = max(height / picture[0], width / picture[1]) * 256 / 224
    per_column = float(found[0, 0].diff().mean()) * picture[1] * scale
    per_row = float(found[1, :, 0].diff().mean()) * picture[0] * scale
    assert per_column == pytest.approx(1, abs=0.05)
    assert per_row == pytest.approx(1, abs=0.05)
    assert float(found[0].mean()) == pytest.approx(0.5, abs=0.02)  # the centre


def test_random_crops_keep_proportions(tmp_path: Path) -> None:
    data = load_data(folder(tmp_path, 200, 400, 20), (3, 64, 128))
    crops = first(data, augmentation=Augmentation(crop=True))
    across = crops[:, 0].diff(dim=2).mean((1, 2)) * 400
    down = crops[:, 1].diff(dim=1).mean((1, 2)) * 200
    assert float((across / down).min()) > 0.65
    assert float((across / down).max()) < 1.55


class TestChannels:
    @pytest.mark.parametrize("side", [32, 96])
    def test_grey(self, tmp_path: Path, side: int) -> None:
        data = load_data(folder(tmp_path, side, side), (1, side, side))
        assert first(data).shape == (2, 1, side, side)
        with Image.open(tmp_path / "val" / "a" / "0.png") as image:
            grey = torch.from_numpy(np.array(image.convert("L"))) / 255
        torch.testing.assert_close(first(data)[0, 0], grey, rtol=0, atol=1e-6)
        assert data.preprocessing.mean == pytest.approx((0.4589,), abs=1e-3)

    def test_of_data_sets_in_memory(self) -> None:
        data, colour = load_data("digits", (1, 8, 8)), load_data("digits", (3, 8, 8))
        grey = first(data, data.preprocessing)
        assert grey.shape == (360, 1, 8, 8)
        assert torch.equal(grey.repeat(1, 3, 1, 1), first(colour, colour.preprocessing))
        assert first(colour).shape == (360, 3, 8, 8)  # with one mean for all channels

    def test_coloured_ones_in_memory_become_grey(self) -> None:
        red = torch.tensor([200, 40, 40], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 8, 8)
        images = Decoded(red, torch.zeros(2, dtype=torch.long))
        found = first(data_of(images, images, ["red"], (1, 8, 8)))
        assert found.shape == (2, 1, 8, 8)
        assert float(found.unique()) == pytest.approx((0.299 * 200 + 0.701 * 40) / 255, abs=0.004)

    def test_four_channels(self, tmp_path: Path) -> None:
        name = folder(tmp_path, 96, 96)
        assert first(load_data(name, (4, 96, 96)))[:, 3].unique().tolist() == [1]

    def test_twelve(self, tmp_path: Path) -> None:
        values = np.random.default_rng(0).integers(0, 255, (40, 40, 12), dtype=np.uint8)
        for part in ("train", "val"):
            (tmp_path / part / "a").mkdir(parents=True)
            np.save(tmp_path / part / "a" / "0.npy", values)
            np.save(tmp_path / part / "a" / "1.npy", values.astype(np.float32) / 255)
        data = load_data(f"imagefolder:{tmp_path}", (12, 40, 40))
        found = first(data)
        torch.testing.assert_close(
            found[0], torch.from_numpy(values / 255).permute(2, 0, 1).float()
        )
        torch.testing.assert_close(found[0], found[1])
        assert (data.preprocessing.mean, data.preprocessing.std) == ((0.5,), (0.5,))
        Image.new("RGB", (40, 40)).save(tmp_path / "val" / "a" / "2.png")
        with pytest.raises(DataError, match=r"the network takes 12. Save each picture as an array"):
            load_data(f"imagefolder:{tmp_path}", (12, 40, 40))


def test_statistics_of_other_channels() -> None:
    assert IMAGENET.for_channels(3) is IMAGENET
    assert PLAIN.for_channels(12) is PLAIN
    grey = Preprocessing(mean=(0.3,) * 3, std=(0.2,) * 3, resize=40).for_channels(1)
    assert grey == Preprocessing(mean=(0.3,), std=(0.2,), resize=40)
    assert IMAGENET.for_channels(5) == Preprocessing(mean=(0.5,), std=(0.5,))
    for wrong in ({"std": (0.0,)}, {"mean": ()}, {"std": (0.1, -1, 1)}, {"mean": (float("nan"),)}):
        with pytest.raises(ValidationError):
            Preprocessing(**wrong)
