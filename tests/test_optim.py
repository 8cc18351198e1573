"""Optimizers, their groups of parameters, and learning rate schedules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import Silent, Stopping, digits, same_weights
from torch import Tensor, nn
from torch.nn import functional

from seclcompress import substitutions
from seclcompress.errors import TrainingError, UsageError
from seclcompress.optim import (
    SCHEDULES,
    factor_decay,
    factor_decay_by_ratio,
    make_optimizers,
    parameter_groups,
    set_learning_rate,
)
from seclcompress.settings.training import TrainingSettings
from seclcompress.substitutions.structured import StructuredConv
from seclcompress.train import Stopped, Trainer


class Scaled(StructuredConv):
    """A convolution with factors, a gain for each channel, a norm, and a bias that is in no group."""

    def __init__(self, conv: nn.Conv2d, more: str = "") -> None:
        super().__init__(conv)
        channels = conv.out_channels
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))
        self.first = nn.Parameter(torch.randn(channels, channels))
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Parameter(torch.randn(channels, conv.in_channels))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.more = more

    def factors(self) -> list[nn.Parameter]:
        return [self.first, self.second]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = {
            "norms": list(self.norm.parameters()),
            "gains": [self.gain],
            "factors": self.factors(),
        }
        return groups | ({self.more: groups.pop("gains")} if self.more else {})

    def convolve(self, x: Tensor) -> Tensor:
        weight = (self.first @ self.second)[..., None, None]
        return self.norm(functional.conv2d(x, weight)) * self.gain + self.bias

    def to_plain(self) -> nn.Module:
        raise NotImplementedError

    def to_dense(self) -> None:
        return None


class TestGroups:
    def network(self, more: str = "") -> nn.Module:
        torch.manual_seed(0)
        first = Scaled(nn.Conv2d(3, 4, 1), more)
        return nn.Sequential(first, nn.Flatten(), nn.Linear(256, 10))

    def test_each_has_its_own_decay_and_rate(self) -> None:
        network = self.network()
        layer = network[0]
        settings = TrainingSettings(
            lr=0.1,
            weight_decay=5e-4,
            group_decay={"gains": 0.0, "norms": 1e-5},
            group_lr={"norms": 0.5},
        )
        first, second = make_optimizers(network, settings, 1e-6)
        set_learning_rate([first, second], settings, 0)
        rest, gains, norms = first.param_groups
        [factors] = second.param_groups
        assert rest["params"] == [layer.bias, *network[2].parameters()]
        assert gains["params"] == [layer.gain]
        assert norms["params"] == [layer.norm.weight, layer.norm.bias]
        assert factors["params"] == [layer.first, layer.second]
        found = [(g["weight_decay"], g["lr"]) for g in (rest, gains, norms, factors)]
        assert found == [
            (5e-4, 0.1),
            (0, 0.1),
            (1e-5, 0.05),
            (1e-6, pytest.approx(0.01)),
        ]

    def test_gains_do_not_decay_unless_it_is_said(self) -> None:
        network = self.network()
        [optimizer] = make_optimizers(network, TrainingSettings(factor_optimizer="same"), 1e-6)
        assert [g["weight_decay"] for g in optimizer.param_groups] == [5e-4, 1e-6, 0, 5e-4]
        settings = TrainingSettings(factor_optimizer="same", group_decay={})
        [optimizer] = make_optimizers(network, settings, 1e-6)
        assert [g["weight_decay"] for g in optimizer.param_groups] == [5e-4, 1e-6, 5e-4, 5e-4]

    def test_every_parameter_is_in_one_group(self) -> None:
        network = self.network()
        network.append(nn.Sequential(network[0]))  # the same layer twice in the network
        groups = parameter_groups(network)
        assert list(groups) == ["rest", "factors", "gains", "norms"]
        members = [parameter for group in groups.values() for parameter in group]
        assert len(members) == len(set(members)) == len(list(network.parameters()))
        assert parameter_groups(nn.ReLU()) == {}

    def test_what_is_frozen_is_in_no_optimiser(self) -> None:
        network = self.network()
        network[0].gain.requires_grad_(False)
        first, _ = make_optimizers(network, TrainingSettings(), 0)
        assert [len(group["params"]) for group in first.param_groups] == [3, 2]

    def test_a_group_that_nobody_knows(self) -> None:
        network = self.network()
        for settings, words in (
            (
                {"group_decay": {"scales": 0.0}},
                "--group-decay scales: no layer .* gains, gates, no",
            ),
            ({"group_lr": {"rest": 0.1}}, "--group-lr rest: no layer of this network"),
        ):
            with pytest.raises(UsageError, match=words):
                make_optimizers(network, TrainingSettings(**settings), 0)
        make_optimizers(
            network, TrainingSettings(group_decay={"gates": 0.0}), 0
        )  # a known group that this network lacks
        own = self.network("scales")
        optimizers = make_optimizers(own, TrainingSettings(group_decay={"scales": 0.5}), 0)
        assert optimizers[0].param_groups[2]["weight_decay"] == 0.5

    def test_a_run_goes_on_with_the_same_bytes(self, tmp_path: Path) -> None:
        def run(folder: str, observer: Silent | None = None, **changed: object) -> Trainer:
            settings = {"group_decay": {"norms": 0.1}, "group_lr": {"gains": 3}, **changed}
            chosen = TrainingSettings(epochs=2, batch_size=50, lr=0.01, **settings)
            made = Trainer(self.network(), digits(), chosen, tmp_path / folder, observer=observer)
            if isinstance(observer, Stopping):
                observer.trainer = made
            return made

        whole = run("whole")
        whole.run()
        with pytest.raises(Stopped):
            run("half", Stopping(5)).run()
        again = run("half")
        again.resume()
        again.run()
        assert same_weights(whole.network, again.network)
        with pytest.raises(TrainingError, match=r"group_decay was {'norms': 0.1}, not {}"):
            run("half", group_decay={}).resume()
        for name, changed in (("decay", {"group_decay": {}}), ("rate", {"group_lr": {}})):
            other = run(name, **changed)
            other.run()
            assert not same_weights(whole.network, other.network)


class TestOptim:
    def network(self) -> nn.Module:
        acdc = substitutions.get("acdc")
        return nn.Sequential(acdc.build(nn.Conv2d(4, 8, 3), acdc.config({})), nn.BatchNorm2d(8))

    def test_the_diagonals_have_their_own_decay_and_rate(self) -> None:
        network = self.network()
        settings = TrainingSettings(lr=0.1, weight_decay=5e-4, factor_lr=3, factor_optimizer="same")
        [optimizer] = make_optimizers(network, settings, 1e-6)
        rest, factors = optimizer.param_groups
        assert (rest["weight_decay"], factors["weight_decay"]) == (5e-4, 1e-6)
        layer = network[0]
        assert {id(p) for p in factors["params"]} == {id(layer.pointwise.a), id(layer.pointwise.d)}
        assert len(rest["params"]) == 4
        set_learning_rate([optimizer], settings, 0)
        assert (rest["lr"], factors["lr"]) == pytest.approx((0.1, 0.3))
        [alone] = make_optimizers(nn.Linear(2, 2), settings, 0)
        assert len(alone.param_groups) == 1

    def test_the_diagonals_can_have_their_own_optimiser(self) -> None:
        settings = TrainingSettings(lr=0.1)
        assert (settings.factor_optimizer, settings.factor_lr_share) == ("adamw", 0.1)
        assert TrainingSettings(factor_optimizer="same").factor_lr_share == 1
        assert TrainingSettings(optimizer="adamw").factor_lr_share == 1
        assert TrainingSettings(factor_lr=2).factor_lr_share == 2
        first, second = make_optimizers(self.network(), settings, 0)
        assert isinstance(first, torch.optim.SGD)
        assert isinstance(second, torch.optim.AdamW)
        assert len(second.param_groups[0]["params"]) == 2
        set_learning_rate([first, second], settings, 0)
        assert second.param_groups[0]["lr"] == pytest.approx(0.01)
        both = make_optimizers(
            self.network(), TrainingSettings(optimizer="adamw", factor_optimizer="adamw"), 0
        )
        assert len(both) == 1
        assert isinstance(both[0], torch.optim.AdamW)

    def test_the_decay_rules(self) -> None:
        assert factor_decay_by_ratio(5e-4, 100_202, 2_243_546) == pytest.approx(2.233e-5, rel=1e-3)
        found = [
            factor_decay(TrainingSettings(weight_decay=5e-4, factor_decay=rule), 1, 10)
            for rule in ("ratio", "fixed", "product", 0.25)
        ]
        assert found == pytest.approx([5e-5, 8.8e-6, 0, 0.25])

    def test_schedules(self) -> None:
        assert SCHEDULES["cosine"](0) == 1
        assert SCHEDULES["cosine"](0.5) == pytest.approx(0.5)
        assert SCHEDULES["cosine"](1) == pytest.approx(0)
        found = [SCHEDULES["step"](epoch / 200) for epoch in (0, 59, 60, 119, 120, 160, 199)]
        assert found == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.008, 0.008])

    def test_warming_up(self) -> None:
        settings = TrainingSettings(lr=0.1, epochs=100, warmup_epochs=2)
        optimizers = make_optimizers(nn.Linear(2, 2), settings, 0)
        found = [set_learning_rate(optimizers, settings, done) for done in (0, 1, 2)]
        assert 0 < found[0] < 1e-4
        assert found[1:] == pytest.approx([0.05, 0.1], rel=1e-2)
