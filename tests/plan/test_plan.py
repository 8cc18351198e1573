from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seclcompress.errors import PlanError, UsageError
from seclcompress.plan import (
    Choice,
    Plan,
    PlanOptions,
    convolutions,
    fit_plan,
    make_plan,
    matches,
    read_plan,
)
from seclcompress.rewrite import rewrite_network, to_dense
from seclcompress.substitutions import StructuredConv
from seclcompress.trace import Trace, trace_network


@pytest.fixture
def traced(awkward_network: nn.Module) -> Trace:
    return trace_network(awkward_network, (3, 16, 16))


def plan_of(network: nn.Module, traced: Trace, **options: Any) -> Plan:
    return make_plan(network, traced, PlanOptions(**{"config": {"depth": 2}, **options}))


def fates(plan: Plan) -> dict[str, tuple[str, str]]:
    return {layer.name: (layer.action, layer.reason) for layer in plan.layers}


def test_every_layers_fate_and_reason(awkward_network: nn.Module, traced: Trace) -> None:
    found = fates(plan_of(awkward_network, traced))
    assert list(found) == ["stem", "body.0", "body.3", "body.4", "body.5", "twice", "unused"]
    assert found["stem"] == ("keep", "the stem (the first convolution); --stem rewrites it too")
    assert found["body.0"] == ("rewrite", "saves 94.2 % of its parameters")
    assert found["body.4"] == ("keep", "it is depthwise already")
    assert found["body.5"] == (
        "rewrite",
        "saves 87.6 % of its parameters; N is 90, as 88 has a large prime factor",
    )
    assert found["twice"][0] == "rewrite"
    assert found["unused"][0] == "keep"
    assert "does not run in eval mode" in found["unused"][1]


def test_not_worth_it(awkward_network: nn.Module, traced: Trace) -> None:
    found = fates(plan_of(awkward_network, traced, config={"depth": 40}))
    assert found["body.5"] == ("keep", "not worth it: 7,288 parameters instead of 3,608")
    network = nn.Sequential(nn.Conv2d(3, 256, 1), nn.Conv2d(256, 256, 1, bias=False))
    trace = trace_network(network, (3, 2, 2))
    with pytest.raises(PlanError, match="1: not worth it: 65,536 parameters instead of 65,536."):
        plan_of(network, trace, config={"depth": 128}, head=True)


def test_costs_by_hand(awkward_network: nn.Module, traced: Trace) -> None:
    layers = {layer.name: layer for layer in plan_of(awkward_network, traced).layers}
    twice = layers["twice"]
    assert twice.reason.endswith("; N is 90, as 88 has a large prime factor")
    assert twice.original.parameters == 88 * 88 * 9 + 88
    assert twice.original.mult_adds == {"dense": 2 * 88 * 88 * 9 * 32}
    assert twice.separable.parameters == 88 * 9 + 88 * 88 + 88
    assert twice.cost.parameters == 88 * 9 + 2 * 2 * 90 + 88
    assert twice.cost.mult_adds == {
        "dense": 2 * 32 * (88 * 9 + 88 * 88),
        "fast": 2 * 32 * (88 * 9 + 2 * (360 + 2922)),
    }
    assert twice.execution == "fast"
    assert layers["body.0"].execution == "dense"


def test_patterns() -> None:
    assert matches("layer1", "layer1.0.conv1")
    assert matches("layer1.*.conv1", "layer1.0.conv1")
    assert matches("*conv?", "layer1.0.conv1")
    assert not matches("layer1", "layer10.0")
    assert not matches("conv1", "layer1.0.conv1")
    assert not matches("", "layer1")


def test_keep_only_stem_and_min_channels(awkward_network: nn.Module, traced: Trace) -> None:
    found = fates(plan_of(awkward_network, traced, keep=("body",)))
    assert found["body.0"] == ("keep", "kept by --keep body")
    found = fates(plan_of(awkward_network, traced, only=("twice",)))
    assert found["body.0"] == ("keep", "not named by --only")
    assert [name for name, fate in found.items() if fate[0] == "rewrite"] == ["twice"]
    stem = fates(plan_of(awkward_network, traced, stem=True, config={"depth": 1}))["stem"]
    assert stem[0] == "rewrite"
    found = fates(plan_of(awkward_network, traced, min_channels=41))
    assert found["body.5"] == ("keep", "it has 40 channels, fewer than --min-channels 41")
    assert found["twice"][0] == "rewrite"
    found = fates(plan_of(awkward_network, traced, min_channels=40))
    assert found["body.5"][0] == "rewrite"


