"""A teacher sees the student's images with its own mean, standard deviation, size and classes."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path

import pytest
import torch
from runs import digits, small
from torch import Tensor, nn

from seclcompress.errors import DataError, TrainingError
from seclcompress.preprocessing import IMAGENET, Preprocessing
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import Trainer
from seclcompress.train.evaluation import evaluate
from seclcompress.train.outputs import OutputReader
from seclcompress.train.teacher import Teacher
from seclcompress.train.view import View

MINE = Preprocessing(mean=(0.5,), std=(0.5,))


def test_normalised_anew_is_as_if_normalised_by_it() -> None:
    pixels = torch.rand(5, 3, 8, 8)
    values = [torch.tensor(v)[:, None, None] for v in (IMAGENET.mean, IMAGENET.std)]
    expected = (pixels - values[0]) / values[1]
    found = View(MINE, IMAGENET, (3, 8, 8)).images((pixels - 0.5) / 0.5)
    torch.testing.assert_close(found, expected)
    assert View(MINE, MINE, (3, 8, 8)).images(pixels) is pixels


def test_another_size_and_grey() -> None:
    found = View(MINE, MINE, (3, 16, 20)).images(torch.full((2, 1, 8, 8), 0.25))
    assert found.shape == (2, 3, 16, 20)
    torch.testing.assert_close(found, torch.full_like(found, 0.25))


Pair = collections.namedtuple("Pair", "logits aux")


@dataclasses.dataclass
class Output:
    logits: Tensor
    aux: Tensor | None = None


class Said(nn.Module):
    """Scores 0, 1 and 2, in several forms; remembers what it was shown."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.weight = form, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> object:
        self.shown = x
        scores = torch.arange(3.0).repeat(len(x), 1) + self.weight
        forms = {
            "tensor": scores,
            "tuple": (scores, x),
            "named": Pair(scores, x),
            "dataclass": Output(scores, x),
            "dict": {"out": scores},
            "ordered": collections.OrderedDict(out=scores),
        }
        return forms[self.form]


@pytest.mark.parametrize("form", ["tensor", "tuple", "named", "dict", "ordered", "dataclass"])
def test_scores_in_the_order_of_the_data(form: str) -> None:
    network = Said(form)
    teacher = Teacher(network, (), OutputReader(3), View(MINE, MINE, (3, 8, 8), (2, 0, 1)))
    found = teacher.network(torch.zeros(4, 3, 8, 8))
    parts = vars(found) if form == "dataclass" else found
    parts = parts.values() if isinstance(parts, dict) else parts
    first = found if form == "tensor" else next(iter(parts))
    assert first.tolist() == [[2, 0, 1]] * 4
    assert type(found) is type(Said(form)(torch.zeros(1, 3, 8, 8)))
    if form in ("tuple", "named"):
        assert found[1] is network.shown


def test_an_output_that_cannot_be_lined_up_is_refused() -> None:
    network = nn.Module()
    network.forward = lambda x: object()  # type: ignore[assignment]
    teacher = Teacher(network, (), OutputReader(2), View(MINE, MINE, (3, 8, 8), (1, 0)))
    with pytest.raises(DataError, match="its output, a object, is none that can be lined up"):
        teacher.network(torch.zeros(1, 3, 8, 8))


def test_a_teacher_keeps_its_accuracy_on_the_students_images(tmp_path: Path) -> None:
    """The same teacher, with the student's images normalised in another way."""
    data = digits()
    other = data.preprocessing.model_copy(update={"mean": (0.9,) * 3, "std": (0.05,) * 3})
    strange = type(data)(**{**vars(data), "preprocessing": other})
    network = small(structured=False)
    view = View(other, data.preprocessing, data.input_size)
    teacher = Teacher(network, (), OutputReader(10), view)
    through = evaluate(teacher.network, strange)
    plain = evaluate(small(structured=False), data)
    assert through.loss == pytest.approx(plain.loss, rel=1e-4)
    blind = evaluate(small(structured=False), strange)
    assert blind.loss > 1.1 * plain.loss


def test_a_compiled_teacher_sees_its_own_way() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    view = View(MINE, IMAGENET, (3, 2, 2), (1, 0))
    x = torch.rand(4, 3, 2, 2)
    expected = network(view.images(x))[:, [1, 0]]
    teacher = Teacher(network, (), OutputReader(2), view)
    teacher._run = torch.compile(teacher.network, backend="eager")  # type: ignore[assignment]
    found = teacher._ask(x)
    torch.testing.assert_close(found[0], expected)


class TestChance:
    def run(self, folder: Path, **more: object) -> Trainer:
        settings = TrainingSettings(epochs=1, beta=0.0, **more.pop("settings", {}))  # type: ignore
        return Trainer(small(), digits(), settings, folder, teacher=small(False), **more)  # type: ignore

    def test_a_teacher_at_chance_stops_the_run(self, tmp_path: Path) -> None:
        run = self.run(tmp_path)
        with pytest.raises(
            TrainingError,
            match=r"The teacher has \d+\.\d\d % of the 360 test images of digits right; chance among 10 "
            r"classes is 10\.00 %.*--untrained-teacher",
        ):
            run.run()
        assert not run.history

    def test_unless_that_is_wanted_or_nobody_listens(self, tmp_path: Path) -> None:
        assert len(self.run(tmp_path / "a", untrained_teacher=True).run()) == 1
        assert len(self.run(tmp_path / "b", settings={"alpha": 0.0}).run()) == 1


def test_the_view_is_part_of_the_runs_identity(tmp_path: Path) -> None:
    data, settings = digits(), TrainingSettings(epochs=1)
    views = (None, View(MINE, IMAGENET, (3, 8, 8)), View(MINE, IMAGENET, (3, 8, 8), (1, 0)))
    started = [
        Trainer(
            small(), data, settings, tmp_path, teacher=small(False), view=view
        ).progress.settings
        for view in views
    ]
    assert len({str(one["teacher_sees"]) for one in started}) == 3
