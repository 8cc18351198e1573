"""Widths through Python: which images are seen, what is told, and the proof of the conjecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from seclcompress import artefact, workflows
from seclcompress.errors import ArtefactError, NetworkError, UsageError
from seclcompress.observer import Observer
from seclcompress.resolve import locate
from seclcompress.settings import TrainingSettings
from seclcompress.widths.result import LayerWidths, Widths
from seclcompress.workflows import measuring_widths

SETTINGS = TrainingSettings(epochs=1, batch_size=20)
CLASSES = ("cat", "dog")


def painted(count: int, seed: int) -> Tensor:
    """Noise of different means and colours: uint8, (count, 3, 16, 16)."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(0, 255, (count, 3, 1, 1))
    return torch.from_numpy(
        np.clip(means + rng.normal(0, 40, (count, 3, 16, 16)), 0, 255).astype(np.uint8)
    )


def write(folder: Path, label: Callable[[Tensor], Tensor], seed: int) -> str:
    """Writes a folder of images, whose classes are what a function answers; returns the data's name."""
    for part, count in (("train", 60), ("val", 40)):
        images = painted(count, seed + len(part))
        labels = label(images).tolist()
        assert set(labels) == {0, 1}
        for number, (image, target) in enumerate(zip(images, labels, strict=True)):
            place = folder / part / CLASSES[target]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{number:03}.png")
    return f"imagefolder:{folder}"


def by_chance(images: Tensor) -> Tensor:
    return torch.arange(len(images)) % 2


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The data set d1, whose labels nothing can learn, and the network M that was trained on it."""
    root = tmp_path_factory.mktemp("widths")
    data = write(root / "d1", by_chance, 0)
    workflows.train(
        "wrn10_1",
        data=data,
        output_dir=root / "network",
        settings=SETTINGS,
        input_size=(3, 16, 16),
    )
    return data, root / "network"


def answers_of(folder: Path) -> Callable[[Tensor], Tensor]:
    network, _ = locate(str(folder)).load()
    seen = artefact.read_config(folder).preprocessing
    assert seen is not None
    mean, std = (torch.tensor(values)[:, None, None] for values in (seen.mean, seen.std))

    def answer(images: Tensor) -> Tensor:
        with torch.no_grad():
            return network((images / 255 - mean) / std).argmax(1)

    return answer


def of_weights(found: Widths) -> list[object]:
    return [(one.name, one.channels, one.singular) for one in found.layers]


def test_the_conjectures_proof(given: tuple[str, Path], tmp_path: Path) -> None:
    """The same network on three data sets: nothing that is measured of it knows its accuracy.

    On d2, noise that the network labels itself, every statistic of the weights is the same. On d3, the
    images of d1 under the network's own labels, every statistic is, those of activations too. But it
    is right about all of d2 and d3, and about half of d1.
    """
    d1, network = given
    answer = answers_of(network)
    d2 = write(tmp_path / "d2", answer, 100)
    d3 = write(tmp_path / "d3", answer, 0)
    measures = {
        data: workflows.widths(network, data=data, images=60, settings=SETTINGS)
        for data in (d1, d2, d3)
    }
    accuracies = {
        data: workflows.evaluate(network, data=data, settings=SETTINGS).accuracy
        for data in measures
    }
    assert accuracies[d1] < 75
    assert accuracies[d2] == accuracies[d3] == 100
    assert of_weights(measures[d2]) == of_weights(measures[d1])
    for one, other, noise in zip(*(measures[data].layers for data in (d1, d3, d2)), strict=True):
        assert one.variances != noise.variances  # they do depend on the images
        assert _near(one, other)


def _near(one: LayerWidths, other: LayerWidths) -> bool:
    """Whether two layers' statistics are equal up to the order in which images were added up."""
    assert one.variances is not None
    assert other.variances is not None
    assert one.components is not None
    assert other.components is not None
    assert one.variances == pytest.approx(other.variances, rel=1e-6)
    assert one.components.distances == pytest.approx(other.components.distances, rel=1e-4, abs=1e-5)
    assert one.normality is not None
    assert other.normality is not None
    assert one.normality.w == pytest.approx(other.normality.w, rel=1e-6)
    return (one.singular, one.dead, one.channels) == (other.singular, other.dead, other.channels)


def test_the_same_figures_again_and_others_for_another_seed(given: tuple[str, Path]) -> None:
    data, network = given
    first, again = (workflows.widths(network, data=data, images=30) for _ in range(2))
    assert first == again
    assert first.images == 30
    other = workflows.widths(
        network, data=data, images=30, settings=TrainingSettings(seed=1, batch_size=7)
    )
    assert other.layers[0].variances != first.layers[0].variances
    batched = workflows.widths(
        network, data=data, images=30, settings=TrainingSettings(batch_size=7)
    )
    assert batched.layers[3].variances == pytest.approx(first.layers[3].variances, rel=1e-5)


