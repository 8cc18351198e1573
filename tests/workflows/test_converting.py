"""Converting through Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import Invoke
from listening import Listening

from seclcompress import artefact, kernel, networks
from seclcompress.errors import ArtefactError, PlanError, UsageError, WeightsError
from seclcompress.plan import read_plan
from seclcompress.settings import PlanOptions
from seclcompress.workflows import convert

SHALLOW = PlanOptions(config={"depth": 2})


def test_what_was_decided_and_written_comes_back(tmp_path: Path) -> None:
    told = Listening()
    out, plan = tmp_path / "out", tmp_path / "plan.json"
    done = convert("wrn10_1", out, options=SHALLOW, write_plan=plan, observer=told)
    assert done.output_dir == out
    saved = artefact.read_config(out)
    assert saved.plan == done.plan == read_plan(plan)
    network = artefact.load(out)
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == done.count.columns["auto"].parameters
    assert told.decisions == [("wrn10_1", done.plan, done.count)]
    assert told.messages == [
        f"Wrote {out}. Its new layers are untrained: distill it next.",
        f"Wrote the plan to {plan}.",
    ]
    assert (done.untrained, done.fits) == ((), {})


def test_the_command_line_writes_the_same(invoke: Invoke) -> None:
    result = invoke("convert", "wrn10_1", "--depth", 2, "--seed", 3, "-o", "typed")
    convert("wrn10_1", "called", options=SHALLOW, seed=3)
    assert "Wrote typed. Its new layers are untrained: distill it next." in result.stderr
    for name in ("config.json", "model.safetensors"):
        assert Path("called", name).read_bytes() == Path("typed", name).read_bytes()


def test_to_plan_only(tmp_path: Path) -> None:
    told = Listening()
    done = convert("wrn10_1", options=SHALLOW, observer=told)
    assert done.output_dir is None
    assert len(done.plan.rewritten) == 8
    assert len(told.decisions) == 1
    assert told.messages == []
    convert("wrn10_1", options=SHALLOW, write_plan=tmp_path / "plan.json")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_nothing_is_written_before_it_is_told_what_was_decided(tmp_path: Path) -> None:
    class Unwilling(Listening):
        def decided(self, label: str, plan: Any, counted: Any) -> None:
            assert list(tmp_path.iterdir()) == []
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert("wrn10_1", tmp_path / "out", options=SHALLOW, observer=Unwilling())
    assert list(tmp_path.iterdir()) == []


def test_fitted_to_the_original(tmp_path: Path) -> None:
    told = Listening()
    options = PlanOptions(config={"depth": 2}, only=("group1",))
    done = convert("wrn10_1", tmp_path / "out", options=options, start="original", observer=told)
    assert set(done.fits) == {layer.name for layer in done.plan.rewritten}
    assert all(fit is not None and 0 < fit.left < 1 for fit in done.fits.values())
    number = len(done.fits)
    assert told.work == [
        f"Fitting: {number}",
        *(f"Fitting: {one} of {number}" for one in range(1, number + 1)),
    ]
    name, fit = next(iter(done.fits.items()))
    assert fit is not None
    words = f"{name}: {100 * (1 - fit.left**2):.1f} % of the pointwise weights' energy taken over"
    assert told.messages[0] == words


def test_what_is_untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    from seclcompress.networks import torchvision_zoo

    def fetch(name: str, *published: object) -> dict[str, torch.Tensor]:
        return models.get_model(name).state_dict()

    monkeypatch.setattr(torchvision_zoo, "_fetch", fetch)
    told = Listening()
    done = convert(
        "resnet18",
        tmp_path / "out",
        options=SHALLOW,
        weights="DEFAULT",
        num_classes=3,
        download=True,
        observer=told,
    )
    assert done.untrained == ("fc.weight", "fc.bias")
    assert told.messages[0] == (
        "ResNet18_Weights.IMAGENET1K_V1: fresh, for another number of classes: fc.weight, fc.bias."
    )


def test_accuracy_becomes_the_teachers(tmp_path: Path) -> None:
    config = artefact.ArtefactConfig(
        network=networks.named_spec("wrn10_1"),
        input_size=(3, 32, 32),
        classes=list("0123456789"),
        metrics={"accuracy": 91.5, "test_loss": 0.2},
    )
    artefact.save(tmp_path / "teacher", networks.build(config.network), config)
    convert(tmp_path / "teacher", tmp_path / "student", options=SHALLOW)
    written = artefact.read_config(tmp_path / "student")
    assert written.metrics == {"teacher_accuracy": 91.5}
    assert written.classes == list("0123456789")


def test_converted_twice(tmp_path: Path) -> None:
    convert("wrn10_1", tmp_path / "out", options=SHALLOW)
    with pytest.raises(UsageError, match="is converted already"):
        convert(tmp_path / "out", tmp_path / "again")


def test_what_is_in_the_way_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "plan.json").write_text("mine")
    with pytest.raises(ArtefactError, match="is there already"):
        convert("no network", tmp_path / "mine")
    with pytest.raises(ArtefactError, match=r"plan\.json is there already"):
        convert("no network", write_plan=tmp_path / "plan.json")


def test_an_earlier_folder_of_ours_is_replaced(tmp_path: Path) -> None:
    convert("wrn10_1", tmp_path / "out", options=SHALLOW)
    before = (tmp_path / "out/model.safetensors").read_bytes()
    with pytest.raises(ArtefactError, match="is there already"):
        convert("wrn10_1", tmp_path / "out", options=SHALLOW)
    convert("wrn10_1", tmp_path / "out", options=SHALLOW, seed=1, overwrite=True)
    assert (tmp_path / "out/model.safetensors").read_bytes() != before


def test_what_goes_wrong_leaves_nothing(tmp_path: Path) -> None:
    state = networks.build(networks.named_spec("wrn10_1")).state_dict()
    state["fc.bias"][3] = float("nan")
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    weights = str(tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="NaN or infinite"):
        convert("wrn10_1", tmp_path / "out", options=SHALLOW, weights=weights)
    with pytest.raises(PlanError, match="rewrites none of the 9 convolutions"):
        convert("wrn10_1", tmp_path / "out", options=PlanOptions(keep=("*",)))
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_fast_layers_without_the_kernel_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "available", lambda: False)
    told = Listening()
    convert("wrn10_1", options=SHALLOW, observer=told)
    assert told.messages == []  # no layer runs fast, so the missing kernel does not matter
    plan = convert("wrn10_1", options=SHALLOW).plan
    plan.rewritten[0].execution = "fast"
    convert("wrn10_1", plan=plan, observer=told)
    assert told.messages[0].startswith("The fused kernel is not there")


def test_a_start_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="start is 'random' or 'original', not 'origin'"):
        convert("wrn10_1", tmp_path / "out", start="origin")  # type: ignore[arg-type]


def test_a_plan_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    first = convert("wrn10_1", options=SHALLOW, write_plan=str(path))
    assert convert("wrn10_1", plan=str(path)).plan == first.plan
