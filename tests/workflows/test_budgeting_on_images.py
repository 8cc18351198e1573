"""Plans whose losses are measured on images: what they know, what is kept, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from listening import Listening
from torch import Tensor

from seclcompress import workflows
from seclcompress.budget import Budgeted, NotReachableError, measured
from seclcompress.errors import NetworkError, PlanError, UsageError
from seclcompress.resolve import locate
from seclcompress.settings import PlanOptions, SensitivityOptions, TrainingSettings

SIZE = {"input_size": (3, 16, 16), "num_classes": 10}
ONE_LAYER = PlanOptions(only=("group3.0.conv1",))
FEW = SensitivityOptions(images=20, sensitivity="output")
FISHER = SensitivityOptions(images=20, sensitivity="fisher")
RECOVERED = SensitivityOptions(images=20)


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def weights(tmp_path: Path) -> str:
    return saved(tmp_path / "weights.pth", locate("wrn10_1", **SIZE).load()[0].state_dict())


def saved(path: Path, state: dict[str, Any]) -> str:
    torch.save(state, path)
    return str(path)


def planned(weights: str, budget: str = "parameters=70k", **given: Any) -> Budgeted:
    asked: dict[str, Any] = {
        "families": ("low_rank",),
        "options": ONE_LAYER,
        "data": "digits",
        "sensitivity": FEW,
        "weights": weights,
        **SIZE,
    }
    return workflows.plan("wrn10_1", budget, **{**asked, **given})


def measurements(told: Listening) -> list[str]:
    """How many candidates each plan measured, in words."""
    return [words.partition(" candidates")[0] for words in told.messages if "Measured " in words]


@pytest.mark.parametrize(
    ("sensitivity", "source", "words"),
    [
        (FEW, "output", r"missing \d+\.\d % of its outputs' energy on 20 images"),
        (
            RECOVERED,
            "recovered",
            r"missing \d+\.\d % of its outputs' variance once recovered on 20 images",
        ),
        (
            FISHER,
            "fisher",
            r"missing \d+\.\d % of the mean layer's Fisher information on 20 images",
        ),
    ],
)
def test_what_is_measured_is_said(
    weights: str, sensitivity: SensitivityOptions, source: str, words: str
) -> None:
    found = planned(weights, sensitivity=sensitivity)
    assert (found.source, found.data, found.images) == (source, "digits", 20)
    (layer,) = found.plan.rewritten
    assert re.search(words, layer.reason)
    assert 0 < found.loss < 1


def test_outputs_know_what_a_layer_never_sees(tmp_path: Path) -> None:
    """Half of one layer's inputs are always zero, and for the rest it is separable."""
    network, _ = locate("wrn10_1", **SIZE).load()
    state = network.state_dict()
    torch.manual_seed(0)
    for name in ("group3.0.conv2", "group2.0.conv2"):
        state[f"{name}.weight"] = torch.randn(state[f"{name}.weight"].shape)
    kernel = torch.randn(64, 32)[:, :, None, None] * torch.randn(32, 3, 3)
    state["group3.0.conv2.weight"][:, :32] = kernel
    state["group3.0.bn2.weight"][32:] = 0
    state["group3.0.bn2.bias"][32:] = 0
    options = PlanOptions(only=("group3.0.conv2", "group2.0.conv2"))
    file = saved(tmp_path / "w.pth", state)
    given: dict[str, Any] = {"families": ("separable",), "options": options}
    found = planned(file, "parameters=76k", **given)
    assert [layer.name for layer in found.plan.rewritten] == ["group3.0.conv2"]
    assert found.loss == pytest.approx(0, abs=1e-6)
    by_energy = planned(file, "parameters=60k", **given, data=None, sensitivity=None)
    assert by_energy.loss > 0.2


def test_fisher_knows_what_does_not_reach_the_loss(tmp_path: Path) -> None:
    """The branch of one block is multiplied by zero behind its last layer."""
    state = locate("wrn10_1", **SIZE).load()[0].state_dict()
    state["group3.0.conv2.weight"].mul_(0)
    options = PlanOptions(only=("group3.0.conv1", "group2.0.conv2"))
    found = planned(
        saved(tmp_path / "w.pth", state), "parameters=65k", options=options, sensitivity=FISHER
    )
    assert [layer.name for layer in found.plan.rewritten] == ["group3.0.conv1"]
    assert found.loss == 0
    both = planned(
        saved(tmp_path / "w.pth", state), "parameters=55k", options=options, sensitivity=FISHER
    )
    assert both.loss > 0.01
    alone = PlanOptions(only=("group3.0.conv1",))
    with pytest.raises(PlanError, match="no layer that may change matters on these images"):
        planned(saved(tmp_path / "w.pth", state), options=alone, sensitivity=FISHER)


@pytest.mark.parametrize("sensitivity", [FEW, RECOVERED, FISHER])
def test_another_budget_measures_nothing_anew(
    weights: str, tmp_path: Path, sensitivity: SensitivityOptions
) -> None:
    told = Listening()
    first = planned(weights, sensitivity=sensitivity, observer=told)
    again = planned(weights, sensitivity=sensitivity, observer=told)
    assert (first.loss, first.plan) == (again.loss, again.plan)
    number = first.candidates - len(first.plan.layers)
    everything, nothing = f"Measured {number} of {number}", f"Measured 0 of {number}"
    assert measurements(told) == [everything, nothing]
    assert sum(words == "Showing images: 20" for words in told.work) == 1
    assert "Showing images: 20 of 20" in told.work
    assert f"Measuring candidates: {number} of {number}" in told.work
    planned(weights, "parameters=72k", sensitivity=sensitivity, observer=told)
    assert measurements(told)[-1] == nothing
    # What the results depend on makes others.
    other = saved(tmp_path / "other.pth", locate("wrn10_1", **SIZE).load(seed=1)[0].state_dict())
    assert planned(other, sensitivity=sensitivity, observer=told).loss != first.loss
    more = sensitivity.model_copy(update={"images": 21})
    assert planned(weights, sensitivity=more, observer=told).loss != first.loss
    seed = TrainingSettings(seed=1)
    planned(weights, sensitivity=sensitivity, settings=seed, observer=told)
    assert measurements(told)[-3:] == [everything] * 3
    planned(
        weights, sensitivity=sensitivity, settings=TrainingSettings(batch_size=7), observer=told
    )
    assert measurements(told)[-1] == nothing


