"""Losses, taps, optimisers and data, each by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from seclcompress import networks, substitutions
from seclcompress.data import batches, check_classes, load_data, loader
from seclcompress.errors import DataError, UsageError
from seclcompress.losses import attention_map, attention_transfer, knowledge_distillation
from seclcompress.optim import SCHEDULES, factor_decay_by_ratio, make_optimizer, parameter_groups
from seclcompress.taps import Taps, find_taps
from seclcompress.trace import trace_network


class TestLosses:
    def test_attention_by_hand(self) -> None:
        x = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
        expected = torch.tensor([5.0, 2.0]) / (25 + 4) ** 0.5
        torch.testing.assert_close(attention_map(x)[0], expected)

    def test_attention_does_not_see_scale_or_channels(self) -> None:
        x = torch.randn(2, 5, 4, 4)
        assert float(attention_transfer([x * 3], [torch.cat([x, x], 1)], 1000)) < 1e-9
        assert float(attention_transfer([], [], 1000)) == 0

    def test_the_number_of_taps_does_not_change_the_size(self) -> None:
        one, two = torch.randn(2, 5, 4, 4), torch.randn(2, 5, 4, 4)
        single = attention_transfer([one], [two], 7.0)
        assert float(single) == pytest.approx(float(attention_transfer([one] * 4, [two] * 4, 7.0)))
        distance = F.mse_loss(attention_map(one), attention_map(two))
        assert float(single) == pytest.approx(7 * 3 * float(distance))

    def test_distillation_by_hand(self) -> None:
        s, t = torch.randn(3, 5), torch.randn(3, 5)
        y = torch.tensor([0, 1, 2])
        temperature, alpha = 4.0, 0.9
        p, q = (s / temperature).softmax(1), (t / temperature).softmax(1)
        divergence = (q * (q / p).log()).sum(1).mean()
        expected = alpha * 16 * 2 * divergence + 0.1 * F.cross_entropy(s, y)
        torch.testing.assert_close(knowledge_distillation(s, t, y, alpha, temperature), expected)
        torch.testing.assert_close(knowledge_distillation(s, t, y, 0, 4), F.cross_entropy(s, y))
        assert float(knowledge_distillation(s, s, y, 1, 4)) == pytest.approx(0, abs=1e-5)


class TestTaps:
    @pytest.mark.parametrize(
        ("name", "size", "expected"),
        [
            ("wrn16_2", 32, ["group1", "group2", "group3"]),
            ("resnet18", 224, ["layer1", "layer2", "layer3", "layer4"]),
            ("resnet18", 32, ["layer1", "layer2", "layer3"]),
            ("vgg11_bn", 224, [f"features.{i}" for i in (4, 11, 18, 25)]),
            ("mobilenet_v2", 224, [f"features.{i}" for i in (1, 3, 6, 13, 18)]),
            ("efficientnet_b0", 224, [f"features.{i}" for i in (1, 2, 3, 5, 8)]),
            ("regnet_y_400mf", 224, [f"trunk_output.block{i}" for i in (1, 2, 3, 4)]),
            ("densenet121", 224, [f"features.denseblock{i}" for i in (1, 2, 3, 4)]),
            ("convnext_tiny", 224, [f"features.{i}" for i in (1, 3, 5, 7)]),
            ("shufflenet_v2_x0_5", 224, ["stage2", "stage3", "conv5"]),
        ],
    )
    def test_ends_of_the_resolution_groups(self, name: str, size: int, expected: list[str]) -> None:
        network = networks.build(networks.named_recipe(name), skeleton=True)
        assert find_taps(network, trace_network(network, (3, size, size))) == expected

    def test_a_transformer_has_none(self) -> None:
        network = networks.build(networks.named_recipe("vit_b_32"), skeleton=True)
        assert find_taps(network, trace_network(network, (3, 224, 224))) == []

    def test_outputs_are_handed_over_once(self) -> None:
        network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Identity(), nn.Conv2d(4, 2, 1))
        with Taps(network, ["2", "0"]) as taps:
            y = network(torch.randn(1, 3, 5, 5))
            last, first = taps.take()
            assert last is y
            assert first.shape == (1, 4, 5, 5)
            with pytest.raises(KeyError):
                taps.take()
        network(torch.randn(1, 3, 5, 5))
        assert not network[0]._forward_hooks

    def test_a_module_that_is_not_there(self) -> None:
        with pytest.raises(UsageError, match="no module 'layer9' to tap"):
            Taps(nn.Sequential(), ["layer9"])


class TestOptim:
    def test_the_diagonals_have_their_own_decay(self) -> None:
        acdc = substitutions.get("acdc")
        layer = acdc.build(nn.Conv2d(4, 8, 3), acdc.config({}))
        network = nn.Sequential(layer, nn.BatchNorm2d(8))
        rest, factors = parameter_groups(network, 5e-4, 1e-6)
        assert (rest["weight_decay"], factors["weight_decay"]) == (5e-4, 1e-6)
        assert {id(p) for p in factors["params"]} == {id(layer.pointwise.a), id(layer.pointwise.d)}
        assert len(rest["params"]) == 4
        assert len(parameter_groups(nn.Linear(2, 2), 1, 0)) == 1

    def test_the_ratio_rule(self) -> None:
        assert factor_decay_by_ratio(5e-4, 100_202, 2_243_546) == pytest.approx(2.233e-5, rel=1e-3)

    def test_schedules(self) -> None:
        assert SCHEDULES["cosine"](0) == 1
        assert SCHEDULES["cosine"](0.5) == pytest.approx(0.5)
        assert SCHEDULES["cosine"](1) == pytest.approx(0)
        found = [SCHEDULES["step"](epoch / 200) for epoch in (0, 59, 60, 119, 120, 160, 199)]
        assert found == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.008, 0.008])

    def test_optimizers(self) -> None:
        groups = parameter_groups(nn.Linear(2, 2), 0.1, 0)
        assert isinstance(make_optimizer("sgd", groups, 0.1, 0.9), torch.optim.SGD)
        assert isinstance(make_optimizer("adamw", groups, 0.1, 0.9), torch.optim.AdamW)


def make_images(folder: Path, classes: list[str], count: int = 3, side: int = 40) -> None:
    for split in ("train", "val"):
        for index, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                shade = 40 * index + number
                Image.new("RGB", (side, side), (shade,) * 3).save(
                    folder / split / name / f"{number}.jpg"
                )


class TestData:
    def test_digits(self) -> None:
        data = load_data("digits", (3, 32, 32))
        assert (len(data.train), len(data.test)) == (1437, 360)
        images, labels = next(iter(loader(data.test, 360, shuffle=False)))
        assert images.shape == (360, 3, 32, 32)
        assert torch.bincount(labels).min() >= 34
        assert data.classes == list("0123456789")

    def test_shuffling_follows_torchs_seed(self) -> None:
        data = load_data("digits", (3, 8, 8))
        orders = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            orders.append(torch.cat([y for _, y in loader(data.train, 100, shuffle=True)]))
        assert torch.equal(orders[0], orders[1])
        assert not torch.equal(orders[0], orders[2])

    def test_a_last_batch_of_one_is_left_out_of_training_only(self) -> None:
        data = load_data("digits", (3, 8, 8))
        sizes = [len(y) for _, y in loader(data.train, 359, shuffle=True)]
        assert sizes == [359] * 4
        assert sum(len(y) for _, y in loader(data.test, 359, shuffle=False)) == 360

    @pytest.mark.parametrize("side", [32, 96])
    def test_a_folder_of_images(self, tmp_path: Path, side: int) -> None:
        make_images(tmp_path, ["cat", "dog"])
        data = load_data(f"imagefolder:{tmp_path}", (3, side, side))
        assert data.classes == ["cat", "dog"]
        images, labels = next(iter(loader(data.train, 6, shuffle=True)))
        assert images.shape == (6, 3, side, side)
        assert images.dtype == torch.float32
        assert sorted(labels.tolist()) == [0, 0, 0, 1, 1, 1]
        with pytest.raises(DataError, match=r"has 2 classes, but net has 10 outputs"):
            check_classes(data, 10, "net")

    def test_folders_that_will_not_do(self, tmp_path: Path) -> None:
        def fails(words: str) -> None:
            with pytest.raises(DataError, match=words):
                load_data(f"imagefolder:{tmp_path / 'data'}", (3, 32, 32))

        fails("There is no folder")
        (tmp_path / "data" / "train").mkdir(parents=True)
        fails(r"needs a folder train/ and one of val/ or test/")
        (tmp_path / "data" / "val").mkdir()
        fails("Couldn't find any class folder")
        (tmp_path / "data" / "train" / "cat").mkdir()
        fails("Found no valid file")
        for split, name in (("train", "cat"), ("val", "dog")):
            (tmp_path / "data" / split / name).mkdir(exist_ok=True)
            Image.new("RGB", (9, 9)).save(tmp_path / "data" / split / name / "1.png")
        fails("different classes; only one of them has: cat, dog")

    def test_a_damaged_image_is_an_error_of_the_data(self, tmp_path: Path) -> None:
        make_images(tmp_path, ["cat"])
        (tmp_path / "train" / "cat" / "0.jpg").write_bytes(b"no image")
        data = load_data(f"imagefolder:{tmp_path}", (3, 32, 32))
        with pytest.raises(DataError, match=r"an image cannot be read: .*0.jpg"):
            list(batches(loader(data.train, 2, shuffle=False), data.name))

    def test_cifar_is_not_downloaded_unasked(self, tmp_path: Path) -> None:
        for name in ("cifar10", "cifar100"):
            with pytest.raises(DataError, match="Allow the download with --download"):
                load_data(name, (3, 32, 32), root=tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_cifar_in_torchvisions_format(self, tmp_path: Path, monkeypatch) -> None:
        import pickle

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
        images, _ = next(iter(loader(data.train, 20, shuffle=True)))
        assert images.shape == (20, 3, 32, 32)

    def test_unknown_names(self) -> None:
        with pytest.raises(UsageError, match="Unknown data 'svhn'. There are: digits"):
            load_data("svhn", (3, 32, 32))
        with pytest.raises(DataError, match="RGB"):
            load_data("digits", (1, 32, 32))
