"""The moving average of the weights: what it holds, and that it is what a run tests and saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from runs import Silent, digits, distiller, same_weights, small, trainer
from torch import Tensor, nn

from seclcompress import processes
from seclcompress.data import Data
from seclcompress.errors import TrainingError
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import BEST, Trainer, evaluate
from seclcompress.train.average import Average


@pytest.fixture
def data() -> Data:
    return digits()


class Watching(Silent):
    """Keeps the weights after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.trainer: Trainer | None = None
        self.seen: list[dict[str, Tensor]] = []

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        super().step(epoch, images, loss, lr)
        assert self.trainer is not None
        self.seen.append(copies(self.trainer.network))


def copies(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def by_hand(start: Tensor, seen: list[Tensor], decay: float) -> Tensor:
    average = start.double()
    for step, value in enumerate(seen):
        d = min(decay, (1 + step) / (10 + step))
        average = d * average + (1 - d) * value.double()
    return average


@pytest.mark.parametrize("settings", [{}, {"batch_size": 25, "accumulate": 2}, {"amp": "bf16"}])
def test_what_is_tested_and_saved_is_the_average(
    tmp_path: Path, data: Data, settings: dict[str, Any]
) -> None:
    told = Watching()
    run = told.trainer = trainer(tmp_path, data, told, ema=0.8, **settings)
    start = copies(run.network)
    history = run.run()
    assert len(told.seen) == 12, "once a step, not once a batch"
    last = told.seen[-1]
    for name, value in run.network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert torch.equal(value, last[name])
            continue
        expected = by_hand(start[name], [weights[name] for weights in told.seen], 0.8)
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(run.network[-1].weight, last["5.weight"], rtol=1e-2)
    tested = evaluate(run.network, data)
    assert tested.accuracy == history[-1]["accuracy"]
    assert tested.loss == pytest.approx(history[-1]["test_loss"], rel=1e-4)
    best = max(history, key=lambda record: record["accuracy"])
    run.network.load_state_dict(safetensors.torch.load_file(tmp_path / BEST))
    assert evaluate(run.network, data).accuracy == best["accuracy"]


def test_the_steps_are_those_of_a_run_without_it(tmp_path: Path, data: Data) -> None:
    plain, averaged = Silent(), Silent()
    distiller(tmp_path / "a", data, plain, epochs=2).run()
    distiller(tmp_path / "b", data, averaged, epochs=2, ema=0.9).run()
    assert plain.steps == averaged.steps


def test_frozen_layers_and_other_buffers_are_the_networks_own() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    network[2].requires_grad_(False)
    network.register_buffer("mask", torch.full((2,), -torch.inf))
    network.register_buffer("table", torch.ones(2))
    average = Average(network, 0.5)
    trained = {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert average.values.keys() == trained | {"1.running_mean", "1.running_var"}
    assert [id(value) for value in average.statistics()] == [
        id(average.values[f"1.running_{which}"]) for which in ("mean", "var")
    ]
    start = copies(network)
    with torch.no_grad():
        network[0].weight.add_(1)
        network[1].running_mean = torch.full((2,), 5.0)  # rebound, as some modules do
        network.table.fill_(7)
    average.update(0)
    own = copies(network)
    with average.shown():
        torch.testing.assert_close(
            network[0].weight, start["0.weight"] + 0.9
        )  # 1 ÷ 10 of the start
        assert network[1].running_mean.tolist() == [4.5, 4.5]
        assert network.table.tolist() == [7, 7]
        assert network.mask.tolist() == [-torch.inf] * 2
        assert torch.equal(network[2].weight, start["2.weight"])
    assert all(torch.equal(value, own[name]) for name, value in network.state_dict().items())


def test_the_network_is_its_own_again_after_an_error() -> None:
    network = small()
    average = Average(network, 0.5)
    with torch.no_grad():
        network[0].pointwise.a.mul_(2)
    own = copies(network)
    with pytest.raises(KeyboardInterrupt), average.shown():
        raise KeyboardInterrupt
    assert all(torch.equal(value, own[name]) for name, value in network.state_dict().items())


def test_half_precision_keeps_small_shares() -> None:
    """A share of 1 ÷ 1000 of a change of 1 is less than bfloat16 tells apart from 1."""
    network = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    with torch.no_grad():
        network.weight.fill_(1)
    average = Average(network, 0.999)
    with torch.no_grad():
        network.weight.fill_(2)
    for step in range(100_000, 100_100):
        average.update(step)
    assert float(average.values["weight"]) == pytest.approx(2 - 0.999**100, rel=1e-5)
    average.put()
    assert network.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("steps", [1, 10, 200])
def test_a_short_run_is_not_averaged_with_its_random_start(steps: int) -> None:
    network = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        network.weight.fill_(1)
    average = Average(network, 0.999)
    with torch.no_grad():
        network.weight.fill_(0)
    for step in range(steps):
        average.update(step)
    share = 1.0
    for step in range(steps):
        share *= (step + 1) / (step + 10)
    assert float(average.values["weight"]) == pytest.approx(share, rel=1e-9)
    assert steps < 10 or share < 1.1e-5


def test_off_it_is_empty(tmp_path: Path, data: Data) -> None:
    network = small()
    before = copies(network)
    average = Average(network, 0.0)
    average.update(0)
    with average.shown():
        pass
    average.put()
    assert average.values == {}
    assert average.statistics() == []
    assert all(torch.equal(value, before[name]) for name, value in copies(network).items())


def test_all_processes_show_the_first_ones_statistics(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared: list[list[Tensor]] = []
    monkeypatch.setattr(
        processes.Processes, "share", lambda _, tensors: shared.append(list(tensors))
    )
    run = trainer(tmp_path, data, epochs=1, ema=0.5)
    run.run()
    [once] = shared
    # The network's three, and the two that are averaged. They had become the network's by then.
    assert len(once) == 5
    assert torch.equal(once[3], run.network[1].running_mean)
    assert torch.equal(once[4], run.network[1].running_var)


def test_a_run_with_another_average_is_another_run(tmp_path: Path, data: Data) -> None:
    trainer(tmp_path, data, epochs=1).run()
    with pytest.raises(TrainingError, match=r"other settings: ema was 0\.0, not 0\.5\. Resume"):
        trainer(tmp_path, data, epochs=1, ema=0.5).resume()
    trainer(tmp_path, data, epochs=1, ema=0.5).run()
    with pytest.raises(TrainingError, match=r"other settings: ema was 0\.5, not 0\.0\. Resume"):
        trainer(tmp_path, data, epochs=1).resume()


def test_a_finished_run_gone_on_with_ends_with_its_average(tmp_path: Path, data: Data) -> None:
    """A process may die between the last checkpoint and the folder."""
    whole = trainer(tmp_path, data, epochs=2, ema=0.9)
    whole.run()
    again = trainer(tmp_path, data, epochs=2, ema=0.9)
    again.resume()
    again.run()
    assert same_weights(whole.network, again.network)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_the_decay_is_below_one(decay: float) -> None:
    with pytest.raises(ValueError, match="ema"):
        TrainingSettings(ema=decay)
