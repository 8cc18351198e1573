"""How a network sees images that nobody told it about: classes, sizes, pixel values; what is said."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from pictures import paint
from runs import Silent

from seclcompress import artefact
from seclcompress.errors import DataError, SeclcompressError, TrainingError, UsageError
from seclcompress.observer import Observer
from seclcompress.resolve import locate
from seclcompress.settings.training import TrainingSettings
from seclcompress.workflows.converting import convert
from seclcompress.workflows.evaluating import evaluate
from seclcompress.workflows.exporting import export
from seclcompress.workflows.training import TrainingResult, distill, train

FACTORY = """
import torch
from torch import nn

def net(channels=3, classes=3, colours=(0, 1, 2)):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, classes),
    )

def grey():
    return net(1)

class Exact(nn.Module):
    '''Knows the colours of plain `ToTensor()` values, of pictures of one size only.'''

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        assert x.shape[2:] == (16, 24), x.shape
        mean = x.mean((2, 3))
        # Right only for values from 0 to 1: classes are blue, green, red.
        inside = ((x > -0.001) & (x < 1.001)).all()
        return mean.flip(1) * (self.weight if inside else -self.weight)
"""
RGB = {"blue": "blue", "green": "green", "red": "red"}
QUICK = TrainingSettings(epochs=3, batch_size=12, lr=0.05)


class Told(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def message(self, words: str) -> None:
        self.words.append(words)

    def said(self, *parts: str) -> bool:
        return any(all(part in words for part in parts) for words in self.words)


def settings(**more: object) -> TrainingSettings:
    return TrainingSettings(**{**QUICK.model_dump(exclude_unset=True), **more})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    paint(folder / "rgb", RGB)
    paint(folder / "translated", {"blau": "blue", "gruen": "green", "rot": "red"})
    paint(folder / "other", {"amber": "amber", "green": "green", "red": "red"})
    paint(folder / "wide", RGB, size=(16, 24))
    return folder


@pytest.fixture(scope="module")
def trained(pictures: Path) -> Path:
    folder = pictures / "trained"
    result = train(
        "wrn10_1", data=f"imagefolder:{pictures / 'rgb'}", output_dir=folder, settings=QUICK
    )
    assert result.metrics["accuracy"] > 90
    return folder


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "mynet.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mynet", raising=False)
    return "mynet"


class TestClasses:
    def reordered(self, folder: Path, trained: Path, classes: list[str]) -> Path:
        """A copy of a network that claims another order of its classes."""
        network = artefact.load(trained)
        config = artefact.read_config(trained).model_copy(update={"classes": classes})
        artefact.save(folder, network, config)
        return folder

    def test_evaluate_lines_them_up_by_name(
        self, pictures: Path, trained: Path, tmp_path: Path
    ) -> None:
        data, told = f"imagefolder:{pictures / 'rgb'}", Told()
        right = evaluate(trained, data=data, observer=told)
        assert not told.said("classes")
        assert right.accuracy > 90
        # A network that says blue first and means red has the order red, green, blue.
        claims = self.reordered(tmp_path / "claims", trained, ["red", "green", "blue"])
        swapped = evaluate(claims, data=data, observer=told)
        assert told.said("are in another order than those of", "lined up by their names")
        assert swapped.accuracy < 50

    def test_evaluate_refuses_other_names(self, pictures: Path, trained: Path) -> None:
        with pytest.raises(DataError, match="only the network has blue; only the data have amber"):
            evaluate(trained, data=f"imagefolder:{pictures / 'other'}")
        data, told = f"imagefolder:{pictures / 'translated'}", Told()
        with pytest.raises(DataError, match="--classes-by-order"):
            evaluate(trained, data=data)
        chosen = TrainingSettings(classes_by_order=True)
        found = evaluate(trained, data=data, settings=chosen, observer=told)
        assert found.accuracy > 90
        assert told.said("taken in their order")

    def test_train_and_distill_refuse_other_names(
        self, pictures: Path, trained: Path, tmp_path: Path
    ) -> None:
        data = f"imagefolder:{pictures / 'other'}"
        with pytest.raises(DataError, match="only the network has blue"):
            train(trained, data=data, output_dir=tmp_path / "out", settings=QUICK)
        student = tmp_path / "student"
        convert(trained, student)
        with pytest.raises(DataError, match="only the network has blue"):
            distill(
                student, teacher=trained, data=data, output_dir=tmp_path / "out", settings=QUICK
            )

    def test_a_teachers_scores_are_lined_up(
        self, pictures: Path, trained: Path, tmp_path: Path
    ) -> None:
        """A student that was trained with another order of classes than its teacher."""
        network = artefact.load(trained)
        weight, bias = network.fc.weight, network.fc.bias
        weight.data, bias.data = weight.data.flip(0), bias.data.flip(0)
        config = artefact.read_config(trained)
        teacher = tmp_path / "teacher"
        artefact.save(
            teacher, network, config.model_copy(update={"classes": ["red", "green", "blue"]})
        )
        told = Told()
        result = distill(
            trained,
            teacher=teacher,
            data=f"imagefolder:{pictures / 'rgb'}",
            output_dir=tmp_path / "out",
            settings=settings(epochs=1),
            observer=told,
        )
        assert result.before["teacher"] == config.metrics["accuracy"]
        assert told.said("its scores are lined up by their names")
        assert artefact.read_config(result.folder).classes == ["blue", "green", "red"]
        strange = config.model_copy(update={"classes": ["blue", "green", "amber"]})
        artefact.save(teacher, network, strange, overwrite=True)
        with pytest.raises(DataError, match="only one of them has: amber, red"):
            distill(
                trained,
                teacher=teacher,
                data=f"imagefolder:{pictures / 'rgb'}",
                output_dir=tmp_path / "other",
                settings=QUICK,
            )


def test_folders_for_published_weights_are_named_by_wordnet_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ImageNet's weights have the order of these ids, which folders with English names do not have."""

    class ReachedError(Exception):
        pass

    def reached(*_: object, **__: object) -> None:
        raise ReachedError

    monkeypatch.setattr("seclcompress.resolve.Located.load", reached)
    for names, code in (("n{:08}", 0), ("class{:04}", 1)):
        folder = tmp_path / names[:1] / "data"
        for part in ("train", "val"):
            for number in range(1000):
                place = folder / part / names.format(number)
                place.mkdir(parents=True)
                (place / "1.png").touch()

        def run(folder: Path = folder, **more: object) -> None:
            chosen = TrainingSettings(**more)
            data = f"imagefolder:{folder}"
            evaluate("resnet18", weights="IMAGENET1K_V1", data=data, settings=chosen)

        if code:
            with pytest.raises(DataError, match=r"order of WordNet ids .* class0000, class0001"):
                run()
        with pytest.raises(ReachedError):
            run(classes_by_order=bool(code))


