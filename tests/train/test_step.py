"""A step of the optimizers: sums over batches, and values that are not finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import (
    Silent,
    data_of,
    digits,
    distiller,
    trainer,
)
from torch import Tensor, nn

from seclcompress import substitutions
from seclcompress.data import Data
from seclcompress.data.in_memory import Decoded
from seclcompress.errors import TrainingError
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import Trainer


@pytest.fixture
def data() -> Data:
    return digits()


class TestNotFinite:
    def test_a_weight(self, tmp_path: Path, data: Data) -> None:
        run = trainer(tmp_path, data, epochs=2)
        with torch.no_grad():
            run.network[-1].weight.fill_(float("nan"))
        with pytest.raises(
            TrainingError, match=r"loss is nan at step 1 of epoch 1\. The weights 5\.weight are not"
        ):
            run.run()

    def test_a_layer_is_named(self, tmp_path: Path, data: Data) -> None:
        class Overflow(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x * torch.full((), 1e30) * torch.full((), 1e30)

        run = trainer(tmp_path, data)
        run.network[3] = Overflow()
        with pytest.raises(
            TrainingError,
            match=r"first layer whose output is not finite is 3 \(Overflow\)\. No step was taken before "
            r"it, so --lr is not the cause: look at the weights .* and at the pixel values",
        ):
            run.run()

    @pytest.mark.parametrize("amp", ["off", "fp16"])
    def test_a_structured_layer_is_named(self, tmp_path: Path, data: Data, amp: str) -> None:
        run = trainer(tmp_path, data, amp=amp)
        with torch.no_grad():
            run.network[0].depthwise.weight.fill_(3e38 if amp == "off" else 6e4)
        with pytest.raises(
            TrainingError, match=r"output is not finite is 0(\.depthwise)? \((Depthwise|Conv)"
        ):
            run.run()

    def test_fp16_whose_gradients_never_recover(self, tmp_path: Path, data: Data) -> None:
        class Lost(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                return x.clone()

            @staticmethod
            def backward(ctx: Any, *gradients: Tensor) -> Any:
                return gradients[0] * float("nan")

        class Layer(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return Lost.apply(x)  # type: ignore[no-any-return]

        run = trainer(tmp_path, data, amp="fp16", epochs=10)
        run.network[2] = Layer()
        with pytest.raises(TrainingError, match=r"A gradient is not finite at step 1 of epoch 5"):
            run.run()

    def test_a_gradient(self, tmp_path: Path, data: Data) -> None:
        class Root(nn.Module):
            """Its output is finite and its gradient is not."""

            def forward(self, x: Tensor) -> Tensor:
                return x + (x * 0).sqrt()

        run = trainer(tmp_path, data)
        run.network[2] = Root()
        with pytest.raises(TrainingError, match=r"A gradient is not finite at step 1.*is 1\.bias"):
            run.run()

    def test_after_a_step_the_learning_rate_may_be_the_cause(
        self, tmp_path: Path, data: Data
    ) -> None:
        with pytest.raises(
            TrainingError,
            match=r"The loss is (nan|inf) at step 2 of epoch 1\..* Try a smaller --lr",
        ):
            trainer(tmp_path, data, lr=1e30).run()

    def test_half_precision_may_be_the_cause(self, tmp_path: Path, data: Data) -> None:
        run = trainer(tmp_path, data, amp="fp16")
        with torch.no_grad():
            run.network[0].depthwise.weight.fill_(6e4)
        with pytest.raises(
            TrainingError, match=r"Or compute in full precision, without --amp fp16\."
        ):
            run.run()

    def test_the_last_good_checkpoint_is_named(self, tmp_path: Path, data: Data) -> None:
        run = trainer(tmp_path, data)
        told = run.observer

        def spoil(record: dict[str, Any]) -> None:
            with torch.no_grad():
                run.network[-1].weight.fill_(float("inf"))

        told.epoch = spoil  # type: ignore[method-assign]
        with pytest.raises(TrainingError, match=r"The last good checkpoint is of epoch 1, in"):
            run.run()
        again = trainer(tmp_path, data)
        again.resume()
        assert len(again.run()) == 3

    def test_a_last_step_that_diverges(self, tmp_path: Path, data: Data) -> None:
        with pytest.raises(
            TrainingError, match=r"The loss on the test images is (nan|inf) after epoch 1"
        ):
            trainer(tmp_path, data, epochs=1, batch_size=200, lr=1e30).run()
        assert not (tmp_path / "best.safetensors").exists()


class WithHeads(nn.Module):
    """Has several outputs in training, like Inception."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.side = nn.Linear(192, 10), nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Any:
        x = x.flatten(1)
        return (self.main(x), self.side(x)) if self.training else self.main(x)