def test_test_images_are_never_seen(
    given: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, network = given
    opened = measuring_widths.open_data

    def guarded(*args: object, **options: object) -> object:
        def refuse() -> object:
            raise AssertionError("test images were opened")

        return replace(opened(*args, **options), open_test=refuse)  # type: ignore[arg-type]

    monkeypatch.setattr(measuring_widths, "open_data", guarded)
    assert workflows.widths(network, data=data).images == 60


def test_labels_of_other_classes_do_not_matter(given: tuple[str, Path], tmp_path: Path) -> None:
    data, network = given
    other = tmp_path / "other"
    folder = Path(data.partition(":")[2])
    for image in folder.rglob("*.png"):
        target = other / image.parent.parent.name / image.stem[-1] / image.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.with_stem(image.parent.name + image.stem).write_bytes(image.read_bytes())
    found = workflows.widths(network, data=f"imagefolder:{other}", images=60)
    expected = workflows.widths(network, data=data, images=60)
    assert of_weights(found) == of_weights(expected)
    assert found.layers[-1].variances == pytest.approx(expected.layers[-1].variances, rel=1e-5)


class Words(Observer):
    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, words: str) -> None:
        self.said.append(words)


def test_converted_and_narrowed_networks(given: tuple[str, Path], tmp_path: Path) -> None:
    data, network = given
    workflows.convert(network, tmp_path / "converted")
    workflows.slim(network, "parameters=40k", tmp_path / "narrow")
    whole = {one.name: one for one in workflows.widths(network, data=data, images=20).layers}
    observer = Words()
    found = workflows.widths(tmp_path / "converted", data=data, images=20, observer=observer)
    converted = {one.name: one for one in found.layers}
    assert [*converted] == [*whole]
    assert converted["group3.0.conv2"].kind == "acdc"
    assert whole["group3.0.conv2"].kind == "convolution"
    assert converted["group3.0.conv2"].singular is not None
    assert any("never trained" in words for words in observer.said)
    narrow = workflows.widths(tmp_path / "narrow", data=data, images=20).layers
    assert [one.name for one in narrow] == [*whole]
    widths = artefact.read_config(tmp_path / "narrow").network.widths
    assert widths
    for one in narrow:
        assert one.channels == widths.get(one.name, (0, whole[one.name].channels))[1]
        assert one.variances is not None
        assert len(one.variances) == one.channels


def test_fewer_images_than_asked_for_is_told(given: tuple[str, Path]) -> None:
    data, network = given
    observer = Words()
    assert workflows.widths(network, data=data, images=1000, observer=observer).images == 60
    assert any("60 training images, fewer than --images 1,000" in one for one in observer.said)


def test_some_layers(given: tuple[str, Path]) -> None:
    data, network = given
    found = workflows.widths(network, data=data, images=20, layers=["group2", "*.conv1"])
    names = [one.name for one in found.layers]
    assert names == [
        *("group1.0.conv1", "group2.0.conv1", "group2.0.conv2", "group2.0.shortcut"),
        "group3.0.conv1",
    ]


def test_a_picture(given: tuple[str, Path], tmp_path: Path) -> None:
    data, network = given
    path = tmp_path / "widths.png"
    ask = {"data": data, "images": 20, "layers": ["conv1", "group3.0.conv1"], "picture": path}
    found = workflows.widths(network, **ask)  # type: ignore[arg-type]
    assert found.picture == path
    first = path.read_bytes()
    with Image.open(path) as image:
        assert image.width == 1560
    with pytest.raises(ArtefactError, match="overwrite"):
        workflows.widths(network, **ask)  # type: ignore[arg-type]
    workflows.widths(network, **ask, overwrite=True)  # type: ignore[arg-type]
    assert path.read_bytes() == first


def test_what_is_refused(
    given: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, network = given
    with pytest.raises(UsageError, match="--images 1: it takes 2 or more"):
        workflows.widths(network, data=data, images=1)
    with pytest.raises(UsageError, match=r"--picture .*w\.svg: the file ends in \.png"):
        workflows.widths(network, data=data, picture=tmp_path / "w.svg")
    with pytest.raises(UsageError, match=r"--layers 'group9' matches none of the 9 hidden layers"):
        workflows.widths(network, data=data, layers=["group9"])
    with pytest.raises(UsageError, match=r"--layers 'fc' matches none"):  # its outputs are answers
        workflows.widths(network, data=data, layers=["fc"])
    monkeypatch.setattr(measuring_widths, "MOST_LAYERS", 8)
    with pytest.raises(UsageError, match="has 9 hidden layers, and a picture has room for 8"):
        workflows.widths(network, data=data, picture=tmp_path / "w.png")
    assert not [*tmp_path.iterdir()]


def one_layer() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 2))


def test_a_network_without_hidden_layers(given: tuple[str, Path]) -> None:
    with pytest.raises(NetworkError, match="has no hidden layer"):
        workflows.widths("test_measuring_widths:one_layer", data=given[0], input_size=(3, 16, 16))
