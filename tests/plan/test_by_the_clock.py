"""Plans by the clock of a runtime: what is slower there is said or kept. All times are given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from seclcompress.errors import PlanError
from seclcompress.plan import Choice, LayerPlan, Plan, PlanOptions, fit_plan, make_plan
from seclcompress.settings.planning import check_options
from seclcompress.trace import Trace, trace_network

SIZE = (3, 8, 8)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(32, 64, 1)]
    return nn.Sequential(*convs, nn.Conv2d(64, 8, 1)).eval()


@pytest.fixture(scope="module")
def traced(network: nn.Module) -> Trace:
    return trace_network(network, SIZE)


def plan_of(network: nn.Module, traced: Trace, seconds: dict[str, dict[str, float]], **how) -> Plan:
    """A plan by these seconds by layer."""
    options = PlanOptions(
        config={"depth": 2}, cost_model="measured", runtime="onnxruntime", linear=True, **how
    )
    check_options(options)

    def choose(site, family, config) -> Choice:
        return Choice("dense", seconds[site.name], 0.0001, "onnxruntime")

    return make_plan(network, traced, options, choose, may_be_empty=True)


SECONDS = {
    "1": {"original": 0.002, "dense": 0.00205},
    "2": {"original": 0.0002, "dense": 0.00031},
}
SLOWER = "slower in onnxruntime: dense takes 0.31 ms, the original 0.20"


def entries(plan: Plan) -> dict[str, LayerPlan]:
    return {layer.name: layer for layer in plan.layers}


def test_what_is_slower_is_said(network: nn.Module, traced: Trace) -> None:
    plan = plan_of(network, traced, SECONDS)
    assert (plan.runtime, plan.objective) == ("onnxruntime", "parameters")
    found = entries(plan)
    assert [layer.name for layer in plan.rewritten] == ["1", "2"]
    assert found["2"].reason.endswith(f" of its parameters; {SLOWER}")
    assert "slower" not in found["1"].reason, "a difference within the noise"
    assert [layer.slower for layer in plan.layers] == [False, False, True, False]


def test_with_time_as_objective_it_is_kept(network: nn.Module, traced: Trace) -> None:
    plan = plan_of(network, traced, SECONDS, objective="time")
    found = entries(plan)
    assert [layer.name for layer in plan.rewritten] == ["1"]
    assert (found["2"].action, found["2"].reason) == ("keep", SLOWER)
    assert found["2"].seconds == SECONDS["2"]
    assert found["2"].cost == found["2"].original
    # The separable network keeps it as well, so that it is compared at equal layers.
    assert found["2"].on_demand
    assert found["2"].separable == found["2"].original
    assert [layer.before_and_after for layer in plan.timed] == [(0.002, 0.00205), (0.0002, 0.0002)]


def test_a_plan_that_rewrites_nothing_says_why(network: nn.Module, traced: Trace) -> None:
    slow = {name: {"original": 0.001, "dense": 0.002} for name in SECONDS}
    options = PlanOptions(config={"depth": 2}, cost_model="measured", objective="time")
    with pytest.raises(PlanError, match="1 and 1 more: slower in torch: dense takes 2.00 ms"):
        make_plan(network, traced, options, lambda site, *_: Choice("dense", slow[site.name]))


def test_every_family_is_timed_beside_the_original(network: nn.Module, traced: Trace) -> None:
    options = PlanOptions(substitution="separable", cost_model="measured", objective="time")
    times = {"original": 0.001, "dense": 0.002}
    plan = make_plan(network, traced, options, lambda *_: Choice("dense", times), may_be_empty=True)
    assert plan.rewritten == []


@pytest.mark.parametrize("objective", ["parameters", "time"])
def test_there_and_back(network: nn.Module, traced: Trace, objective: str) -> None:
    plan = plan_of(network, traced, SECONDS, objective=objective)
    read = Plan.model_validate_json(plan.to_json())
    assert read == plan
    assert fit_plan(read, network, traced, "plan.json") == plan


def test_a_plan_of_earlier_versions_has_no_runtime(network: nn.Module, traced: Trace) -> None:
    content = make_plan(network, traced, PlanOptions(config={"depth": 2})).model_dump(mode="json")
    del content["runtime"], content["objective"]
    for layer in content["layers"]:
        del layer["noise"]
    plan = Plan.model_validate(content)
    assert (plan.runtime, plan.objective, plan.timed) == (None, "parameters", [])
    assert fit_plan(plan, network, traced, "plan.json").rewritten


def test_an_edited_layer_has_no_seconds(network: nn.Module, traced: Trace) -> None:
    """They were those of another replacement."""
    plan = plan_of(network, traced, SECONDS)
    edited = entries(plan)["2"].model_copy(update={"config": {"depth": 3}})
    layers = [edited if layer.name == "2" else layer for layer in plan.layers]
    fitted = fit_plan(plan.model_copy(update={"layers": layers}), network, traced, "plan.json")
    found = entries(fitted)
    assert (found["2"].seconds, found["2"].slower) == (None, False)
    assert "slower" not in found["2"].reason
    assert found["1"].seconds == SECONDS["1"]


def test_a_kept_layer_that_is_edited_to_be_rewritten(network: nn.Module, traced: Trace) -> None:
    plan = plan_of(network, traced, SECONDS, objective="time")
    wanted = {"action": "rewrite", "substitution": "acdc", "config": {"depth": 2}}
    edited = entries(plan)["2"].model_copy(update=wanted)
    layers = [edited if layer.name == "2" else layer for layer in plan.layers]
    fitted = fit_plan(plan.model_copy(update={"layers": layers}), network, traced, "plan.json")
    assert [layer.name for layer in fitted.rewritten] == ["1", "2"]
    assert entries(fitted)["2"].seconds is None


def test_an_execution_that_was_not_timed_is_not_said_to_be_slower(
    network: nn.Module, traced: Trace
) -> None:
    plan = plan_of(network, traced, SECONDS)
    edited = entries(plan)["2"].model_copy(update={"execution": "fast"})
    layers = [edited if layer.name == "2" else layer for layer in plan.layers]
    fitted = fit_plan(plan.model_copy(update={"layers": layers}), network, traced, "plan.json")
    assert "slower" not in entries(fitted)["2"].reason
    assert [layer.name for layer in fitted.timed] == ["1"]


def test_another_input_size_has_other_seconds(network: nn.Module, traced: Trace) -> None:
    plan = plan_of(network, traced, SECONDS, objective="time")
    larger = trace_network(network, (3, 16, 16))
    moved = plan.model_copy(update={"input_size": larger.input_size})
    fitted = fit_plan(moved, network, larger, "plan.json")
    assert fitted.timed == []
    assert entries(fitted)["2"].reason == SLOWER, "the decision stays"