def test_an_interrupted_one_goes_on(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told, whole = Listening(), measured.distance
    fits = 0

    def stops(*given: Any) -> Tensor | None:
        nonlocal fits
        fits += 1
        if fits == 4:
            raise KeyboardInterrupt
        return whole(*given)

    monkeypatch.setattr(measured, "distance", stops)
    with pytest.raises(KeyboardInterrupt):
        planned(weights)
    found = planned(weights, observer=told)
    number = found.candidates - len(found.plan.layers)
    assert measurements(told) == [f"Measured {number - 3} of {number}"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path(weights).parent / "another"))
    assert planned(weights).plan == found.plan


@pytest.mark.parametrize("sensitivity", [FEW, RECOVERED, FISHER])
def test_a_network_in_parts_loses_the_same(
    weights: str, monkeypatch: pytest.MonkeyPatch, sensitivity: SensitivityOptions
) -> None:
    told = Listening()
    options = PlanOptions(only=("group3",))
    whole = planned(weights, options=options, sensitivity=sensitivity, observer=told)
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path(weights).parent / "another"))
    monkeypatch.setattr(measured, "HELD", 1)
    parts = planned(weights, options=options, sensitivity=sensitivity, observer=told)
    # Positions are drawn, but these images have no more than are taken.
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    assert "Showing images (3 of 3 times): 20" in told.work


def test_code_that_changed_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A factory's modules and weights are the same, and its forward pass is not."""
    code = (
        "import torch\n"
        "from torch import nn\n"
        "FACTOR = 1.0\n"
        "class Made(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.first = nn.Conv2d(3, 16, 3, padding=1)\n"
        "        self.layer = nn.Conv2d(16, 16, 3, padding=1)\n"
        "        self.last = nn.Linear(16, 10)\n"
        "    def forward(self, x):\n"
        "        x = torch.relu(self.first(x) - FACTOR)\n"
        "        return self.last(self.layer(x).relu().mean((2, 3)))\n"
    )
    (tmp_path / "made_here.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    import made_here  # type: ignore[import-not-found]

    file = saved(tmp_path / "w.pth", made_here.Made().state_dict())
    told = Listening()

    def losses() -> float:
        found = workflows.plan(
            "made_here:Made",
            "parameters=2k",
            families=("low_rank",),
            data="digits",
            sensitivity=FEW,
            weights=file,
            input_size=(3, 8, 8),
            observer=told,
        )
        return found.loss

    first = losses()
    assert losses() == first
    made_here.FACTOR = 0.5
    assert losses() != first
    counts = [int(words.split()[1]) for words in measurements(told)]
    assert counts[0] == counts[2] > counts[1] == 0


def test_what_is_damaged_or_not_finite(weights: str, tmp_path: Path) -> None:
    found = planned(weights)
    measured.default_measurements().write_text('{"a": -1, "b": "c"}')
    assert planned(weights).plan == found.plan
    state = torch.load(weights)
    state["group3.0.bn1.running_var"].fill_(-1)
    with pytest.raises(
        NetworkError, match=r"What group3\.0\.conv1 does on these images is not finite"
    ):
        planned(saved(tmp_path / "nan.pth", state))


def test_the_curve_too(weights: str) -> None:
    curve = workflows.pareto(
        "wrn10_1",
        families=("low_rank",),
        options=ONE_LAYER,
        data="digits",
        sensitivity=FEW,
        weights=weights,
        **SIZE,
    )
    assert (curve.source, curve.data, curve.images) == ("output", "digits", 20)
    assert 0 == curve.points[-1].loss < curve.points[0].loss < 1


def test_what_cannot_be_reached_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "empty.pth")  # does not fit: loading it would be another error
    told = Listening()
    with pytest.raises(NotReachableError):
        planned(str(tmp_path / "empty.pth"), "parameters=3k", observer=told)
    assert any("can have" in words for words in told.messages)
    assert not any("Showing" in words for words in told.work)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"data": None, "sensitivity": FISHER}, "fisher is measured on images: add --data"),
        ({"data": None, "sensitivity": FEW}, "output is measured on images: add --data"),
        ({"data": None, "sensitivity": RECOVERED}, "--images does nothing without --data"),
        ({"sensitivity": SensitivityOptions(sensitivity="energy")}, "looks at the weights alone"),
        ({"weights": None}, "no trained weights of wrn10_1 are given: add --weights"),
        (
            {
                "weights": None,
                "data": None,
                "sensitivity": SensitivityOptions(sensitivity="energy"),
            },
            "--sensitivity energy is about what trained layers do",
        ),
    ],
)
def test_what_makes_no_sense(weights: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        planned(**{"weights": weights, **given})


def test_fewer_images_than_asked_for_are_all_of_them(weights: str) -> None:
    told = Listening()
    settings = TrainingSettings(train_images=30)
    many = SensitivityOptions(images=100)
    found = planned(weights, sensitivity=many, settings=settings, observer=told)
    assert found.images == 30
    assert any("fewer than --images 100: all of them" in words for words in told.messages)