class TestPixelValues:
    """A network that expects plain `ToTensor()` values of 16×24 pixels."""

    def run(self, pictures: Path, observer: Observer, **more: object) -> float:
        chosen = TrainingSettings(**more)
        data = f"imagefolder:{pictures / 'wide'}"
        return evaluate("mynet:Exact", data=data, settings=chosen, observer=observer).accuracy

    def test_what_is_assumed_is_said_and_can_be_chosen(self, pictures: Path, factory: str) -> None:
        told = Told()
        assert self.run(pictures, told) < 50
        assert told.said("Assumed for mynet:Exact", "0.485, 0.456, 0.406", "(ImageNet's)", "--mean")
        assert told.said("does not say its input size: 3x16x24 is taken", "--input-size")
        for chosen in ({"preprocessing": "plain"}, {"mean": (0.0,), "std": (1.0,)}):
            quiet = Told()
            assert self.run(pictures, quiet, **chosen) == 100
            assert not quiet.said("Assumed")

    def test_contradictions(self, pictures: Path, factory: str) -> None:
        for chosen, words in (
            ({"mean": (0.5,)}, "--mean and --std belong together"),
            (
                {"mean": (0.5, 0.5), "std": (1.0,)},
                "--mean has 2 numbers; the network takes 3 channels",
            ),
            ({"mean": (0,), "std": (1,), "preprocessing": "plain"}, "drop one or the other"),
        ):
            with pytest.raises(UsageError, match=words):
                self.run(pictures, Told(), **chosen)

    def test_they_are_saved_and_used_again(
        self, pictures: Path, factory: str, tmp_path: Path
    ) -> None:
        data = f"imagefolder:{pictures / 'wide'}"
        out = tmp_path / "out"
        chosen = settings(mean=(0.5, 0.4, 0.3), std=(0.25,), epochs=1)
        result = train("mynet:net", data=data, output_dir=out, settings=chosen)
        config = artefact.read_config(out)
        assert config.preprocessing is not None
        assert (config.preprocessing.mean, config.preprocessing.std) == ((0.5, 0.4, 0.3), (0.25,))
        assert config.input_size == (3, 16, 24)
        told = Told()
        again = evaluate(out, data=data, factory="mynet:net", observer=told)
        assert (again.accuracy, told.words) == (result.metrics["accuracy"], [])
        other = TrainingSettings(mean=(0.5,), std=(0.5,))
        evaluate(out, data=data, factory="mynet:net", settings=other, observer=told)
        assert told.said("is used to mean 0.5, 0.4, 0.3", "now it sees 0.5 and 0.5")

    def test_weights_from_a_file(self, pictures: Path, trained: Path) -> None:
        told, data = Told(), f"imagefolder:{pictures / 'rgb'}"
        weights = str(trained / "model.safetensors")
        evaluate("wrn10_1", data=data, weights=weights, num_classes=3, observer=told)
        assert told.said("Assumed for wrn10_1", "(ImageNet's)")
        assert told.said("have 16×16 pixels; they are shown at 3x32x32, the usual size of wrn10_1")


