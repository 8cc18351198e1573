"""A network that loses channels while it trains: optimizers follow, and a resumed run ends the same."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Silent, Stopping, digits, same_weights
from torch import nn

from seclcompress import networks
from seclcompress.data import Data, Presentation
from seclcompress.errors import TrainingError
from seclcompress.graph import Group, channel_groups, kept_by_layer
from seclcompress.optim import make_optimizers, parameter_groups
from seclcompress.settings.budget import Budget, parse_budget
from seclcompress.settings.slimming import SlimOptions
from seclcompress.settings.training import TrainingSettings
from seclcompress.slim import figures_without
from seclcompress.train import Stopped, Trainer, evaluate
from seclcompress.train.narrowing import narrow_trained, places_of
from seclcompress.train.pictures import Pictures
from seclcompress.train.shrinking import Shrinking
from seclcompress.train.spectra import Spectra

SIZE = (3, 8, 8)
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["seclcompress.train", "seclcompress.networks", "runs", "pytest"])
WAYS: dict[str, dict[str, Any]] = {
    "gates": {"method": "gates"},
    "sigmoid": {"method": "sigmoid"},
    "rounds": {"rounds": 3},
    "svd": {"method": "svd", "rounds": 3},
}


@pytest.fixture(scope="module")
def data() -> Data:
    return digits()


def network() -> tuple[nn.Module, tuple[Group, ...]]:
    torch.manual_seed(0)
    made = nn.Sequential(
        *(nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Conv2d(12, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(144, 20), nn.ReLU(), nn.Linear(20, 10)),
    )
    return made, channel_groups(made, SIZE).groups


def shrinking_trainer(
    folder: Path,
    data: Data,
    way: str,
    observer: Silent | None = None,
    budget: str | None = "parameters=2k",
    options: dict[str, Any] | None = None,
    **settings: Any,
) -> Trainer:
    chosen = TrainingSettings(
        **{"epochs": 4, "batch_size": 50, "lr": 0.05, "group_decay": {"gates": 0.0}, **settings}
    )
    made, groups = network()
    skeleton, _ = network()
    asked: Budget | None = None if budget is None else parse_budget(budget)
    slim = SlimOptions(**{**WAYS[way], **(options or {})})
    trainer = Trainer(
        made,
        data,
        chosen,
        folder,
        shrinking=Shrinking(
            made,
            groups,
            figures_without(skeleton, SIZE, groups),
            slim,
            asked,
            chosen.lr,
            spectra_of(data) if slim.looks else None,
        ),
        observer=observer or Silent(),
    )
    if isinstance(observer, Stopping):
        observer.trainer = trainer
    return trainer


def spectra_of(data: Data) -> Spectra:
    shown = Presentation(data.input_size, data.preprocessing)
    first = torch.arange(60)
    pictures = Pictures(data.train, first.split(25), shown)
    seen = data.train.subset(first)
    return Spectra(pictures, lambda network: evaluate(network, data, images=seen).accuracy)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for name, p in network.named_parameters() if "gates" not in name)


@pytest.mark.parametrize("way", [*WAYS])
class TestARun:
    def test_it_meets_its_budget_in_its_share_of_the_steps(
        self, way: str, tmp_path: Path, data: Data
    ) -> None:
        trainer = shrinking_trainer(tmp_path, data, way)
        whole = parameters(trainer.network)
        history = trainer.run()
        sizes = [line["parameters"] for line in history]
        assert sizes == sorted(sizes, reverse=True)
        assert whole > 2000 >= sizes[2] == sizes[-1] == parameters(trainer.network)
        assert not (tmp_path / "best.safetensors").exists()

    def test_optimizers_have_what_the_network_has(
        self, way: str, tmp_path: Path, data: Data
    ) -> None:
        trainer = shrinking_trainer(tmp_path, data, way, ema=0.9)
        trainer.run()
        held = [p for one in trainer.optimizers for g in one.param_groups for p in g["params"]]
        assert {id(p) for p in held} == {id(p) for p in trainer.network.parameters()}
        for optimizer in trainer.optimizers:
            for parameter, state in optimizer.state.items():
                assert state["momentum_buffer"].shape == parameter.shape

    @pytest.mark.parametrize(("ema", "stops"), [(0.0, (1, 8)), (0.9, (5, 11))], ids=str)
    def test_stopped_and_resumed_it_ends_the_same(
        self, way: str, ema: float, stops: tuple[int, ...], tmp_path: Path, data: Data
    ) -> None:
        whole = shrinking_trainer(tmp_path / "whole", data, way, ema=ema)
        expected = whole.run()
        timing = {"seconds": 0, "loading_seconds": 0, "images_per_second": 0}
        for stop_after in stops:
            folder = tmp_path / str(stop_after)
            half = shrinking_trainer(folder, data, way, Stopping(stop_after), ema=ema)
            with pytest.raises(Stopped):
                half.run()
            again = shrinking_trainer(folder, data, way, ema=ema)
            again.resume()
            found = again.run()
            assert [{**r, **timing} for r in found] == [{**r, **timing} for r in expected]
            assert same_weights(whole.network, again.network)

    def test_other_choices_are_another_run(self, way: str, tmp_path: Path, data: Data) -> None:
        half = shrinking_trainer(tmp_path, data, way, Stopping(3))
        with pytest.raises(Stopped):
            half.run()
        other = shrinking_trainer(tmp_path, data, way, budget="parameters=3k")
        with pytest.raises(TrainingError, match="slimming was"):
            other.resume()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    @pytest.mark.parametrize(
        "most",
        [
            pytest.param(8, marks=pytest.mark.slow),
            pytest.param(26, marks=pytest.mark.exhaustive),  # over 100 for all ways
        ],
    )
    def test_killed_at_many_moments_it_ends_the_same(
        self, way: str, most: int, tmp_path: Path, data: Data
    ) -> None:
        """A child is killed at a random moment, and the next one goes on, many times for each way."""
        settings: dict[str, Any] = {"epochs": 3 * most // 2, "checkpoint_seconds": 1e-9}
        whole = shrinking_trainer(tmp_path / "whole", data, way, **settings)
        whole.run()
        moments = random.Random(way)
        kills = 0
        while kills < most:
            status = killed(tmp_path / "half", way, moments, settings)
            assert status in (0, -signal.SIGKILL)
            if status == 0:
                break
            kills += 1
        assert 26 * kills > 10 * most
        last = shrinking_trainer(tmp_path / "half", data, way, **settings)
        last.resume()
        last.run()
        assert same_weights(whole.network, last.network)


class Telling(Silent):
    """Tells another process of every step."""

    def __init__(self, file: int) -> None:
        super().__init__()
        self.file = file

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        os.write(self.file, b".")


def go_on(folder: Path, way: str, pipe: Connection, settings: dict[str, Any]) -> None:
    """Starts a run, or goes on with it, and tells of each step; for a child."""
    torch.set_num_threads(1)
    trainer = shrinking_trainer(folder, digits(), way, Telling(pipe.fileno()), **settings)
    if (folder / "checkpoint.safetensors").exists():
        trainer.resume()
    trainer.run()


def killed(folder: Path, way: str, moments: random.Random, settings: dict[str, Any]) -> int | None:
    """Goes on with a run in a child that is killed after some steps; returns how it ended.

    The child is forked from a server that has imported everything and done nothing. A fork of this
    process could wait for ever for a lock that one of its threads holds.
    """
    ours, theirs = CHILDREN.Pipe(duplex=False)
    child = CHILDREN.Process(target=go_on, args=(folder, way, theirs, settings))
    child.start()
    theirs.close()
    with contextlib.suppress(EOFError):
        for _ in range(moments.randint(1, 6)):
            if not ours.poll(100) or not os.read(ours.fileno(), 1):
                break
    time.sleep(moments.random() * 0.02)
    child.kill()
    child.join()
    ours.close()
    return child.exitcode


@pytest.mark.parametrize("until", [0.01, 1.0])
@pytest.mark.parametrize("way", [*WAYS])
def test_a_budget_is_met_however_long_channels_may_be_lost(
    way: str, until: float, tmp_path: Path, data: Data
) -> None:
    trainer = shrinking_trainer(tmp_path, data, way, options={"until": until}, epochs=1)
    trainer.run()
    assert parameters(trainer.network) <= 2000


def test_without_a_budget_a_price_decides(tmp_path: Path, data: Data) -> None:
    sizes = []
    for price in (1e-6, 20.0):
        trainer = shrinking_trainer(
            tmp_path / str(price), data, "gates", budget=None, options={"price": price}
        )
        trainer.run()
        sizes.append(parameters(trainer.network))
    assert sizes[0] == parameters(network()[0]) > sizes[1]


@pytest.mark.parametrize("way", ["gates", "sigmoid"])
def test_however_high_the_price_the_network_stays_connected(
    way: str, tmp_path: Path, data: Data
) -> None:
    trainer = shrinking_trainer(
        tmp_path, data, way, budget=None, options={"price": 1e6, "least": 0.0}
    )
    trainer.run()
    shrinking = trainer._shrinking
    assert shrinking is not None
    kept = shrinking.kept()
    # The edge stops at its first atom, whose neighbours are half closed.
    assert set(kept.values()) == {1} if way == "gates" else 1 <= max(kept.values()) <= 5
    least = {group.name for group in network()[1]} if way == "gates" else set()
    assert set(shrinking.at_their_least()) == least
    widths = shrinking.finish()
    assert widths["0"] == (3, kept["0"])
    with torch.no_grad():
        assert trainer.network.eval()(torch.rand(2, *SIZE)).isfinite().all()


def test_what_is_taken_of_a_tensor_is_what_narrowing_takes() -> None:
    """Momentum that equals the weights equals them after channels are lost, too."""
    made = networks.build_untrained(networks.named_spec("mobilenet_v2", 10))
    groups = channel_groups(made, (3, 32, 32)).groups
    lost = {group.name: [*range(0, len(group.atoms), 3)][:-1] for group in groups}
    kept = kept_by_layer(made, groups, lost)
    optimizers = make_optimizers(made, TrainingSettings(), 0.0)
    for optimizer in optimizers:
        for parameter in [p for group in optimizer.param_groups for p in group["params"]]:
            optimizer.state[parameter] = {"momentum_buffer": parameter.detach().clone(), "step": 3}
    averages = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    places = places_of(made, kept)
    narrow_trained(made, kept, optimizers, averages)
    after = made.state_dict()
    assert sum(t.numel() for t in after.values()) < sum(t.numel() for t in before.values())
    for name, value in after.items():
        assert torch.equal(averages[name], value), name
        if name in places:
            assert torch.equal(before[name].flatten()[places[name]], value), name
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            assert torch.equal(state["momentum_buffer"], parameter)
            assert state["step"] == 3


def test_gates_are_a_group_of_their_own_without_decay(tmp_path: Path, data: Data) -> None:
    trainer = shrinking_trainer(tmp_path, data, "gates")
    assert [*parameter_groups(trainer.network)] == ["rest", "gates"]
    (optimizer,) = trainer.optimizers
    assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-4, 0.0]
