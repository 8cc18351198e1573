from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset

from seclcompress import substitutions
from seclcompress.data import Data, load_data
from seclcompress.errors import ArtefactError, TrainingError
from seclcompress.train import Settings, Trainer, evaluate


class Silent:
    def __init__(self, stop_after: int | None = None) -> None:
        self.steps: list[float] = []
        self.started: tuple[int, int, int] | None = None
        self.stop_after = stop_after

    def start(self, epochs: int, steps: int, finished: int) -> None:
        self.started = (epochs, steps, finished)

    def step(self, epoch: int, images: int, loss: float) -> None:
        self.steps.append(loss)
        if len(self.steps) == self.stop_after:
            raise KeyboardInterrupt

    def epoch(self, record: dict[str, Any]) -> None:
        pass


def small(structured: bool = True) -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3, stride=2)
    acdc = substitutions.get("acdc")
    first = acdc.build(conv, acdc.config({"depth": 2})) if structured else conv
    return nn.Sequential(
        first, nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.LazyLinear(10)
    )


@pytest.fixture
def data() -> Data:
    whole = load_data("digits", (3, 8, 8))
    return Data("digits", Subset(whole.train, range(200)), whole.test, whole.classes, (3, 8, 8))


def trainer(folder: Path, data: Data, observer: Silent | None = None, **settings: Any) -> Trainer:
    network = small()
    network(torch.zeros(2, 3, 8, 8))
    chosen = Settings(**{"epochs": 3, "batch_size": 50, "lr": 0.05, **settings})
    return Trainer(network, data, chosen, folder, observer=observer or Silent())


def test_it_learns_and_keeps_a_record(tmp_path: Path, data: Data) -> None:
    observer = Silent()
    run = trainer(tmp_path, data, observer, epochs=8)
    history = run.run()
    assert observer.started == (8, 4, 0)
    assert len(observer.steps) == 32
    assert history[-1]["accuracy"] > 60
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == history
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert history[-1]["lr"] < history[0]["lr"] < 0.05
    tested = evaluate(run.network, data)
    assert tested.accuracy == history[-1]["accuracy"]
    assert tested.loss == pytest.approx(history[-1]["test_loss"], rel=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("stop_after", [5, 8])
def test_interrupted_and_resumed_it_ends_with_the_same_bytes(
    tmp_path: Path, data: Data, optimizer: str, stop_after: int
) -> None:
    whole = trainer(tmp_path / "whole", data, optimizer=optimizer)
    expected = whole.run()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "half", data, Silent(stop_after), optimizer=optimizer).run()
    torch.manual_seed(12345)
    observer = Silent()
    again = trainer(tmp_path / "half", data, observer, optimizer=optimizer)
    again.resume()
    found = again.run()
    assert observer.started == (3, 4, (stop_after - 1) // 4)
    for one, two in zip(expected, found, strict=True):
        assert {**one, "seconds": 0} == {**two, "seconds": 0}
    for (name, one), two in zip(
        whole.network.state_dict().items(), again.network.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two), name
    assert (tmp_path / "whole/best.safetensors").read_bytes() == (
        tmp_path / "half/best.safetensors"
    ).read_bytes()


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
    other = small()
    other(torch.zeros(2, 3, 8, 8))
    with torch.no_grad():
        other[0].pointwise.a.mul_(2)
    settings = Settings(epochs=1, batch_size=50, lr=0.05)
    run = Trainer(other, data, settings, tmp_path, observer=Silent())
    with pytest.raises(TrainingError, match=r"network was '\w+', not '\w+'"):
        run.resume()
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(TrainingError, match="damaged"):
        trainer(tmp_path, data, epochs=1).resume()


def test_a_loss_that_is_not_finite_stops_it(tmp_path: Path, data: Data) -> None:
    run = trainer(tmp_path, data, epochs=2)
    with torch.no_grad():
        run.network[-1].weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"The loss is nan at step 1 of epoch 1.*--lr"):
        run.run()


def test_a_last_step_that_diverges_is_found(tmp_path: Path, data: Data) -> None:
    with pytest.raises(
        TrainingError, match=r"The loss on the test images is (nan|inf) after epoch 1"
    ):
        trainer(tmp_path, data, epochs=1, batch_size=200, lr=1e30).run()
    assert not (tmp_path / "best.safetensors").exists()