def test_a_network_of_one_channel_sees_grey(pictures: Path, factory: str, tmp_path: Path) -> None:
    told = Told()
    data = f"imagefolder:{pictures / 'wide'}"
    result = train(
        "mynet:grey", data=data, output_dir=tmp_path / "out", settings=QUICK, observer=told
    )
    assert artefact.read_config(result.folder).input_size == (1, 16, 24)
    assert told.said("1x16x24 is taken", "with the 1 channels of 0")
    assert evaluate(result.folder, data=data, factory="mynet:grey").images == 30
    six = settings(randaugment=5)
    with pytest.raises(UsageError, match="--randaugment 5: it changes colours"):
        train(
            "mynet:net",
            data=data,
            output_dir=tmp_path / "six",
            settings=six,
            input_size=(4, 16, 24),
        )


class TestValidation:
    def test_evaluate_tests_on_the_same_images(self, tmp_path: Path) -> None:
        data = paint(tmp_path / "flat", RGB, parts={"": 20})
        with pytest.raises(DataError, match="--validation 0.2"):
            train("wrn10_1", data=data, output_dir=tmp_path / "out", settings=QUICK)
        chosen, told = settings(validation=0.2, epochs=1), Told()
        result = train(
            "wrn10_1", data=data, output_dir=tmp_path / "out", settings=chosen, observer=told
        )
        assert told.said("12 of 60 images are for the test (--validation 0.2)")
        assert artefact.read_config(result.folder).training["validation"] == 0.2
        again = evaluate(result.folder, data=data, observer=told)
        assert (again.images, again.accuracy) == (12, result.metrics["accuracy"])
        assert told.said("was trained with --validation 0.2", "the same images are the test")
        evaluate(result.folder, data=data, settings=TrainingSettings(validation=0.5), observer=told)
        assert told.said("some test images may be ones that it was trained on")

    def test_a_student_is_tested_on_the_images_that_its_teacher_has_not_seen(
        self, tmp_path: Path
    ) -> None:
        data = paint(tmp_path / "flat", RGB, parts={"": 10})
        chosen = settings(validation=0.2, epochs=1)
        teacher = train("wrn10_1", data=data, output_dir=tmp_path / "t", settings=chosen).folder
        student = convert(teacher, tmp_path / "s").output_dir
        assert student is not None
        told, taught = Told(), settings(epochs=1)
        flags = {"teacher": teacher, "data": data, "untrained_teacher": True}
        done = distill(student, output_dir=tmp_path / "d", settings=taught, observer=told, **flags)
        assert told.said(f"{teacher} was trained with --validation 0.2", "are the test")
        assert artefact.read_config(done.folder).training["validation"] == 0.2
        assert evaluate(done.folder, data=data).images == 6

    def test_export_and_its_file_test_on_the_same_images(self, tmp_path: Path) -> None:
        data = paint(tmp_path / "person" / "flat", RGB, parts={"": 20})
        chosen, told = settings(validation=0.2, epochs=1), Told()
        folder = train(
            "wrn10_1", data=data, output_dir=tmp_path / "out", settings=chosen, observer=told
        ).folder
        alone = export(folder, tmp_path / "alone")
        found = export(folder, tmp_path / "it", data=data, observer=told)
        assert told.said(f"{folder} was trained with --validation 0.2", "the same images")
        for one in (alone, found):
            assert (one.content.data, one.content.validation) == ("imagefolder:flat", 0.2)
        assert found.before is not None
        assert found.before.images == 12
        assert found.before.accuracy == evaluate(folder, data=data).accuracy
        again = evaluate(alone.path, data=data, observer=told)
        assert (again.images, again.accuracy) == (12, found.before.accuracy)
        assert told.said(f"{alone.path} was trained with --validation 0.2", "the same images")
        other, told = TrainingSettings(validation=0.5), Told()
        evaluate(alone.path, data=data, settings=other, observer=told)
        assert told.said("some test images may be ones that it was trained on")
        export(locate(str(folder)), tmp_path / "more", data=data, settings=other, observer=told)
        assert told.said("out was trained with --validation 0.2", "with --validation 0.5")

    def test_a_file_of_data_with_test_images(self, tmp_path: Path) -> None:
        path = export("wrn10_1", tmp_path / "it", num_classes=10).path
        with pytest.raises(UsageError, match="digits has test images of its own"):
            evaluate(path, data="digits", settings=TrainingSettings(validation=0.1))
        with pytest.raises(UsageError, match="digits has test images of its own"):
            export(
                "wrn10_1",
                tmp_path / "more",
                data="digits",
                settings=TrainingSettings(validation=0.1),
            )

    def test_another_share_or_other_files_are_another_run(self, tmp_path: Path) -> None:
        data = paint(tmp_path / "flat", RGB, parts={"": 20})
        out, chosen = tmp_path / "out", settings(validation=0.2)
        with pytest.raises(SeclcompressError, match="steps are saved"):
            train("wrn10_1", data=data, output_dir=out, settings=chosen, time_limit=0)
        other = settings(validation=0.25)
        with pytest.raises(TrainingError, match="validation was 0.2, not 0.25"):
            train("wrn10_1", data=data, output_dir=out, settings=other, resume=True)
        one = tmp_path / "flat" / "red" / "0.png"
        one.rename(one.with_name("x.png"))
        with pytest.raises(TrainingError, match="files was '"):
            train("wrn10_1", data=data, output_dir=out, settings=chosen, resume=True)
        one.with_name("x.png").rename(one)
        train("wrn10_1", data=data, output_dir=out, settings=chosen, resume=True)


