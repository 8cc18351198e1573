"""The training loop: it learns, it is the same every time, it stops with words when it must."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Silent, Stopping, data_of, digits, same_weights, small, trainer, write_noise
from torch import Tensor, nn

from seclcompress.data import Data, load_data
from seclcompress.data.images import Decoded
from seclcompress.errors import ArtefactError, DataError, TrainingError
from seclcompress.processes import Processes
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import Stopped, Trainer, accuracy_before, evaluate


@pytest.fixture
def data() -> Data:
    return digits()


def distiller(folder: Path, data: Data, observer: Silent | None = None, **settings: Any) -> Trainer:
    chosen = TrainingSettings(**{"epochs": 1, "batch_size": 50, **settings})
    teacher = small(structured=False)
    return Trainer(small(), data, chosen, folder, teacher=teacher, observer=observer or Silent())


def test_it_learns_and_keeps_a_record(tmp_path: Path, data: Data) -> None:
    observer = Silent()
    run = trainer(tmp_path, data, observer, epochs=8)
    history = run.run()
    assert observer.started == (8, 4, 0)
    assert len(observer.steps) == 32
    assert history[-1]["accuracy"] > 60
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert history[0]["train_loss"] == pytest.approx(sum(observer.steps[:4]) / 4)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == history
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert history[-1]["lr"] < history[0]["lr"] < 0.05
    assert all(line["seconds"] >= line["loading_seconds"] >= 0 for line in lines)
    tested = evaluate(run.network, data)
    assert tested.accuracy == history[-1]["accuracy"]
    assert tested.loss == pytest.approx(history[-1]["test_loss"], rel=1e-4)


class TestTheSameBytes:
    """A run is a function of its settings, wherever it was interrupted."""

    @pytest.mark.parametrize(
        "settings",
        [
            {"factor_optimizer": "same"},
            {"optimizer": "adamw"},
            {"crop": True, "flip": True},
            {"batch_size": 14, "accumulate": 3, "mixup": 0.2, "cutout": 2},
            {"amp": "fp16", "lr": 0.01},
        ],
    )
    @pytest.mark.parametrize("stop_after", [4, 5, 7])
    def test_stopped_and_resumed(
        self, tmp_path: Path, data: Data, settings: dict[str, Any], stop_after: int
    ) -> None:
        settings = {"batch_size": 40, **settings}
        whole = trainer(tmp_path / "whole", data, **settings)
        expected = whole.run()
        half = trainer(tmp_path / "half", data, Stopping(stop_after), **settings)
        with pytest.raises(Stopped):
            half.run()
        torch.manual_seed(12345)
        observer = Silent()
        again = trainer(tmp_path / "half", data, observer, **settings)
        again.resume()
        found = again.run()
        assert observer.started is not None
        assert observer.started[2] == stop_after
        timing = {"seconds": 0, "loading_seconds": 0, "images_per_second": 0}
        assert [{**r, **timing} for r in found] == [{**r, **timing} for r in expected]
        assert same_weights(whole.network, again.network)
        best = [tmp_path / part / "best.safetensors" for part in ("whole", "half")]
        assert best[0].read_bytes() == best[1].read_bytes()

    def test_killed_it_goes_on_from_the_last_checkpoint(self, tmp_path: Path, data: Data) -> None:
        whole = trainer(tmp_path / "whole", data)
        whole.run()
        with pytest.raises(KeyboardInterrupt):
            trainer(tmp_path / "half", data, Silent(6)).run()
        observer = Silent()
        again = trainer(tmp_path / "half", data, observer)
        again.resume()
        again.run()
        assert observer.started == (3, 4, 4)
        assert same_weights(whole.network, again.network)

    def test_checkpoints_within_an_epoch(self, tmp_path: Path, data: Data) -> None:
        whole = trainer(tmp_path / "whole", data)
        whole.run()
        with pytest.raises(KeyboardInterrupt):
            trainer(tmp_path / "half", data, Silent(3), checkpoint_seconds=1e-9).run()
        observer = Silent()
        again = trainer(tmp_path / "half", data, observer)  # how often to save may change
        again.resume()
        again.run()
        assert observer.started == (3, 4, 2)
        assert same_weights(whole.network, again.network)

    def test_distilled(self, tmp_path: Path, data: Data) -> None:
        settings = {"epochs": 2, "alpha": 0.5, "taps": ("2",), "factor_decay": "product"}
        whole = distiller(tmp_path / "whole", data, **settings)
        whole.run()
        half = distiller(tmp_path / "half", data, Stopping(3), **settings)
        half.observer.trainer = half  # type: ignore[attr-defined]
        with pytest.raises(Stopped):
            half.run()
        again = distiller(tmp_path / "half", data, **settings)
        again.resume()
        again.run()
        assert same_weights(whole.network, again.network)

    def test_from_files_with_dropout_and_mixup(self, tmp_path: Path) -> None:
        """Starting to read must draw nothing from the random numbers that dropout uses."""
        write_noise(tmp_path / "data", ["cat", "dog"], 10, 70, "png")
        data = load_data(f"imagefolder:{tmp_path / 'data'}", (3, 70, 70))
        settings = TrainingSettings(epochs=2, batch_size=4, lr=0.01, mixup=0.4, cutout=9)

        def run(folder: str, observer: Silent) -> Trainer:
            torch.manual_seed(0)
            network = nn.Sequential(
                nn.Conv2d(3, 8, 3, 8), nn.Flatten(), nn.Dropout(0.5), nn.Linear(648, 2)
            )
            return Trainer(network, data, settings, tmp_path / folder, observer=observer)

        whole = run("whole", Silent())
        whole.run()
        stopping = Stopping(3)
        half = run("half", stopping)
        stopping.trainer = half
        with pytest.raises(Stopped):
            half.run()
        again = run("half", Silent())
        again.resume()
        again.run()
        assert same_weights(whole.network, again.network)

    @pytest.mark.slow
    @pytest.mark.parametrize("side", [32, 80])
    def test_with_any_number_of_workers(self, tmp_path: Path, side: int) -> None:
        write_noise(tmp_path / "data", ["cat", "dog"], 8, side + 8, "png")
        data = load_data(f"imagefolder:{tmp_path / 'data'}", (3, side, side))
        ends = []
        for workers, stop_after in ((0, None), (2, None), (2, 5)):
            torch.manual_seed(0)
            network = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.Flatten(), nn.LazyLinear(2))
            network(torch.zeros(1, 3, side, side))
            settings = TrainingSettings(
                epochs=3, batch_size=4, lr=0.01, workers=workers, cache_images="never",
                randaugment=9, cutout=4,
            )  # fmt: skip
            folder = tmp_path / f"{workers}{stop_after}"
            start = copy.deepcopy(network)
            try:
                Trainer(network, data, settings, folder, observer=Silent(stop_after)).run()
            except KeyboardInterrupt:
                network = start
                run = Trainer(network, data, settings, folder, observer=Silent())
                run.resume()
                run.run()
            ends.append(network)
        assert same_weights(ends[0], ends[1])
        assert same_weights(ends[0], ends[2])


def test_resume_wants_the_same_run(tmp_path: Path, data: Data) -> None:
    with pytest.raises(TrainingError, match="no interrupted run"):
        trainer(tmp_path, data).resume()
    trainer(tmp_path, data, epochs=1).run()
    with pytest.raises(
        TrainingError, match=r"other settings: epochs was 1, not 2; lr was 0.05, not"
    ):
        trainer(tmp_path, data, epochs=2, lr=0.1).resume()
    smaller = dataclasses.replace(data, input_size=(3, 16, 16))
    with pytest.raises(TrainingError, match=r"input_size was \[3, 8, 8\], not \[3, 16, 16\]"):
        trainer(tmp_path, smaller, epochs=1).resume()
    fewer = load_data("digits", (3, 8, 8), train_images=100)
    with pytest.raises(TrainingError, match=r"images was '\w+', not '\w+'"):
        trainer(tmp_path, fewer, epochs=1).resume()
    other = small()
    with torch.no_grad():
        other[0].pointwise.a.mul_(2)
    settings = TrainingSettings(epochs=1, batch_size=50, lr=0.05)
    run = Trainer(other, data, settings, tmp_path, observer=Silent())
    with pytest.raises(TrainingError, match=r"network was '\w+', not '\w+'"):
        run.resume()


def test_the_process_is_left_as_it_was(tmp_path: Path, data: Data) -> None:
    tiny = torch.tensor([5e-324], dtype=torch.float64)
    inside: list[bool] = []
    run = trainer(tmp_path, data, epochs=1)
    run.network[2].register_forward_hook(lambda *_: inside.append(bool((tiny * 1 == 0).all())))
    run.run()
    assert all(inside)
    assert (tiny * 1 != 0).all()


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
            TrainingError, match=r"first layer whose output is not finite is 3 \(Overflow\).*--lr"
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
            """Finite where its gradient is not."""

            def forward(self, x: Tensor) -> Tensor:
                return x + (x * 0).sqrt()

        run = trainer(tmp_path, data)
        run.network[2] = Root()
        with pytest.raises(TrainingError, match=r"A gradient is not finite at step 1.*is 1\.bias"):
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


def test_a_full_disk_is_an_error_of_ours(tmp_path: Path, data: Data, monkeypatch) -> None:
    with pytest.raises(Stopped):
        trainer(tmp_path, data, Stopping(5)).run()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        again = trainer(tmp_path, data)
        again.resume()
        with pytest.raises(ArtefactError, match="No space left"):
            again.run()
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    again = trainer(tmp_path, data)
    again.resume()
    again.run()


class WithHeads(nn.Module):
    """Gives several outputs in training, like Inception."""

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


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"beta": 100.0, "taps": ("2",), "crop": True}, 8),
        ({"beta": 0.0, "alpha": 0.5, "flip": True}, 8),
        ({"beta": 100.0, "taps": ("2",)}, 4),  # nothing is random: it is asked once
        ({"beta": 0.0, "alpha": 0.0}, 0),
    ],
)
def test_the_teacher_is_asked_in_eval_mode_and_left_alone(
    tmp_path: Path, data: Data, settings: dict[str, Any], asked: int
) -> None:
    run = distiller(tmp_path, data, epochs=2, **settings)
    assert run.teacher is not None
    teacher = run.teacher.network
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    calls = []
    teacher.register_forward_hook(
        lambda m, a, o: calls.append((m.training, torch.is_inference_mode_enabled()))
    )
    run.run()
    looking = 8  # batches of test images, before the first step
    assert calls == [(False, True)] * (looking + asked)
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def test_what_is_remembered_is_what_would_be_said(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembering, asking = Silent(), Silent()
    distiller(tmp_path / "a", data, remembering, alpha=0.5, taps=("2",)).run()
    monkeypatch.setattr("seclcompress.train.teacher._MEMORY", 1)
    distiller(tmp_path / "b", data, asking, alpha=0.5, taps=("2",)).run()
    assert remembering.steps == pytest.approx(asking.steps, rel=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"beta": 1000.0},
        {"alpha": 0.9},
        {"label_smoothing": 0.2},
        {"mixup": 0.3},
        {"cutmix": 1.0},
        {"cutout": 3},
        {"crop": True},
        {"flip": True},
        {"randaugment": 9},
        {"factor_lr": 3.0},
        {"factor_decay": "product", "weight_decay": 0.1},
        {"factor_decay": 0.1},
        {"factor_optimizer": "same"},
        {"warmup_epochs": 1.0},
        {"lr_scheduler": "step"},
        {"momentum": 0.0},
        {"seed": 1},
    ],
)
def test_every_setting_changes_what_is_learnt(tmp_path: Path, settings: dict[str, Any]) -> None:
    pixels = (load_data("digits", (3, 8, 8)).train.pixels[:200] * 255).byte()  # type: ignore[attr-defined]
    some = Decoded(pixels, torch.arange(200) % 10)
    data = data_of(some, some, list("0123456789"), (3, 8, 8))
    shared = {"alpha": 0.0, "beta": 0.0, "taps": ("2",), "epochs": 2}
    ends = []
    for name, changed in (("a", {}), ("b", settings)):
        run = distiller(tmp_path / name, data, **{**shared, **changed})
        run.run()
        ends.append(run.network)
    assert not same_weights(*ends)


def test_the_ratio_rule_knows_the_original(tmp_path: Path, data: Data) -> None:
    settings = TrainingSettings(weight_decay=1e-3)
    network = small()
    mine = sum(p.numel() for p in network.parameters())
    run = Trainer(
        network, data, settings, tmp_path, original_parameters=10 * mine, observer=Silent()
    )
    decays = [group["weight_decay"] for o in run.optimizers for group in o.param_groups]
    assert decays == [1e-3, pytest.approx(1e-4)]


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


def test_a_student_before_training(data: Data) -> None:
    student = small()
    with torch.no_grad():
        student[1].running_var.fill_(1e-12)
    before = copy.deepcopy(student)
    kept = accuracy_before(student, data, 50, Processes(), estimate_batch_norm=False)
    anew = accuracy_before(student, data, 50, Processes(), estimate_batch_norm=True)
    assert anew.loss < kept.loss
    assert same_weights(before, student)


def test_too_few_images(tmp_path: Path) -> None:
    one = Decoded(torch.zeros(1, 3, 8, 8), torch.zeros(1).long())
    data = data_of(one, one, ["a"], (3, 8, 8))
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    tested = evaluate(network, data)
    assert (tested.accuracy, tested.top5_accuracy, tested.images) == (100, 100, 1)
    run = Trainer(network, data, TrainingSettings(epochs=1), tmp_path, observer=Silent())
    run.run()  # one image is a batch, where no batch norm forbids it


def test_a_last_step_has_images_for_every_batch(tmp_path: Path) -> None:
    data = load_data("digits", (3, 8, 8), train_images=19)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    observer = Silent()
    settings = TrainingSettings(epochs=1, batch_size=8, accumulate=2)
    Trainer(network, data, settings, tmp_path, observer=observer).run()
    assert len(observer.steps) == 1  # three images are too few for two batches
    evaluated = load_data("digits", (3, 8, 8), train_images=17)
    accuracy_before(network, evaluated, 8, Processes(), estimate_batch_norm=True)


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


def test_layers_of_other_dimensions(tmp_path: Path, data: Data) -> None:
    """channels_last is for 4-dimensional weights."""
    network = nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10)
    )
    Trainer(network, data, TrainingSettings(epochs=1), tmp_path, observer=Silent()).run()


def test_what_cannot_be_trained(tmp_path: Path, data: Data) -> None:
    frozen = small().requires_grad_(False)
    with pytest.raises(TrainingError, match="parameters are frozen"):
        Trainer(frozen, data, TrainingSettings(), tmp_path, observer=Silent())
    pixels = torch.zeros(4, 3, 8, 8)
    whole = Decoded(pixels, torch.arange(4))
    strange = data_of(whole, whole, ["a", "b"], (3, 8, 8))
    with pytest.raises(DataError, match="training images with labels from 0 to 3, but 2 classes"):
        Trainer(small(), strange, TrainingSettings(), tmp_path, observer=Silent())
    none = data_of(whole, Decoded(pixels[:0], torch.arange(0)), list("abcd"), (3, 8, 8))
    with pytest.raises(DataError, match="has no test images"):
        Trainer(small(), none, TrainingSettings(), tmp_path, observer=Silent())
    one = data_of(Decoded(pixels[:1], torch.zeros(1).long()), whole, list("abcd"), (3, 8, 8))
    accumulated = Trainer(small(), one, TrainingSettings(accumulate=2), tmp_path, observer=Silent())
    with pytest.raises(TrainingError, match=r"too few training images \(1\)"):
        accumulated.run()


def test_top_one_and_top_five() -> None:
    four = Decoded(torch.zeros(4, 3, 8, 8), torch.tensor([0, 4, 5, 9]))

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.arange(10.0, 0, -1).expand(len(x), -1)

    told: list[tuple[int, int]] = []
    tested = evaluate(
        Constant(),
        data_of(four, four, list("abcdefghij"), (3, 8, 8)),
        batch_size=3,
        on_batch=lambda *counts: told.append(counts),
    )
    assert (tested.accuracy, tested.top5_accuracy, tested.images) == (25, 50, 4)
    assert told == [(3, 4), (4, 4)]