def test_auxiliary_heads_are_trained(tmp_path: Path, data: Data) -> None:
    network = WithHeads()
    before = network.side.weight.detach().clone()
    Trainer(network, data, TrainingSettings(epochs=1), tmp_path, observer=Silent()).run()
    assert not torch.equal(before, network.side.weight)


def test_accumulated_batches_are_one_large_batch(tmp_path: Path, data: Data) -> None:
    ends = []
    for name, settings in (
        ("large", {"batch_size": 60}),
        ("accumulated", {"batch_size": 20, "accumulate": 3}),
    ):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
        observer = Silent()
        chosen = TrainingSettings(epochs=2, lr=0.05, **settings)
        Trainer(network, data, chosen, tmp_path / name, observer=observer).run()
        ends.append(observer.steps)
    assert len(ends[0]) == 8  # 200 images in steps of 60, 60, 60 and 20, twice
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision(tmp_path: Path, data: Data, amp: str) -> None:
    history = trainer(tmp_path, data, epochs=3, amp=amp).run()
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_a_network_in_double_precision(tmp_path: Path, data: Data) -> None:
    network = WithHeads().double()
    history = Trainer(network, data, TrainingSettings(epochs=1), tmp_path, observer=Silent()).run()
    assert network.main.weight.dtype == torch.float64
    assert history[-1]["accuracy"] > 0


@pytest.mark.slow
def test_compiled(tmp_path: Path, data: Data) -> None:
    plain, compiled = Silent(), Silent()
    settings = {"alpha": 0.5, "taps": ("2",), "crop": True}
    distiller(tmp_path / "a", data, plain, **settings).run()
    distiller(tmp_path / "b", data, compiled, compile=True, **settings).run()
    assert compiled.steps[0] == pytest.approx(plain.steps[0], rel=1e-3)


def test_images_that_are_left_out_do_not_count(tmp_path: Path) -> None:
    """Half of the images cannot be read: the loss and the steps are those of the other half."""
    labels = torch.arange(40) % 2
    pixels = torch.rand(40, 3, 8, 8)
    readable = torch.arange(40) % 4 < 2
    ends = []
    for name, train in (
        ("all", Decoded(pixels[readable], labels[readable])),
        ("half", Decoded(pixels, labels, readable)),
    ):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
        settings = TrainingSettings(epochs=1, batch_size=len(train), lr=0.01)
        data = data_of(train, Decoded(pixels, labels), ["a", "b"], (3, 8, 8))
        run = Trainer(network, data, settings, tmp_path / name, observer=Silent())
        ends.append((run.run()[0]["train_loss"], network[1].weight.detach()))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-5)
    torch.testing.assert_close(ends[0][1], ends[1][1])


def test_images_that_are_left_out_leave_the_decay_of_products_alone(tmp_path: Path) -> None:
    """The penalty is no mean over images: it has the same weight whatever could be read."""
    labels, pixels = torch.arange(40) % 2, torch.rand(40, 3, 8, 8)
    readable = torch.arange(40) % 4 < 2
    acdc = substitutions.get("acdc")
    ends = []
    for name, train in (
        ("all", Decoded(pixels[readable], labels[readable])),
        ("half", Decoded(pixels, labels, readable)),
    ):
        torch.manual_seed(0)
        layer = acdc.build(nn.Conv2d(3, 4, 1), acdc.config({"depth": 2}))
        network = nn.Sequential(layer, nn.Flatten(), nn.Linear(256, 2))
        settings = TrainingSettings(
            epochs=1, batch_size=len(train), lr=0.01, weight_decay=0.5, factor_decay="product"
        )
        data = data_of(train, Decoded(pixels, labels), ["a", "b"], (3, 8, 8))
        Trainer(network, data, settings, tmp_path / name, observer=Silent()).run()
        ends.append(layer.pointwise.make_weight().detach())
    torch.testing.assert_close(*ends)


def test_the_diagnosis_repeats_the_random_numbers_of_every_batch(
    tmp_path: Path, data: Data
) -> None:
    """Of two accumulated batches the second one has the second draws, not the first ones again."""

    class Remembers(nn.Module):
        """Its output overflows for the second of its draws, whenever that comes again."""

        def __init__(self) -> None:
            super().__init__()
            self.draws: list[float] = []

        def forward(self, x: Tensor) -> Tensor:
            draw = float(torch.rand(()))
            self.draws.append(draw)
            second = self.draws[1] if len(self.draws) > 1 else None
            return x * (float("inf") if draw == second else 1)

    network = nn.Sequential(nn.Flatten(), Remembers(), nn.Linear(192, 10))
    settings = TrainingSettings(epochs=1, batch_size=50, accumulate=2)
    run = Trainer(network, data, settings, tmp_path, observer=Silent())
    with pytest.raises(TrainingError, match=r"output is not finite is 1 \(Remembers\)"):
        run.run()
    assert network[1].draws[2:4] == network[1].draws[:2]
