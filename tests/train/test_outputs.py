"""Which of a network's outputs are class scores, in eval mode and in training."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Listening, Silent, digits
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import googlenet
from typer.testing import CliRunner

from seclcompress.cli.app import app
from seclcompress.data import Data
from seclcompress.errors import DataError, NetworkError
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import Trainer
from seclcompress.train.evaluation import evaluate
from seclcompress.train.outputs import OutputReader, read_outputs

Named = namedtuple("Named", ["features", "logits"])


@dataclass
class Out:
    logits: Tensor


class Net(nn.Module):
    """A small network whose outputs are what `give` makes of it, its features (64) and scores (10)."""

    def __init__(self, give: Callable[[bool, Tensor, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.give = give
        self.body = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU())
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Any:
        features = self.body(x).mean((2, 3))
        return self.give(self.training, features, self.fc(features))


def plain(training: bool, features: Tensor, scores: Tensor) -> Any:
    return scores


GIVES: dict[str, Callable[[bool, Tensor, Tensor], Any]] = {
    "an embedding while training": lambda t, f, s: (s, f) if t else s,
    "an embedding first while training": lambda t, f, s: (f, s) if t else s,
    "a dictionary": lambda t, f, s: {"features": f, "logits": s},
    "a dictionary of ten features": lambda t, f, s: {"features": f[:, :10], "logits": s},
    "a named tuple": lambda t, f, s: Named(f, s),
    "a dataclass": lambda t, f, s: Out(s),
    "a dataclass while training": lambda t, f, s: Out(s) if t else s,
    "several tensors": lambda t, f, s: (s, f),
    "an odd name": lambda t, f, s: {"features": f, "mine": s},
}


@pytest.fixture(scope="module")
def data() -> Data:
    return digits()


def network_weights(network: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in network.state_dict().values()]


@pytest.mark.parametrize("give", GIVES.values(), ids=GIVES.keys())
def test_training_takes_the_scores_and_nothing_else(
    give: Callable[[bool, Tensor, Tensor], Any], data: Data, tmp_path: Path
) -> None:
    ends = []
    for name, one in (("plain", plain), ("odd", give)):
        network, told = Net(one), Silent()
        settings = TrainingSettings(epochs=1, batch_size=50, lr=0.05)
        Trainer(network, data, settings, tmp_path / name, observer=told).run()
        ends.append((told.steps, network_weights(network)))
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(one, two) for one, two in zip(ends[0][1], ends[1][1], strict=True))


def test_what_is_done_with_each_is_said(data: Data) -> None:
    told = Listening()
    read_outputs(Net(GIVES["an embedding first while training"]), data, "mine", told)
    assert told.words == [
        "mine returns 2 tensors in training mode. output 1 2×64: left out; output 2 2×10: class scores."
    ]


def test_auxiliary_scores_have_the_name_or_none(data: Data) -> None:
    scores, other = torch.rand(3, 10), torch.rand(3, 10)
    read = OutputReader(10)
    assert read((scores, other)).auxiliary == [other]
    assert read({"logits": scores, "aux_logits": other}).auxiliary == [other]
    assert read({"aux": other, "out": scores}).classes is scores
    assert read({"logits": scores, "similarities": other}).auxiliary == []
    told = Listening()
    network = googlenet(num_classes=10, init_weights=False)
    read_outputs(network, replace(data, input_size=(3, 64, 64)), "googlenet", told)
    assert "logits 2×10: class scores; aux_logits2 2×10: auxiliary class scores" in told.words[0]


class TestProbabilities:
    def test_the_losses_are_those_of_the_scores(self, data: Data, tmp_path: Path) -> None:
        steps, accuracies = [], []
        for name, one in (("plain", plain), ("softmax", lambda t, f, s: s.softmax(1))):
            told, network = Listening(), Net(one)
            settings = TrainingSettings(epochs=1, batch_size=50, lr=0.05)
            run = Trainer(network, data, settings, tmp_path / name, observer=told)
            run.run()
            steps.append(told.steps)
            accuracies.append(run.history[-1]["accuracy"])
            said = "The network ends in a softmax: its outputs are probabilities."
            assert any(said in words for words in told.words) == (name == "softmax")
        assert steps[0] == pytest.approx(steps[1], rel=1e-3)
        assert accuracies[0] == pytest.approx(accuracies[1], abs=0.3)

    def test_of_zero_are_finite(self) -> None:
        read = OutputReader(2, probabilities=True)
        x = torch.tensor([[0.0, 1.0]], requires_grad=True)
        loss = F.cross_entropy(read(x).classes, torch.tensor([0]))
        loss.backward()
        assert torch.isfinite(loss)
        assert x.grad is not None
        assert x.grad.isfinite().all()

    def test_a_softmax_of_logarithms_needs_no_word(self, data: Data) -> None:
        told = Listening()
        assert not read_outputs(
            Net(lambda t, f, s: s.log_softmax(1)), data, "mine", told
        ).probabilities
        assert told.words == []

    def test_a_teacher_s(self, data: Data, tmp_path: Path) -> None:
        steps = []
        for name, one in (("plain", plain), ("softmax", lambda t, f, s: s.softmax(1))):
            told = Silent()
            settings = TrainingSettings(epochs=1, batch_size=50, alpha=0.9, beta=0)
            Trainer(
                *(Net(plain), data, settings, tmp_path / name),
                teacher=Net(one),
                untrained_teacher=True,
                observer=told,
            ).run()
            steps.append(told.steps)
        assert steps[0] == pytest.approx(steps[1], rel=1e-3)


class TestRefused:
    @pytest.mark.parametrize(
        ("give", "words"),
        [
            (lambda t, f, s: f, "digits has 10 classes, but mine has 64 outputs"),
            (
                lambda t, f, s: {"a": f, "b": s[0]},
                r"mine does not give one score a class .* a of shape",
            ),
            (lambda t, f, s: (f, f) if t else s, r"in training mode.* a tensor of shape 2×64"),
            (lambda t, f, s: "words", "a str without tensors"),
            (lambda t, f, s: [[s]], "a list without tensors"),
            (lambda t, f, s: s[:, :, None], "a tensor of shape 2×10×1"),
        ],
    )
    def test_named_in_words(
        self, give: Callable[[bool, Tensor, Tensor], Any], words: str, data: Data
    ) -> None:
        with pytest.raises(DataError, match=words):
            read_outputs(Net(give), data, "mine")

    def test_a_network_that_fails(self, data: Data) -> None:
        def fail(training: bool, features: Tensor, scores: Tensor) -> Any:
            raise KeyError("no such thing")

        with pytest.raises(NetworkError, match="no such thing"):
            read_outputs(Net(fail), data, "mine")

    def test_an_evaluation_without_a_look_before(self, data: Data) -> None:
        with pytest.raises(DataError, match="None of the network's outputs has one score"):
            evaluate(Net(lambda t, f, s: f), data)


def test_the_look_leaves_everything_as_it_was(data: Data) -> None:
    network = Net(lambda t, f, s: (s, torch.rand(3)))
    network.body.eval()
    before, random = network_weights(network), torch.get_rng_state()
    modes = [module.training for module in network.modules()]
    read_outputs(network, data, "mine")
    assert all(torch.equal(a, b) for a, b in zip(before, network_weights(network), strict=True))
    assert torch.equal(random, torch.get_rng_state())
    assert modes == [module.training for module in network.modules()]


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("swapped_net.py").write_text(
        "from torch import nn\n"
        "class Swapped(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.body, self.fc = nn.Conv2d(3, 64, 3), nn.Linear(64, 10)\n"
        "    def forward(self, x):\n"
        "        x = self.body(x).mean((2, 3))\n"
        "        return {'embedding': x, 'y': self.fc(x)} if self.training else self.fc(x)\n"
    )
    order = "train swapped_net:Swapped --data digits --epochs 1 --input-size 8 -o out"
    said = CliRunner().invoke(app, order.split())
    assert said.exit_code == 0, said.output
    words = " ".join(said.output.split())
    assert (
        "returns 2 tensors in training mode. embedding 2×64: left out; y 2×10: class scores."
        in words
    )
