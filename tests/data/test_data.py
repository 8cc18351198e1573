"""Data sets by name, and the batches of their images."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import write_mnist
from PIL import Image
from runs import write_noise
from torch import Tensor

from seclcompress.data import (
    Augmentation,
    Presentation,
    load_data,
    split_into_steps,
)
from seclcompress.data.augmentation import crop_and_flip, cut_out, draw
from seclcompress.data.decoding import decode
from seclcompress.data.folders import Reading, open_folder, small_size
from seclcompress.data.from_files import Files
from seclcompress.data.images import Images
from seclcompress.data.in_memory import Decoded
from seclcompress.data.order import seed_of, share, shuffled
from seclcompress.errors import DataError, SeclcompressWarning, UsageError
from seclcompress.preprocessing import IMAGENET, Preprocessing

PLAIN = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))


def presentation(side: int, augmentation: Augmentation | None = None, **more) -> Presentation:
    return Presentation((3, side, side), PLAIN, augmentation or Augmentation(), **more)


def every(images: Images, how: Presentation, batch: int = 4) -> Tensor:
    order = list(torch.arange(len(images)).split(batch))
    return torch.cat([b.images for b in images.read(order, how)])


class TestOrder:
    @given(
        count=st.integers(2, 300),
        images=st.integers(1, 64),
        processes=st.integers(1, 4),
        accumulate=st.integers(1, 3),
    )
    def test_every_image_is_seen_once(
        self, count: int, images: int, processes: int, accumulate: int
    ) -> None:
        order = shuffled(count, 0, 1)
        assert sorted(order.tolist()) == list(range(count))
        steps = split_into_steps(order, images, 2)
        assert all(len(step) == images for step in steps[:-1])
        left_out = count - sum(map(len, steps))
        assert left_out == (1 if count % images == 1 or images == 1 else 0)
        strict = split_into_steps(order, images, processes * accumulate)
        for step in strict[:-1] if images < processes * accumulate else strict:
            sizes = [len(share(step, processes, rank, accumulate)) for rank in range(processes)]
            assert sizes == [accumulate] * processes or images < processes * accumulate
        for step in steps:
            parts = [share(step, processes, rank, accumulate) for rank in range(processes)]
            together = torch.cat([part for mine in parts for part in mine])
            assert sorted(together.tolist()) == sorted(step.tolist())
            assert all(len(mine) <= accumulate for mine in parts)

    def test_seed_and_epoch_decide(self) -> None:
        assert torch.equal(shuffled(50, 3, 7), shuffled(50, 3, 7))
        assert not torch.equal(shuffled(50, 3, 7), shuffled(50, 3, 8))
        assert not torch.equal(shuffled(50, 3, 7), shuffled(50, 4, 7))
        assert len({seed_of(a, b) for a in range(30) for b in range(30)}) == 900
        assert seed_of(1, 2) != seed_of(2, 1)


class TestAugmentation:
    def images(self) -> Decoded:
        pixels = torch.randint(0, 255, (12, 3, 16, 16), dtype=torch.uint8)
        return Decoded(pixels, torch.arange(12) % 3)

    @pytest.mark.parametrize(
        "augmentation",
        [
            Augmentation(crop=True, flip=True),
            Augmentation(cutout=5),
            Augmentation(randaugment=12),
            Augmentation(crop=True, flip=True, cutout=4, randaugment=9),
        ],
    )
    def test_an_image_has_the_same_fate_in_any_batch(self, augmentation: Augmentation) -> None:
        images = self.images()
        how = presentation(16, augmentation, seed=5, epoch=2)
        large, small = every(images, how, 12), every(images, how, 1)
        torch.testing.assert_close(large, small)
        [batch] = images.read([torch.tensor([7, 3])], how)
        torch.testing.assert_close(batch.images, large[[7, 3]])
        assert batch.targets.tolist() == [1, 0]
        other = every(images, presentation(16, augmentation, seed=5, epoch=3))
        assert not torch.equal(large, other)

    def test_global_random_numbers_are_left_alone(self) -> None:
        images = self.images()
        torch.manual_seed(1)
        expected = torch.rand(1)
        torch.manual_seed(1)
        every(images, presentation(16, Augmentation(crop=True, cutout=3, randaugment=9)))
        assert torch.equal(torch.rand(1), expected)

    @given(seed=st.integers(0, 1000), flip=st.booleans())
    def test_a_crop_is_a_window_of_the_padded_image(self, seed: int, flip: bool) -> None:
        x = torch.arange(1, 1 + 3 * 16 * 16).reshape(1, 3, 16, 16)
        rows = draw(1, seed, 0)
        [found] = crop_and_flip(x, rows, True, flip)
        padded = torch.nn.functional.pad(x[0], [2] * 4)
        windows = [padded[:, i : i + 16, j : j + 16] for i in range(5) for j in range(5)]
        if flip and float(rows[0, 2]) < 0.5:
            windows = [window.flip(2) for window in windows]
        assert sum(torch.equal(found, window) for window in windows) == 1

    def test_all_offsets_and_both_sides_occur(self) -> None:
        x = torch.zeros(4000, 1, 16, 16)
        x[:, 0, 8, 5] = 1
        found = crop_and_flip(x, draw(4000, 0, 0), True, True)
        places = {tuple(place) for place in found[:, 0].nonzero()[:, 1:].tolist()}
        assert len(places) == 5 * 10
        mirrored = crop_and_flip(x, draw(4000, 0, 0), False, True)[:, 0, 8, 10].mean()
        assert 0.45 < float(mirrored) < 0.55

    def test_cutout_cuts_a_square(self) -> None:
        found = cut_out(torch.ones(500, 2, 12, 12), draw(500, 0, 0), 5)
        holes = (found[:, 0] == 0).flatten(1).sum(1)
        assert holes.max() == 25
        assert holes.min() >= 9  # the area of a square at a corner
        assert torch.equal(found[:, 0], found[:, 1])


class TestInMemory:
    def test_values_are_scaled_and_normalised(self) -> None:
        pixels = torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)
        how = Presentation((3, 4, 4), Preprocessing(mean=(0.5, 0, 1), std=(0.5, 1, 2)))
        found = every(Decoded(pixels, torch.zeros(2).long()), how)
        assert found[0, :, 0, 0].tolist() == [1, 1, 0]
        floating = every(Decoded(pixels / 255.0, torch.zeros(2).long()), how)
        torch.testing.assert_close(floating, found)

    def test_images_of_another_size_are_resized(self) -> None:
        pixels = torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)
        found = every(Decoded(pixels, torch.zeros(2).long()), presentation(32))
        assert found.shape == (2, 3, 32, 32)
        torch.testing.assert_close(found, torch.full_like(found, 100 / 255))

    def test_a_share_has_the_same_share_of_each_class(self) -> None:
        some = load_data("digits", (3, 8, 8), train_images=300).train
        whole = load_data("digits", (3, 8, 8)).train
        assert len(some) == 300
        wanted = torch.bincount(whole.labels) * 300 / len(whole)
        assert ((torch.bincount(some.labels) - wanted).abs() < 1.01).all()
        assert torch.equal(
            load_data("digits", (3, 8, 8), train_images=300).train.labels, some.labels
        )
        assert len(load_data("digits", (3, 8, 8), train_images=9999).train) == len(whole)


def test_digits() -> None:
    data = load_data("digits", (3, 32, 32))
    assert (len(data.train), len(data.test)) == (1437, 360)
    how = Presentation(data.input_size, data.preprocessing)
    images = every(data.test, how, 360)
    assert images.shape == (360, 3, 32, 32)
    assert abs(float(images.mean())) < 0.05
    assert float(images.std()) == pytest.approx(1, abs=0.05)
    assert torch.bincount(data.test.labels).min() >= 34
    assert data.classes == list("0123456789")
    assert not data.flip  # a mirrored 3 is not a 3


class TestFolders:
    @pytest.mark.parametrize(("side", "kind"), [(32, Decoded), (96, Files)])
    def test_a_folder_of_images(self, tmp_path: Path, side: int, kind: type) -> None:
        write_noise(tmp_path, ["cat", "dog"], 3, side, "png")
        data = load_data(f"imagefolder:{tmp_path}", (3, side, side))
        assert data.classes == ["cat", "dog"]
        assert isinstance(data.train, kind)
        assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
        whole = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1), resize=side)
        [batch] = data.train.read([torch.arange(6)], Presentation((3, side, side), whole))
        expected = decode(str(tmp_path / "train" / "dog" / "1.png"))
        torch.testing.assert_close(batch.images[4], expected / 255)
        assert data.preprocessing == IMAGENET
        other = load_data(f"imagefolder:{tmp_path}", (3, side, side), preprocessing=PLAIN)
        assert other.preprocessing == PLAIN

    @pytest.mark.parametrize("cache", ["auto", "never"])
    def test_images_are_seen_alike_from_memory_and_from_files(
        self, tmp_path: Path, cache: str
    ) -> None:
        """Keeping images in memory must not change the batches."""
        for side in (32, 90):
            write_noise(tmp_path / str(side), ["cat"], 4, side, "png")
            found = []
            for way in ("always", cache):
                data = load_data(
                    f"imagefolder:{tmp_path / str(side)}", (3, 32, 32), reading=Reading(way)
                )
                how = presentation(32, Augmentation(crop=True, flip=True, cutout=4), seed=3)
                found.append(
                    torch.cat([every(data.train, how), every(data.test, presentation(32))])
                )
            assert torch.equal(*found)

    @pytest.mark.parametrize("cache", ["auto", "never"])
    def test_one_odd_image_changes_how_all_are_seen(self, tmp_path: Path, cache: str) -> None:
        """Training images count as small only if the test images do, too."""
        write_noise(tmp_path, ["cat"], 4, 32, "png")
        Image.new("RGB", (40, 30)).save(tmp_path / "val" / "cat" / "odd.png")
        data = load_data(f"imagefolder:{tmp_path}", (3, 32, 32), reading=Reading(cache))
        assert isinstance(data.train, Files)
        assert isinstance(data.test, Files)

    @pytest.mark.parametrize("cache", ["auto", "always", "never"])
    def test_images_of_many_sizes(self, tmp_path: Path, cache: str) -> None:
        (tmp_path / "a").mkdir()
        for number, size in enumerate([(90, 70), (64, 200), (300, 300)]):
            Image.new("RGB", size, (200, 100, 50)).save(tmp_path / "a" / f"{number}.png")
        samples = [(str(tmp_path / "a" / f"{number}.png"), number) for number in range(3)]
        told: list[tuple[int, int]] = []
        assert small_size(samples) is None
        images = open_folder(samples, None, Reading(cache, on_progress=lambda *c: told.append(c)))
        assert isinstance(images, Files)
        assert told == ([] if cache == "never" else [(0, 3), (3, 3)])
        if cache != "never":  # cached images are decoded once
            for path, _ in samples:
                Path(path).unlink()
        for augmentation in (None, Augmentation(crop=True, flip=True, cutout=8)):
            found = every(images, presentation(80, augmentation))
            assert found.shape == (3, 3, 80, 80)
            assert found[:, 0].max() == pytest.approx(200 / 255)

    def test_some_of_them(self, tmp_path: Path) -> None:
        write_noise(tmp_path, ["cat", "dog"], 10, 70, "png")
        data = load_data(f"imagefolder:{tmp_path}", (3, 70, 70), train_images=6)
        assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert every(data.train, presentation(70)).shape == (6, 3, 70, 70)

    def test_folders_that_will_not_do(self, tmp_path: Path) -> None:
        def fails(words: str) -> None:
            with pytest.raises(DataError, match=words):
                load_data(f"imagefolder:{tmp_path / 'data'}", (3, 32, 32))

        fails("There is no folder")
        (tmp_path / "data" / "train").mkdir(parents=True)
        fails(r"no folder of test images: it needs train/ and one of val/, valid/, validation/ or")
        (tmp_path / "data" / "val").mkdir()
        fails(r"data/train has no class folders: it needs one folder of images for each class")
        (tmp_path / "data" / "train" / "cat").mkdir()
        fails("The class folder .*train/cat has no images")
        for split, name in (("train", "cat"), ("val", "dog")):
            (tmp_path / "data" / split / name).mkdir(exist_ok=True)
            Image.new("RGB", (9, 9)).save(tmp_path / "data" / split / name / "1.png")
        fails("different classes: only train/ has cat, only val/ has dog")

    @pytest.mark.parametrize(
        ("mode", "value", "expected"),
        [
            ("L", 77, (77, 77, 77)),
            ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
            ("CMYK", (0, 255, 0, 0), (255, 0, 255)),
            ("I;16", 77 * 256 + 3, (77, 77, 77)),
            ("1", 1, (255, 255, 255)),
        ],
    )
    def test_images_of_other_kinds(self, tmp_path: Path, mode: str, value, expected) -> None:
        path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
        if mode == "I;16":
            Image.fromarray(np.full((5, 4), value, dtype=np.uint16)).save(path)
        else:
            Image.new(mode, (4, 5), value).save(path)
        found = decode(str(path))
        assert found.shape == (3, 5, 4)
        assert tuple(found[:, 0, 0].tolist()) == expected

    @pytest.mark.parametrize("side", [32, 96])
    @pytest.mark.parametrize("damage", [b"no image", None])
    def test_a_damaged_image_stops_or_is_left_out(
        self, tmp_path: Path, side: int, damage: bytes | None
    ) -> None:
        write_noise(tmp_path, ["cat", "dog"], 4, side, "jpg")
        bad = tmp_path / "train" / "cat" / "2.jpg"
        bad.write_bytes(damage if damage is not None else bad.read_bytes()[:400])
        name = f"imagefolder:{tmp_path}"
        order = [torch.arange(4), torch.arange(4, 8)]
        for cache in ("auto", "never"):
            told: list[tuple[int, int]] = []
            watched = Reading(cache, on_progress=lambda *c, told=told: told.append(c))
            data = load_data(name, (3, side, side), reading=watched)
            with pytest.raises(DataError, match=r"An image cannot be read: .*cat/2.jpg"):
                list(data.train.read(order, presentation(side)))
            assert told in (
                [],
                [(0, 8), (8, 8)],
            )  # the last report has all images, so that a display can close
            reading = Reading(cache, skip=True)
            data = load_data(name, (3, side, side), reading=reading)
            with pytest.warns(SeclcompressWarning, match=r"Left out. An image .*cat/2.jpg"):
                found = list(data.train.read([torch.arange(len(data.train))], presentation(side)))
            assert sum(len(batch.targets) for batch in found) == 7
            assert torch.bincount(found[0].targets).tolist() == [3, 4]

    @pytest.mark.slow
    def test_words_from_a_worker(self, tmp_path: Path) -> None:
        write_noise(tmp_path, ["cat", "dog"], 4, 96, "jpg")
        (tmp_path / "train" / "cat" / "2.jpg").write_bytes(b"no image")
        data = load_data(f"imagefolder:{tmp_path}", (3, 96, 96), reading=Reading("never"))
        with pytest.raises(
            DataError,
            match=r"^An image cannot be read: [^\n]*cat/2.jpg: it is empty, damaged",
        ):
            list(data.train.read([torch.arange(8)], presentation(96, workers=1)))

    def test_an_image_that_would_fill_the_memory(self, tmp_path: Path, monkeypatch) -> None:
        write_noise(tmp_path, ["cat"], 2, 96, "png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 96 * 96 // 3)
        data = load_data(f"imagefolder:{tmp_path}", (3, 96, 96))
        with pytest.raises(DataError, match="exceeds limit"):
            list(data.train.read([torch.arange(2)], presentation(96)))

    def test_nothing_can_be_read(self, tmp_path: Path) -> None:
        write_noise(tmp_path, ["cat"], 2, 80, "jpg")
        for file in (tmp_path / "train" / "cat").iterdir():
            file.write_bytes(b"")
        for cache in ("always", "never"):
            reading = Reading(cache, skip=True)
            data = load_data(f"imagefolder:{tmp_path}", (3, 80, 80), reading=reading)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with pytest.raises(DataError, match="None of the"):
                    list(data.train.read([torch.arange(2)], presentation(80)))


class TestPublished:
    @pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashionmnist"])
    def test_nothing_is_downloaded_unasked(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(DataError, match="Allow the download with --download"):
            load_data(name, (3, 32, 32), root=tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("name", "folder"), [("mnist", "MNIST"), ("fashionmnist", "FashionMNIST")]
    )
    def test_mnist_in_torchvisions_format(self, tmp_path: Path, name: str, folder: str) -> None:
        write_mnist(tmp_path / folder / "raw", 12)
        data = load_data(name, (3, 28, 28), root=tmp_path)
        assert (len(data.train), len(data.test), len(data.classes)) == (12, 5, 10)
        [batch] = data.train.read([torch.arange(12)], Presentation((3, 28, 28), data.preprocessing))
        assert batch.images.shape == (12, 3, 28, 28)
        assert torch.equal(batch.images[:, 0], batch.images[:, 2])
        assert data.flip == (name == "fashionmnist")

    def test_cifar_in_torchvisions_format(self, tmp_path: Path, monkeypatch) -> None:
        from torchvision import datasets

        folder = tmp_path / "cifar-10-batches-py"
        folder.mkdir()
        names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
        for name in names:
            content = {
                "data": torch.randint(0, 255, (4, 3072)).byte().numpy(),
                "labels": [0, 1, 2, 9],
            }
            (folder / name).write_bytes(pickle.dumps(content))
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
        monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
        monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *a: True)
        data = load_data("cifar10", (3, 32, 32), root=tmp_path)
        assert (len(data.train), len(data.test)) == (20, 4)
        [batch] = data.train.read([torch.arange(20)], Presentation((3, 32, 32), data.preprocessing))
        assert batch.images.shape == (20, 3, 32, 32)
        dataset = datasets.CIFAR10(tmp_path, train=True)
        first = torch.from_numpy(np.array(dataset[0][0])).permute(2, 0, 1)
        assert torch.equal(data.train.pixels[0], first)  # type: ignore[attr-defined]

    def test_imagenet_in_torchvisions_layout(self, tmp_path: Path) -> None:
        ids = ["n01440764", "n01443537"]
        write_noise(tmp_path, ids, 2, 90, "JPEG")
        with pytest.raises(DataError, match=r"lacks meta.bin.*imagefolder:PATH"):
            load_data(f"imagenet:{tmp_path}", (3, 64, 64))
        words = {ids[0]: ("tench", "Tinca tinca"), ids[1]: ("goldfish",)}
        torch.save((words, [ids[0]] * 2 + [ids[1]] * 2), tmp_path / "meta.bin")
        data = load_data(f"imagenet:{tmp_path}", (3, 64, 64))
        assert data.classes == ["tench, Tinca tinca", "goldfish"]
        assert every(data.test, presentation(64)).shape == (4, 3, 64, 64)
        for file in (tmp_path / "val" / ids[0]).iterdir():
            file.unlink()
        (tmp_path / "val" / ids[0]).rmdir()
        with pytest.raises(DataError, match=f"different classes: only train/ has {ids[0]}"):
            load_data(f"imagenet:{tmp_path}", (3, 64, 64))
        (tmp_path / "meta.bin").write_bytes(b"no zip")
        with pytest.raises(DataError, match="no ImageNet as torchvision wants it"):
            load_data(f"imagenet:{tmp_path}", (3, 64, 64))

    def test_a_folder_that_is_named_without_its_kind(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=f"Did you mean imagefolder:{tmp_path}"):
            load_data(str(tmp_path), (3, 32, 32))

    def test_unknown_names(self) -> None:
        with pytest.raises(UsageError, match="Unknown data 'svhn'. There are: digits"):
            load_data("svhn", (3, 32, 32))
        with pytest.raises(UsageError, match="Unknown data 'imagefolder:'"):
            load_data("imagefolder:", (3, 32, 32))
        with pytest.raises(DataError, match="digits has grey or coloured pictures; .* 4 channels"):
            load_data("digits", (4, 32, 32))
        with pytest.raises(DataError, match=r"the network wants \(3, 16, 32, 32\)"):
            load_data("digits", (3, 16, 32, 32))


def test_preprocessing_is_that_of_torchvisions_own_transforms(tmp_path: Path) -> None:
    from torchvision import models

    from seclcompress.networks import torchvision_zoo

    weights = models.ResNet18_Weights.IMAGENET1K_V1
    image = torch.randint(0, 255, (3, 250, 310), dtype=torch.uint8)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "x.png")
    images = open_folder([(str(tmp_path / "x.png"), 0)], None, Reading("never"))
    found = every(
        images,
        Presentation(
            (3, 224, 224),
            torchvision_zoo.SOURCE.published_weights("resnet18", "IMAGENET1K_V1").preprocessing,
        ),
    )
    expected = weights.transforms()(Image.open(tmp_path / "x.png"))
    torch.testing.assert_close(found[0], expected, atol=0.03, rtol=0)