class TestTeacher:
    def distilled(
        self, student: Path, teacher: str | Path, data: str, out: Path, told: Told, **more: object
    ) -> TrainingResult:
        chosen = settings(epochs=1, beta=0.0)
        return distill(
            student,
            teacher=teacher,
            data=data,
            output_dir=out,
            settings=chosen,
            observer=told,
            **more,
        )

    def test_it_sees_its_own_mean_and_size(
        self, pictures: Path, trained: Path, tmp_path: Path
    ) -> None:
        data, told = f"imagefolder:{pictures / 'rgb'}", Told()
        config = artefact.read_config(trained)
        assert config.preprocessing is not None
        strange = config.preprocessing.model_copy(update={"mean": (0.9,), "std": (0.1,)})
        student = tmp_path / "student"
        fresh = config.model_copy(update={"preprocessing": strange, "input_size": (3, 24, 24)})
        artefact.save(student, artefact.load(trained), fresh)
        result = self.distilled(student, trained, data, tmp_path / "out", told)
        assert result.before["teacher"] > 90
        assert told.said("sees the images with its own mean 0.485", "the student has 0.9 and 0.1")
        assert told.said("sees the images at 3x32x32, resized from the student's 3x24x24")
        with pytest.raises(UsageError, match="give --teacher-input-size 3x24x24, or .* --beta 0"):
            distill(student, teacher=trained, data=data, output_dir=tmp_path / "b", settings=QUICK)
        distill(
            student,
            teacher=trained,
            data=data,
            output_dir=tmp_path / "b",
            settings=settings(epochs=1),
            teacher_input_size=(3, 24, 24),
        )

    def test_an_untrained_factory_stops_the_run(
        self, pictures: Path, factory: str, trained: Path, tmp_path: Path
    ) -> None:
        data, told = f"imagefolder:{pictures / 'rgb'}", Told()
        with pytest.raises(TrainingError, match=r"chance among 3 classes is 33\.33 %"):
            self.distilled(trained, "mynet:net", data, tmp_path / "out", told)
        result = self.distilled(
            trained,
            "mynet:net",
            data,
            tmp_path / "out",
            told,
            untrained_teacher=True,
            overwrite=True,
        )
        assert result.before["teacher"] < 60


def test_top_five_of_few_classes_is_left_out(trained: Path, pictures: Path) -> None:
    found = evaluate(trained, data=f"imagefolder:{pictures / 'rgb'}")
    assert dataclasses.asdict(found)["top5_accuracy"] is None
    assert "top5_accuracy" not in (trained / "metrics.jsonl").read_text()
