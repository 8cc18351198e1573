"""The learning-rate range test, and what its readings suggest."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from runs import digits, same_weights, small
from torch import nn

from seclcompress.data import Data, load_data
from seclcompress.errors import UnsuitableSettingsError
from seclcompress.processes import Processes
from seclcompress.settings.training import TrainingSettings
from seclcompress.trace import whole_copy
from seclcompress.train import Trainer, finder
from seclcompress.train.finder import Readings, geometric, range_test
from seclcompress.train.suggestion import Smoothing, suggest


def read_off(network: nn.Module, data: Data, **settings: Any) -> Readings:
    more = {name: settings.pop(name) for name in ("teacher", "steps") if name in settings}
    chosen = TrainingSettings(**{"batch_size": 50, **settings})
    return range_test(network, data, chosen, Processes(), **more)


def test_rates_rise_by_one_factor() -> None:
    rates = geometric(1e-5, 10, 100)
    assert (len(rates), rates[0]) == (100, 1e-5)
    assert rates[-1] == pytest.approx(10)
    assert all(b / a == pytest.approx(10 ** (6 / 99)) for a, b in itertools.pairwise(rates))


def test_a_test_trains_a_copy_and_leaves_random_numbers_alone() -> None:
    network, data = small(), digits()
    network.eval()
    before = whole_copy(network)
    state = torch.get_rng_state()
    read = read_off(network, data, steps=12)
    assert torch.equal(torch.get_rng_state(), state)
    assert same_weights(network, before)
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    # 200 images are 4 steps an epoch: three epochs.
    assert len(read.rates) == len(read.losses) == 12
    assert read_off(network, data, steps=12) == read


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2, "batch_size": 25}, {"mixup": 0.2}])
def test_the_first_step_is_the_run_s(tmp_path, settings: dict[str, Any]) -> None:
    """Its loss, with the teacher's share in it, is that of the run's own first step."""
    teacher, losses = small(structured=False), []
    chosen = TrainingSettings(**{"epochs": 1, "batch_size": 50, **settings})
    run = Trainer(
        small(), digits(), chosen, tmp_path, teacher=teacher, untrained_teacher=True,
    )  # fmt: skip
    run.observer.step = lambda epoch, images, loss, lr: losses.append(loss)  # type: ignore[method-assign]
    run.run()
    read = read_off(small(), digits(), teacher=teacher, steps=2, **settings)
    assert read.losses[0] == pytest.approx(losses[0], rel=1e-6)
    assert read.losses[0] != pytest.approx(
        read_off(small(), digits(), steps=2, **settings).losses[0]
    )


def test_groups_keep_their_relative_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Spy(finder.Stepper):
        def __call__(self, *given: Any) -> Any:
            for optimizer in self._optimizers:
                seen.extend((group["lr_share"], group["lr"]) for group in optimizer.param_groups)
            return super().__call__(*given)

    monkeypatch.setattr(finder, "Stepper", Spy)
    read_off(small(), digits(), factor_lr=0.3, steps=2)
    assert sorted({share for share, _ in seen}) == [0.3, 1.0]
    rates = [rate / share for share, rate in seen]
    assert rates == pytest.approx([1e-5] * (len(seen) // 2) + [10.0] * (len(seen) // 2))


def test_a_loss_that_diverges_ends_the_test() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 10))
    read = read_off(network, digits(), factor_optimizer="same")
    assert read.diverged
    assert len(read.rates) < finder.STEPS
    assert read.smoothed[-1] > 4 * min(read.smoothed)
    assert all(map(math.isfinite, read.losses))


class Exploding(nn.Module):
    """Its loss is finite until its weight has moved."""

    def __init__(self, at_once: bool) -> None:
        super().__init__()
        self.weight, self.at_once = nn.Parameter(torch.zeros(192, 10)), at_once

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = x.flatten(1) @ self.weight
        moved = self.at_once or bool(self.weight.detach().abs().max() > 0)
        return scores / 0.0 if moved and torch.is_grad_enabled() else scores


def test_a_loss_that_is_not_finite_ends_the_test_and_is_no_error() -> None:
    read = read_off(Exploding(at_once=False), digits(), factor_optimizer="same")
    assert (read.diverged, len(read.losses)) == (True, 1)
    assert suggest(read.rates, read.losses, read.smoothed).lr is None


def test_before_any_step_it_is_an_error() -> None:
    with pytest.raises(UnsuitableSettingsError, match="No step was taken before it"):
        read_off(Exploding(at_once=True), digits(), factor_optimizer="same")


def test_too_few_images() -> None:
    one = load_data("digits", (3, 8, 8), train_images=2)
    with pytest.raises(UnsuitableSettingsError, match="too few training images \\(2\\)"):
        read_off(small(), one, accumulate=2)


def curve(fall: float) -> tuple[list[float], list[float], list[float]]:
    """Losses that vary by 0.01, fall around a rate of 0.01 and rise from 1 on."""
    rates = geometric(1e-5, 10, 100)
    losses = [
        2
        + 0.01 * (-1) ** place
        - fall / (1 + (0.01 / rate) ** 2)
        + (5 * math.log10(rate) if rate > 1 else 0)
        for place, rate in enumerate(rates)
    ]
    smoothing = Smoothing()
    return rates, losses, [smoothing(loss) for loss in losses]


def test_a_tenth_of_the_rate_of_the_lowest_loss_is_suggested() -> None:
    rates, losses, smoothed = curve(fall=1.0)
    found = suggest(rates, losses, smoothed)
    lowest = rates[smoothed.index(min(smoothed))]
    assert found.lowest_at == lowest
    assert 0.3 < lowest < 1.5
    assert found.lr == float(f"{lowest / 10:.1e}")
    assert found.rises_at is not None
    assert 1 < found.rises_at < 5


def test_nothing_is_suggested_where_nothing_was_learnt() -> None:
    found = suggest(*curve(fall=0.005))
    assert (found.lr, found.lowest_at) == (None, None)
    assert found.rises_at is not None
    assert 0.9 < found.rises_at < 2


def test_smoothing_begins_at_the_first_loss() -> None:
    smoothing = Smoothing(0.9)
    assert smoothing(4.0) == pytest.approx(4.0)
    assert smoothing(2.0) == pytest.approx((0.1 * 2 + 0.9 * 0.1 * 4) / (1 - 0.81))
    assert [Smoothing()(3.0) for _ in range(3)] == pytest.approx([3.0] * 3)