def test_layers_of_one_channel_and_of_none() -> None:
    layers = [nn.Conv2d(3, 16, 1), nn.Conv2d(16, 1, 1), nn.Conv2d(1, 16, 1), nn.Conv2d(16, 16, 1)]
    network = nn.Sequential(*layers, nn.Linear(4, 0), nn.Linear(0, 4), nn.Linear(4, 4))
    trace = trace_network(network, (3, 4, 4))
    options = {"config": {"depth": 1}, "min_channels": 2, "linear": True}
    found = fates(plan_of(network, trace, **options))
    assert found["1"] == ("keep", "it has 1 channels, fewer than --min-channels 2")
    assert found["4"] == ("keep", "it has no channels (weights of 0×4)")
    assert found["5"] == ("keep", "it has no channels (weights of 4×0)")


@pytest.mark.parametrize("flag", ["keep", "only"])
@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("boddy.0", "body.0, body.5, body.4"),
        ("stxxxxm", "stem"),
        ("zzz", "stem, body.0, body.3"),  # if no name is near, the first ones are listed
    ],
)
def test_a_pattern_that_matches_nothing(
    awkward_network: nn.Module, traced: Trace, flag: str, pattern: str, near: str
) -> None:
    for linear, layers in ((False, "7 convolutions"), (True, "8 layers")):
        with pytest.raises(PlanError) as caught:
            plan_of(awkward_network, traced, linear=linear, **{flag: (pattern,)})
        assert str(caught.value) == (
            f"--{flag} '{pattern}' matches none of the {layers}. There are, for instance: {near}."
        )


@pytest.mark.parametrize(
    ("keep", "listed"),
    [
        ("*", "stem and 6 more: kept by --keep *"),
        (
            "stem body.[03] body.4 body.5 unused twice",
            "stem: kept by --keep stem; body.0 and 1 more: kept by --keep body.[03]; "
            "body.4: kept by --keep body.4; body.5: kept by --keep body.5",
        ),
    ],
)
def test_a_plan_that_rewrites_nothing(
    awkward_network: nn.Module, traced: Trace, keep: str, listed: str
) -> None:
    with pytest.raises(PlanError) as caught:
        plan_of(awkward_network, traced, keep=tuple(keep.split()))
    assert str(caught.value) == f"The plan rewrites none of the 7 convolutions. {listed}."


def test_a_network_without_layers_to_plan_for() -> None:
    linear = nn.Linear(3, 3)
    with pytest.raises(PlanError, match="^The network has no convolution, so there is nothing"):
        plan_of(linear, trace_network(linear, (3,)))
    with pytest.raises(PlanError, match="^The network has no layer, so there is nothing"):
        plan_of(nn.ReLU(), trace_network(nn.ReLU(), (3,)), linear=True)


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        (127, "saves 0.8 % of its parameters"),
        (128, "saves 0.0 % of its parameters"),
        (129, "asked for, though it adds 0.8 % to its parameters"),
    ],
)
def test_what_it_saves_is_said(depth: int, words: str) -> None:
    """At 256 channels, a stack of 128 layers has as many parameters as the matrix."""
    network = nn.Sequential(nn.Conv2d(3, 256, 1), nn.Conv2d(256, 256, 1, bias=False))
    trace = trace_network(network, (3, 2, 2))
    plan = plan_of(network, trace, head=True)
    plan.layers[1].config, plan.layers[1].execution = {"depth": depth}, "dense"
    assert fit_plan(plan, network, trace, "p").layers[1].reason == words


def test_a_family_without_transforms_says_nothing_of_a_length(
    awkward_network: nn.Module, traced: Trace
) -> None:
    plan = plan_of(awkward_network, traced, substitution="separable", config={})
    assert {layer.cost.note for layer in plan.layers} == {""}
    assert not any("N is" in layer.reason for layer in plan.layers)
    assert plan.rewritten[0].reason == "saves 89.2 % of its parameters"


def test_the_baseline_keeps_what_it_cannot_shrink_and_what_is_bound() -> None:
    one = nn.Conv2d(16, 1, 3, bias=False)
    tied = [nn.Conv2d(16, 16, 3, padding=1) for _ in range(4)]
    for conv in tied[1:]:
        conv.weight = tied[0].weight
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, padding=1), *tied, one)
    trace = trace_network(network, (3, 8, 8))
    plan = plan_of(network, trace, config={"depth": 1}, head=True)
    stem, free, *bound, last = plan.layers
    assert [layer.name for layer in plan.rewritten] == ["1"]
    for layer in (stem, *bound, last):  # on demand; bound; 144 + 16 parameters are more than 144
        assert layer.separable == layer.original
    assert free.separable.parameters == 9 * 16 + 16 * 16 + 16
    assert bound[0].reason == "its weights are shared with 3, 4"
    assert [layer.name for layer in plan.layers if layer.on_demand] == ["0"]
    assert fit_plan(plan, network, trace, "p") == plan
    bound[1].action, bound[1].substitution = "rewrite", "acdc"
    with pytest.raises(PlanError, match="'acdc': its weights are shared with 2, 4. Set its action"):
        fit_plan(plan, network, trace, "p")


