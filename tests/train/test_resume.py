"""A resumed run ends with the same bytes; a run with other settings, networks or images is refused."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import (
    Silent,
    Stopping,
    digits,
    distiller,
    same_weights,
    small,
    trainer,
    write_noise,
)
from torch import nn

from seclcompress import networks
from seclcompress.checkpoint import read_checkpoint
from seclcompress.data import Data, load_data
from seclcompress.errors import TrainingError
from seclcompress.optim import make_optimizers
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import Stopped, Trainer
from seclcompress.train.average import Average
from seclcompress.train.resume import resume, started_with

WRITTEN_BY_0_1 = Path(__file__).parents[1] / "written_by_0_1"


@pytest.fixture
def data() -> Data:
    return digits()


class TestTheSameBytes:
    """The result of a run does not depend on where it was interrupted."""

    @pytest.mark.parametrize(
        "settings",
        [
            {"factor_optimizer": "same"},
            {"optimizer": "adamw"},
            {"crop": True, "flip": True},
            {"batch_size": 14, "accumulate": 3, "mixup": 0.2, "cutout": 2},
            {"amp": "fp16", "lr": 0.01},
            {"ema": 0.9},
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
        again = trainer(tmp_path / "half", data, observer)  # `checkpoint_seconds` may differ
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
        """A resumed run starts a loader within an epoch; dropout's random numbers must not change."""
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
    smaller = dataclasses.replace(data, input_size=(3, 7, 7))
    with pytest.raises(TrainingError, match=r"input_size was \[3, 8, 8\], not \[3, 7, 7\]"):
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


def test_a_run_that_0_1_began_goes_on(tmp_path: Path) -> None:
    """Settings that 0.1 did not know had their defaults then; fingerprints are those of the file."""
    folder = tmp_path / "run.partial"
    shutil.copytree(WRITTEN_BY_0_1 / "interrupted.partial", folder)
    settings = TrainingSettings(epochs=8, train_images=200, batch_size=50, lr=0.05, crop=False)
    settings = settings.resolved(crop=False, flip=False)
    network = networks.build(networks.named_spec("wrn10_0.25", 10))
    optimizers = make_optimizers(network, settings, 0.0)
    theirs = read_checkpoint(folder, network, optimizers).settings
    fingerprints = {k: v for k, v in theirs.items() if k not in TrainingSettings.model_fields}
    assert fingerprints
    mine = started_with(settings, fingerprints)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    average = Average(network, 0.0)
    progress = resume(folder, network, optimizers, scaler, average, mine)
    assert len(progress.history) == 5
    other = started_with(settings.model_copy(update={"group_lr": {"gains": 2.0}}), fingerprints)
    with pytest.raises(TrainingError, match=r"group_lr was \{\}, not \{'gains': 2.0\}"):
        resume(folder, network, optimizers, scaler, average, other)


def test_a_checkpoint_of_a_folder_that_knows_no_file_names(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.1 kept no fingerprint of the names of files; its runs go on."""
    named = dataclasses.replace(data, files="abc")
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, named, Silent(6)).run()

    def without(*arguments: Any) -> Any:
        progress = read_checkpoint(*arguments)
        assert progress.settings.pop("files") == "abc"
        return progress

    with monkeypatch.context() as patched:
        patched.setattr("seclcompress.train.resume.read_checkpoint", without)
        trainer(tmp_path, named).resume()
    trainer(tmp_path, named).resume()
    with pytest.raises(TrainingError, match="files was 'abc', not 'abd'"):
        trainer(tmp_path, dataclasses.replace(data, files="abd")).resume()
