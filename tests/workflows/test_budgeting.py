"""Plans for a budget: they hold it, `convert` takes them, and what cannot be is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from listening import Listening

from seclcompress import artefact, workflows
from seclcompress.budget import Budgeted, NotReachableError, remembered
from seclcompress.errors import PlanError, UsageError
from seclcompress.resolve import locate
from seclcompress.settings import Assignment, PlanOptions
from seclcompress.settings.budget import Budget

SMALL = {"input_size": (3, 16, 16), "num_classes": 10}


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize(
    ("network", "budget", "options", "families"),
    [
        ("wrn10_2", "parameters=20k", PlanOptions(), ("acdc", "separable")),
        ("wrn10_2", "bytes=100kB,mult-adds=2M", PlanOptions(stem=True), ("monarch", "hashed")),
        (
            "shufflenet_v2_x0_5",
            "parameters=300k",
            PlanOptions(linear=True, head=True),
            ("low_rank",),
        ),
        ("resnext50_32x4d", "parameters=4M", PlanOptions(keep=("layer1",)), ("acdc", "shuffle")),
    ],
)
def test_the_converted_network_has_what_was_promised(
    network: str, budget: str, options: PlanOptions, families: tuple[str, ...], tmp_path: Path
) -> None:
    found = workflows.plan(
        network, budget, tmp_path / "plan.json", families=families, options=options, **SMALL
    )
    totals = found.count.columns["auto"]
    for quantity, most in found.budget.limits.items():
        assert getattr(totals, quantity) <= most
        there = found.reachable[quantity]
        assert there.least <= getattr(totals, quantity) <= there.most
    assert set(found.plan.families) <= set(families)
    assert not any(layer.name.startswith("layer1") for layer in found.plan.rewritten)
    workflows.convert(network, tmp_path / "out", plan=tmp_path / "plan.json", **SMALL)
    made = artefact.load(tmp_path / "out")
    assert sum(p.numel() for p in made.parameters()) == totals.parameters
    counted = workflows.count(network, plan=tmp_path / "plan.json", **SMALL)
    assert counted.count.columns == found.count.columns


def test_a_larger_budget_never_loses_more() -> None:
    losses = [
        workflows.plan("wrn10_2", f"parameters={thousands}k", **SMALL).loss
        for thousands in (8, 12, 20, 40, 80, 200)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 2 * losses[-1]


def test_with_weights_a_layer_that_loses_nothing_is_taken(tmp_path: Path) -> None:
    """One layer of a trained network is separable; shapes alone cannot know that."""
    network = artefact.load(_trained(tmp_path))
    torch.manual_seed(0)
    kernel = torch.randn(64, 64)[:, :, None, None] * torch.randn(64, 3, 3)
    network.get_submodule("group3.0.conv2").weight.data = kernel
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    options = PlanOptions(only=("group3",))
    given = {
        "families": ("separable",),
        "options": options,
        "weights": str(tmp_path / "weights.pth"),
    }
    network_size = sum(p.numel() for p in network.parameters())
    found = workflows.plan("wrn10_1", Budget(parameters=network_size - 1), **given, **SMALL)
    assert found.source == "weights"
    assert [layer.name for layer in found.plan.rewritten] == ["group3.0.conv2"]
    assert found.loss == pytest.approx(0, abs=1e-9)
    assert "for the budget, missing 0.0 % of its weights' energy" in found.plan.rewritten[0].reason


def _trained(tmp_path: Path) -> Path:
    from seclcompress.settings import TrainingSettings

    settings = TrainingSettings(epochs=1, train_images=40, batch_size=20)
    folder = tmp_path / "trained"
    workflows.train("wrn10_1", data="digits", output_dir=folder, settings=settings, **SMALL)
    return folder


def test_what_cannot_be_reached_is_said_before_anything_is_fitted(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "empty.pth")  # does not fit: loading it would be another error
    nearest = r"The nearest has 7,\d\d\d of 3,000 parameters, 4,\d\d\d too many"
    with pytest.raises(NotReachableError, match=nearest):
        workflows.plan("wrn10_2", "parameters=3k", weights=str(tmp_path / "empty.pth"), **SMALL)


@pytest.mark.slow  # it fits two dozen stacks
def test_a_second_budget_for_the_same_weights_fits_nothing_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "_LONG", 0.0)  # else it depends on the machine what is kept
    told = Listening()
    options = PlanOptions(only=("group3.0.conv1",))

    def planned(budget: str, seed: int) -> Budgeted:
        torch.save(locate("wrn10_1", **SMALL).load(seed=seed)[0].state_dict(), tmp_path / "w.pth")
        given = {"weights": str(tmp_path / "w.pth"), "families": ("acdc",), "options": options}
        return workflows.plan("wrn10_1", budget, observer=told, **given, **SMALL)

    first, again = planned("parameters=70k", 0), planned("parameters=69k", 0)
    assert (first.loss, first.plan) == (again.loss, again.plan)
    other = planned("parameters=70k", 1)
    assert other.loss != first.loss
    fits = [words.partition(" to")[0] for words in told.messages if words.startswith("Fitted ")]
    assert fits == [f"Fitted {n} of 8 candidates" for n in (8, 0, 8)]
    progress = ["Fitting candidates: 8", *(f"Fitting candidates: {n} of 8" for n in range(1, 9))]
    assert told.work == progress * 3
    damaged = remembered.default_fits()
    damaged.write_text('{"a": "b", "c": 7}')
    assert planned("parameters=70k", 1).loss == other.loss


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"budget": Budget()}, "The budget is empty"),
        ({"families": ()}, "name at least one family"),
        ({"families": ("acdd",)}, "acdd"),
        ({"options": PlanOptions(substitution="acdc")}, "chooses what substitution would"),
        (
            {"options": PlanOptions(assign=(Assignment(pattern="a", substitution="acdc"),))},
            "chooses what assign would",
        ),
    ],
)
def test_what_makes_no_sense(given: dict[str, object], words: str) -> None:
    asked = {"budget": "parameters=20k", **given}
    with pytest.raises(UsageError, match=words):
        workflows.plan("wrn10_2", **asked, **SMALL)  # type: ignore[arg-type]


def test_a_network_that_is_small_already() -> None:
    with pytest.raises(PlanError, match="meets the budget as it is"):
        workflows.plan("wrn10_1", "parameters=10M", **SMALL)