def test_a_bound_layer_says_what_binds_it_unless_it_is_asked_to_stay() -> None:
    class Half(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self[1](self[0](x))

    network = Half(*[nn.Conv2d(3 if i == 0 else 16, 16, 1) for i in range(5)])
    network[3].weight = network[2].weight  # neither layer runs
    network[4].weight = network[1].weight  # only layer 1 runs
    trace = trace_network(network, (3, 4, 4))
    plan = make_plan(network, trace, PlanOptions(keep=("1",)), may_be_empty=True)
    found = {layer.name: (layer.reason, layer.on_demand) for layer in plan.layers}
    assert found["1"] == ("kept by --keep 1", True)
    assert found["2"] == ("its weights are shared with 3", False)
    assert found["4"] == ("its weights are shared with 1", False)


def test_another_way_to_choose_the_execution(awkward_network: nn.Module, traced: Trace) -> None:
    plan = make_plan(
        awkward_network,
        traced,
        PlanOptions(config={"depth": 2}, cost_model="measured"),
        lambda site, family, config: Choice("fast", {"fast": float(sum(site.calls.values()))}),
    )
    assert plan.cost_model == "measured"
    assert {layer.execution for layer in plan.rewritten} == {"fast"}
    assert {layer.name: layer.seconds for layer in plan.rewritten}["twice"] == {"fast": 2.0}


def test_a_family_with_one_execution_is_not_asked_to_choose(
    awkward_network: nn.Module, traced: Trace
) -> None:
    def never(*about: object) -> Choice:
        raise AssertionError("there is nothing to choose")

    options = PlanOptions(substitution="separable", cost_model="measured")
    plan = make_plan(awkward_network, traced, options, never)
    assert [layer.name for layer in plan.rewritten] == ["body.0", "body.3", "twice"]
    assert {(layer.execution, layer.seconds) for layer in plan.rewritten} == {("dense", None)}
    with pytest.raises(AssertionError, match="nothing to choose"):
        make_plan(awkward_network, traced, PlanOptions(config={"depth": 2}), never)


def test_layers_inside_structured_layers_are_not_listed() -> None:
    torch.manual_seed(0)
    network = Attending().eval()
    trace = trace_network(network, (3, 8, 8))
    plan = plan_of(network, trace, linear=True, head=True)
    rewritten = ["first", "block.conv", "block.linear", "head"]
    assert [layer.name for layer in plan.rewritten] == rewritten
    rewrite_network(network, plan)
    # A split layer contains a depthwise convolution; a replaced Linear contains a structured one.
    assert isinstance(network.first.depthwise, nn.Conv2d)
    assert isinstance(network.block.linear.convolution, StructuredConv)
    again = trace_network(network, (3, 8, 8))
    whole = make_plan(network, again, PlanOptions(linear=True), may_be_empty=True)
    assert [layer.name for layer in whole.layers] == ["stem", "block.plain"]
    assert list(convolutions(network)) == ["stem", "block.plain"]
    # A plan for the original network cannot be fitted to the rewritten one.
    with pytest.raises(PlanError, match="the network has no layer first"):
        fit_plan(plan, network, again, "plan.json")


class Attending(nn.Module):
    """Convolutions and Linears, some of them inside a module of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 1)
        self.first = nn.Conv2d(64, 64, 3, padding=1)
        self.block = nn.ModuleDict(
            {
                "plain": nn.Conv2d(64, 64, 3, groups=64, padding=1),
                "conv": nn.Conv2d(64, 64, 3, padding=1),
                "linear": nn.Linear(64, 64),
            }
        )
        self.head = nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block["conv"](self.block["plain"](self.first(self.stem(x))))
        return self.head(self.block["linear"](x.mean((2, 3))))


def test_what_was_kept_keeps_its_weights(awkward_network: nn.Module, traced: Trace) -> None:
    plan = plan_of(awkward_network, traced)
    before = {k: v.clone() for k, v in awkward_network.state_dict().items()}
    rewrite_network(awkward_network, plan, seed=3)
    after = awkward_network.state_dict()
    kept = [k for k in before if k in after]
    assert {"stem.weight", "body.1.running_mean", "body.4.weight", "fc.bias"} <= set(kept)
    assert all(torch.equal(before[k], after[k]) for k in kept)
    assert torch.equal(before["twice.bias"], after["twice.pointwise.bias"])
    assert sum(p.numel() for p in awkward_network.parameters()) == sum(
        v.numel() for k, v in before.items() if "running" not in k and "num_" not in k
    ) + sum(layer.cost.parameters - layer.original.parameters for layer in plan.layers)


def test_dense_mult_adds_are_those_of_the_network_it_makes(
    awkward_network: nn.Module, traced: Trace
) -> None:
    plan = plan_of(awkward_network, traced)
    x = torch.randn(2, 3, 16, 16)
    rewritten = rewrite_network(awkward_network, plan)
    dense = to_dense(rewritten)
    assert not any(isinstance(module, StructuredConv) for module in dense.modules())
    with torch.no_grad():
        torch.testing.assert_close(dense(x), rewritten(x), atol=1e-5, rtol=1e-4)
    saved = sum(layer.original.under("dense") - layer.cost.under("dense") for layer in plan.layers)
    assert trace_network(dense, (3, 16, 16)).total_mult_adds == traced.total_mult_adds - saved


def test_the_same_seed_gives_the_same_weights(awkward_network: nn.Module, traced: Trace) -> None:
    import copy

    plan = plan_of(awkward_network, traced)
    state = torch.get_rng_state()
    made = [
        rewrite_network(copy.deepcopy(awkward_network), plan, seed=seed).state_dict()
        for seed in (1, 1, 2)
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(made[0][k], made[1][k]) for k in made[0])
    assert not all(torch.equal(made[0][k], made[2][k]) for k in made[0])


def test_a_layer_that_stands_in_two_places() -> None:
    shared = nn.Conv2d(8, 8, 3, padding=1)
    network = nn.Sequential(nn.Conv2d(3, 8, 1), shared, nn.Sequential(nn.ReLU(), shared))
    plan = plan_of(network, trace_network(network, (3, 8, 8)), head=True)
    rewrite_network(network, plan)
    assert isinstance(network[1], StructuredConv)
    assert network[1] is network[2][1]


class TestGivenBack:
    def test_unchanged(self, awkward_network: nn.Module, traced: Trace, tmp_path: Path) -> None:
        plan = plan_of(awkward_network, traced)
        path = tmp_path / "plan.json"
        path.write_text(plan.to_json(), encoding="utf-8")
        assert read_plan(path) == plan
        assert plan.to_json().startswith('{\n  "schema_version": 2,\n  "input_size": [\n    3,\n')
        assert plan.to_json().endswith("\n}\n")
        again = fit_plan(read_plan(path), awkward_network, traced, "plan.json")
        assert [layer.cost for layer in again.layers] == [layer.cost for layer in plan.layers]

    def test_kept_by_an_edit_that_takes_the_family_away_too(
        self, awkward_network: nn.Module, traced: Trace
    ) -> None:
        plan = plan_of(awkward_network, traced)
        layer = next(layer for layer in plan.layers if layer.name == "body.0")
        layer.action, layer.substitution = "keep", None
        fitted = {
            layer.name: layer for layer in fit_plan(plan, awkward_network, traced, "p").layers
        }
        assert fitted["body.0"].reason == "kept by the plan"
        assert fitted["body.0"].on_demand

    def test_edited(self, awkward_network: nn.Module, traced: Trace) -> None:
        plan = plan_of(awkward_network, traced)
        by_name = {layer.name: layer for layer in plan.layers}
        by_name["body.0"].action = "keep"
        by_name["body.5"].config = {"depth": 3}
        by_name["twice"].substitution, by_name["twice"].config = "separable", {}
        by_name["twice"].execution = "dense"  # its only execution
        by_name["body.3"].execution = "fast"
        fitted = {x.name: x for x in fit_plan(plan, awkward_network, traced, "p").layers}
        assert fitted["body.0"].action == "keep"
        assert fitted["body.0"].reason == "kept by the plan"
        assert fitted["stem"].reason.startswith("the stem")
        assert fitted["body.3"].reason == (
            "saves 81.1 % of its parameters; fast, though dense has fewer Mult-Adds"
        )
        assert fitted["body.0"].cost == fitted["body.0"].original
        assert fitted["body.5"].cost.parameters == 2 * 3 * 90 + 88
        assert fitted["twice"].cost == fitted["twice"].separable
        assert fitted["body.3"].execution == "fast"

    def test_an_execution_that_the_family_has_not(
        self, awkward_network: nn.Module, traced: Trace
    ) -> None:
        plan = plan_of(awkward_network, traced)
        twice = next(layer for layer in plan.layers if layer.name == "twice")
        assert twice.execution == "fast"
        twice.substitution, twice.config = "separable", {}
        with pytest.raises(PlanError) as caught:
            fit_plan(plan, awkward_network, traced, "plan.json")
        assert str(caught.value) == (
            "plan.json, twice: 'separable' has no execution 'fast'. It has: dense."
        )

    def test_measured_seconds_and_any_alphabet(
        self, awkward_network: nn.Module, traced: Trace
    ) -> None:
        plan = plan_of(awkward_network, traced)
        plan.rewritten[0].seconds = {"dense": 2.0, "fast": 1.0}
        fitted = fit_plan(plan, awkward_network, traced, "p")
        assert fitted.rewritten[0].seconds == {"dense": 2.0, "fast": 1.0}
        plan.layers[0].name = "größe"
        assert '"name": "größe"' in plan.to_json()

    def test_figures_in_it_are_not_believed(
        self, awkward_network: nn.Module, traced: Trace
    ) -> None:
        plan = plan_of(awkward_network, traced)
        text = plan.to_json().replace('"parameters": ', '"parameters": 9')
        fitted = fit_plan(Plan.model_validate_json(text), awkward_network, traced, "p")
        assert [layer.cost for layer in fitted.layers] == [layer.cost for layer in plan.layers]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda p: p.layers.pop(), "^plan.json is not .* network: it says nothing of unused.$"),
            (lambda p: p.layers.append(p.layers[0]), "it names stem twice"),
            (lambda p: setattr(p.layers[0], "name", "root"), "no convolution root"),
            (
                lambda p: p.layers.clear(),
                "nothing of stem; it says nothing of body.0; it says nothing of body.3; and 4 more.$",
            ),
            (lambda p: p.layers.__delitem__(slice(4)), "of body.0; it .* of body.3; and 1 more.$"),
            (lambda p: p.layers.__delitem__(slice(3)), "of body.0; it says nothing of body.3.$"),
            (lambda p: setattr(p.layers[0], "layer", "Conv2d(1, 1)"), "stem is Conv2d"),
            (lambda p: setattr(p, "input_size", (3, 8, 8)), "an input of 3×8×8, not 3×16×16. Say"),
            (lambda p: setattr(p.layers[3], "action", "rewrite"), "no substitution is named"),
            (lambda p: setattr(p.layers[1], "substitution", None), "no substitution is named"),
        ],
    )
    def test_for_another_network(
        self, awkward_network: nn.Module, traced: Trace, change: Any, words: str
    ) -> None:
        plan = plan_of(awkward_network, traced)
        change(plan)
        with pytest.raises(PlanError, match=words):
            fit_plan(plan, awkward_network, traced, "plan.json")

    def test_asking_for_what_cannot_be(self, awkward_network: nn.Module, traced: Trace) -> None:
        plan = plan_of(awkward_network, traced)
        depthwise, unused = plan.layers[3], plan.layers[6]
        depthwise.action, depthwise.substitution = "rewrite", "acdc"
        with pytest.raises(PlanError, match=r'depthwise already. Set its action to "keep"'):
            fit_plan(plan, awkward_network, traced, "p")
        depthwise.action = "keep"
        unused.action, unused.substitution = "rewrite", "acdc"
        with pytest.raises(PlanError, match="does not run in eval mode"):
            fit_plan(plan, awkward_network, traced, "p")
        unused.substitution = "acdx"
        with pytest.raises(UsageError, match="Unknown substitution 'acdx'"):
            fit_plan(plan, awkward_network, traced, "p")
        for layer in plan.layers:
            layer.action = "keep"
        with pytest.raises(PlanError, match="rewrites none"):
            fit_plan(plan, awkward_network, traced, "p")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"{", "is not a plan: the whole: Invalid JSON"),
            (b"[]", "is not a plan"),
            (b"\xff\xfe", "not UTF-8"),
            (b'{"schema_version": 7, "input_size": [3], "layers": []}', "schema_version"),
        ],
    )
    def test_files_that_are_no_plans(self, tmp_path: Path, content: bytes, words: str) -> None:
        path = tmp_path / "plan.json"
        path.write_bytes(content)
        with pytest.raises(PlanError, match=words):
            read_plan(path)
        with pytest.raises(PlanError, match="Cannot read the plan"):
            read_plan(tmp_path / "nowhere.json")