def test_a_full_disk_is_an_error_of_ours(tmp_path: Path, data: Data, monkeypatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ArtefactError, match="No space left"):
        trainer(tmp_path, data, epochs=1).run()


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
    Trainer(network, data, Settings(epochs=1), tmp_path, observer=Silent()).run()
    assert not torch.equal(before, network.side.weight)


@pytest.mark.parametrize(
    ("settings", "uses_taps"),
    [({"beta": 100.0}, True), ({"beta": 0.0, "alpha": 0.5}, False), ({"beta": 0.0}, False)],
)
def test_distillation_runs_the_teacher_and_leaves_it_alone(
    tmp_path: Path, data: Data, settings: dict[str, float], uses_taps: bool
) -> None:
    teacher, student = small(structured=False), small()
    for network in (teacher, student):
        network(torch.zeros(2, 3, 8, 8))
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    modes = []
    teacher.register_forward_hook(lambda m, a, o: modes.append(m.training))
    taps = ("2",) if uses_taps else ()
    chosen = Settings(epochs=1, batch_size=50, taps=taps, **settings)
    Trainer(student, data, chosen, tmp_path, teacher=teacher, observer=Silent()).run()
    assert modes == [False] * 4
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def test_attention_changes_what_is_learnt(tmp_path: Path, data: Data) -> None:
    found = []
    for beta in (0.0, 1000.0):
        teacher, student = small(structured=False), small()
        for network in (teacher, student):
            network(torch.zeros(2, 3, 8, 8))
        chosen = Settings(epochs=1, batch_size=50, beta=beta, taps=("2",))
        folder = tmp_path / str(beta)
        Trainer(student, data, chosen, folder, teacher=teacher, observer=Silent()).run()
        found.append(student[0].pointwise.a.detach().clone())
    assert not torch.equal(*found)


def test_bfloat16(tmp_path: Path, data: Data) -> None:
    history = trainer(tmp_path, data, epochs=2, amp=True).run()
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_a_network_in_double_precision(tmp_path: Path, data: Data) -> None:
    network = WithHeads().double()
    history = Trainer(network, data, Settings(epochs=1), tmp_path, observer=Silent()).run()
    assert network.main.weight.dtype == torch.float64
    assert history[-1]["accuracy"] > 0


@pytest.mark.slow
def test_resumed_with_workers_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(8):
                noise = torch.randint(0, 255, (32, 32, 3), dtype=torch.uint8).numpy()
                Image.fromarray(noise).save(tmp_path / split / name / f"{number}.png")
    data = load_data(f"imagefolder:{tmp_path}", (3, 32, 32))
    ends = []
    for stop_after in (None, 5):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 900, 2))
        start = {k: v.clone() for k, v in network.state_dict().items()}
        settings = Settings(epochs=3, batch_size=4, lr=0.01, workers=2)
        folder = tmp_path / str(stop_after)
        run = Trainer(network, data, settings, folder, observer=Silent(stop_after))
        if stop_after is None:
            run.run()
        else:
            with pytest.raises(KeyboardInterrupt):
                run.run()
            network.load_state_dict(start)
            run = Trainer(network, data, settings, folder, observer=Silent())
            run.resume()
            run.run()
        ends.append(network.state_dict())
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_too_few_images() -> None:
    one = TensorDataset(torch.zeros(1, 3, 8, 8), torch.zeros(1).long())
    data = Data("few", one, one, ["a"], (3, 8, 8))
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    tested = evaluate(network, data)
    assert (tested.accuracy, tested.top5_accuracy, tested.images) == (100, 100, 1)


def test_top_one_and_top_five() -> None:
    x, y = torch.zeros(4, 3, 8, 8), torch.tensor([0, 4, 5, 9])
    whole = TensorDataset(x, y)

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.arange(10.0, 0, -1).expand(len(x), -1)

    tested = evaluate(Constant(), Data("four", whole, whole, list("abcdefghij"), (3, 8, 8)))
    assert (tested.accuracy, tested.top5_accuracy, tested.images) == (25, 50, 4)
