"""Plans of seclcompress 0.1 can be read and fitted, and give the same figures to the digit."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import Invoke
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seclcompress import resolve
from seclcompress.count import count_network
from seclcompress.errors import PlanError, UsageError
from seclcompress.plan import Plan, fit_plan, read_plan
from seclcompress.plan.older import upgraded
from seclcompress.rewrite import rewrite_network
from seclcompress.trace import Trace, trace_network

WRITTEN = Path(__file__).parent.parent / "written_by_0_1"
NETWORKS: dict[str, dict[str, Any]] = {
    "plan.json": {"name": "wrn10_0.5", "num_classes": 10, "input_size": (3, 32, 32)},
    "resnet18_plan.json": {"name": "resnet18"},
}


def network_of(plan: str) -> tuple[nn.Module, Trace]:
    options = dict(NETWORKS[plan])
    located = resolve.locate(options.pop("name"), **options)
    network = located.skeleton()
    return network, trace_network(network, located.input_size)


def old(name: str) -> dict[str, Any]:
    return json.loads((WRITTEN / name).read_text(encoding="utf-8"))


def assert_counted_alike(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compares with every figure that 0.1 wrote, of the network and of each layer."""
    for key in ("input_size", "columns", "uncounted", "unknown", "assumed"):
        assert found[key] == expected[key]
    assert [row["name"] for row in found["rows"]] == [row["name"] for row in expected["rows"]]
    for row, before in zip(found["rows"], expected["rows"], strict=True):
        same = "layer action reason substitution execution columns".split()
        assert {key: row[key] for key in same} == {key: before[key] for key in same}


@pytest.mark.parametrize(
    ("plan", "count"), [("plan.json", "count.json"), ("resnet18_plan.json", "resnet18_count.json")]
)
def test_its_figures_are_those_that_0_1_wrote(plan: str, count: str) -> None:
    network, trace = network_of(plan)
    fitted = fit_plan(read_plan(WRITTEN / plan), network, trace, plan)
    counted = json.loads(json.dumps(count_network(network, trace, fitted).to_dict()))
    assert_counted_alike(counted, old(count))
    assert {calls.input_size is None for layer in fitted.layers for calls in layer.calls} == {False}


def test_every_figure_in_it_is_read(tmp_path: Path) -> None:
    plan = read_plan(WRITTEN / "plan.json")
    for layer, before in zip(plan.layers, old("plan.json")["layers"], strict=True):
        kept = "name layer action reason substitution config execution on_demand seconds".split()
        dumped = layer.model_dump(mode="json")
        assert {key: dumped[key] for key in kept} == {key: before[key] for key in kept}
        assert dumped["calls"] == [
            {"input_size": None, "output_size": size, "times": times}
            for size, times in zip(before["output_sizes"], before["times"], strict=True)
        ]
        both = ("dense", "fast") if layer.action == "rewrite" else ("dense",)
        for name, ways in (("original", ("dense",)), ("separable", ("dense",)), ("cost", both)):
            assert dumped[name]["parameters"] == before[name]["parameters"]
            assert dumped[name]["mult_adds"] == {way: before[name][way] for way in ways}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_what_is_written_is_schema_2_and_reads_back_equal(name: str, tmp_path: Path) -> None:
    network, trace = network_of(name)
    read = read_plan(WRITTEN / name)
    for plan in (read, fit_plan(read, network, trace, name)):
        (tmp_path / "plan.json").write_text(plan.to_json(), encoding="utf-8")
        content = json.loads(plan.to_json())
        assert content["schema_version"] == 2
        assert not {"length", "output_sizes", "times"} & content["layers"][0].keys()
        assert read_plan(tmp_path / "plan.json") == plan
        assert read_plan(tmp_path / "plan.json").to_json() == plan.to_json()


def test_a_stack_that_was_planned_fast_stays_fast() -> None:
    content = old("plan.json")
    layer = next(layer for layer in content["layers"] if layer["action"] == "rewrite")
    layer["execution"] = "fast"
    read = {each.name: each for each in Plan.model_validate(content).layers}[layer["name"]]
    assert read.execution == "fast"
    assert read.mult_adds == layer["cost"]["fast"]


def test_a_plan_that_does_not_say_its_version() -> None:
    """Version 1 need not, and 0.1 read it."""
    content = old("plan.json")
    expected = Plan.model_validate(content)
    content.pop("schema_version")
    assert Plan.model_validate(content) == expected
    newer = json.loads(expected.to_json())
    newer.pop("schema_version")
    assert Plan.model_validate(newer) == expected


def test_on_the_command_line(invoke: Invoke) -> None:
    named = ("wrn10_0.5", "--num-classes", 10, "--input-size", 32)
    given = ("--plan", WRITTEN / "plan.json")
    assert_counted_alike(
        json.loads(invoke("count", *named, *given, "--json").stdout), old("count.json")
    )
    invoke("convert", *named, *given, "--write-plan", "new.json", "-o", "out")
    assert json.loads(Path("new.json").read_text())["schema_version"] == 2
    for again in (("out",), (*named, "--plan", "new.json")):
        assert_counted_alike(
            json.loads(invoke("count", *again, "--json").stdout), old("count.json")
        )


def test_a_folders_plan(invoke: Invoke) -> None:
    found = json.loads(invoke("count", WRITTEN / "distilled", "--json").stdout)
    assert_counted_alike(found, old("count.json"))
    assert found["accuracies"] == old("count.json")["accuracies"]


def test_a_seed_gives_the_weights_that_it_gave() -> None:
    """The factors agree in sign only: their size comes from the original, which was trained then."""
    from seclcompress import artefact

    folder = WRITTEN / "converted"
    about = artefact.read_config(folder)
    assert about.plan is not None
    network, _ = resolve.locate("wrn10_0.5", num_classes=10, input_size=(3, 32, 32)).load(seed=0)
    found = rewrite_network(network, about.plan, seed=about.seed).state_dict()
    written = safetensors.torch.load_file(folder / "model.safetensors")
    assert found.keys() == written.keys()
    filters = [name for name in written if name.endswith("depthwise.weight")]
    factors = [name for name in written if name.endswith(("pointwise.a", "pointwise.d"))]
    assert (len(filters), len(factors)) == (4, 12)
    assert all(torch.equal(found[name], written[name]) for name in filters)
    assert all(torch.equal(found[name].sign(), written[name].sign()) for name in factors)


def test_a_separable_layer_that_was_planned_fast_runs_its_only_way() -> None:
    """The stopwatch of 0.1 could choose `fast` for it, which meant its dense execution."""
    content = old("plan.json")
    layer = next(layer for layer in content["layers"] if layer["action"] == "rewrite")
    layer.update(substitution="separable", config={}, execution="fast", length=None)
    layer["seconds"] = {"dense": 2.0, "fast": 1.0}
    network, trace = network_of("plan.json")
    fitted = fit_plan(Plan.model_validate(content), network, trace, "plan.json")
    found = next(new for new in fitted.layers if new.name == layer["name"])
    assert (found.substitution, found.execution) == ("separable", "dense")
    assert found.cost == found.separable


#: Values that damage puts in the place of another value.
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text("aâ\n\x00", max_size=3),
    st.lists(st.integers(-1, 4), max_size=3),
    st.lists(st.lists(st.integers(-1, 4), max_size=2), max_size=3),
    st.dictionaries(
        st.sampled_from("parameters dense fast mult_adds name calls".split()),
        st.none() | st.integers(0, 9),
        max_size=3,
    ),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """All containers in a JSON value, each with each of its keys."""
    if isinstance(value, dict):
        keys: list[Any] = list(value)
    elif isinstance(value, list):
        keys = list(range(len(value)))
    else:
        return []
    inside = [place for key in keys for place in places(value[key])]
    return [(value, key) for key in keys] + inside


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    content = copy.deepcopy(SMALL)
    for _ in range(draw(st.integers(1, 3))):
        there = places(content)
        if not there:
            break
        container, key = draw(st.sampled_from(there))
        how = draw(st.sampled_from(["missing", "another", "twice", "beside"]))
        if how == "missing":
            del container[key]
        elif how == "another":
            container[key] = draw(VALUES)
        elif isinstance(container, list):  # a list of another length
            container.insert(key, copy.deepcopy(container[key]))
        else:
            container[draw(st.sampled_from(["calls", "mult_adds", "note", "extra"]))] = draw(VALUES)
    return content


#: Three layers of the real plan: kept, rewritten, and one that runs on two sizes.
SMALL = old("plan.json")
SMALL["layers"] = [
    next(layer for layer in SMALL["layers"] if layer["action"] == action)
    for action in ("keep", "rewrite")
] + [{**SMALL["layers"][-1], "output_sizes": [[8, 8], [4, 4]], "times": [1, 2]}]


@given(content=damaged())
def test_a_damaged_one_ends_in_words(
    content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    plan, words = None, ""
    try:
        plan = read_plan(path)
    except PlanError as error:
        words = str(error)
    if plan is None:
        assert words.startswith(f"{path} is not a plan: ")
        return
    assert plan.schema_version == 2
    assert Plan.model_validate_json(plan.to_json()) == plan
    for layer in plan.layers:  # an accepted plan has the figures that all code reads
        assert layer.mult_adds == layer.cost.under(layer.execution)


WHOLE = old("plan.json")
NETWORK, TRACE = network_of("plan.json")


@given(
    number=st.integers(0, len(WHOLE["layers"]) - 1),
    key=st.sampled_from(list(WHOLE["layers"][0])),
    value=VALUES,
)
def test_one_that_is_damaged_and_read_is_fitted_or_refused(
    number: int, key: str, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = copy.deepcopy(WHOLE)
    content["layers"][number][key] = value
    path = tmp_path_factory.getbasetemp() / "one.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        fitted = fit_plan(read_plan(path), NETWORK, TRACE, "one.json")
    except (PlanError, UsageError):
        return
    before = fit_plan(Plan.model_validate(WHOLE), NETWORK, TRACE, "plan.json")
    for layer, expected in zip(fitted.layers, before.layers, strict=True):
        # Only a person's decisions are taken over; everything else is computed anew.
        if layer.name != content["layers"][number]["name"]:
            assert layer == expected
        assert (layer.original, layer.calls) == (expected.original, expected.calls)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda plan: plan.pop("layers"), "layers: Field required"),
        (lambda plan: plan.update(layers={}), "layers: Input should be a valid array"),
        (lambda plan: plan["layers"].insert(0, 3), "layers.0: Input should be an object"),
        (lambda plan: plan["layers"][0].pop("cost"), "layers.0.cost: Field required"),
        (lambda plan: plan["layers"][1]["cost"].pop("fast"), "layers.1.cost"),
        (lambda plan: plan["layers"][0].pop("output_sizes"), "layers.0.calls: Field required"),
        (lambda plan: plan["layers"][0].update(times={}), None),
        (lambda plan: plan["layers"][0].update(times=[]), None),
        (lambda plan: plan["layers"][0].update(times=[1, 2]), None),
        (lambda plan: plan["layers"][0].update(times=["a"]), "layers.0.calls.0.times: "),
        (lambda plan: plan["layers"][0].update(times=7), "layers.0.calls: Field required"),
        (lambda plan: plan["layers"][0].update(extra=7), "layers.0.extra: Extra inputs"),
        (lambda plan: plan.update(schema_version="1"), "schema_version: "),
    ],
)
def test_what_is_said_of_damage(change: Any, words: str | None, tmp_path: Path) -> None:
    content = copy.deepcopy(SMALL)
    change(content)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    if words is None:  # a missing number of runs is read as one, and computed anew later
        assert read_plan(path).layers[0].calls[0].times == 1
        return
    with pytest.raises(PlanError) as caught:
        read_plan(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "schema"),
    [
        ({"layers": [{"name": "a", "output_sizes": [[1]], "length": 8}]}, 2),
        (
            {"layers": [{"name": "a"}, {"name": "b", "output_sizes": [[1]]}]},
            None,
        ),  # not of schema 1
        ({"layers": [{"name": "a", "calls": []}]}, None),
        ({"layers": []}, None),
        ({"layers": [3]}, None),
        ({"layers": "output_sizes"}, None),
        ({"schema_version": 1, "layers": "none"}, 2),
        ({"schema_version": 1, "layers": [{"name": "a", "calls": []}]}, 1),
        ({"schema_version": 3, "layers": []}, 3),
    ],
)
def test_what_is_upgraded(content: dict[str, Any], schema: int | None) -> None:
    found = upgraded(content)
    assert found.get("schema_version") == schema
    if found.get("schema_version") in (None, content.get("schema_version")):
        assert found == content
    assert found.keys() <= {*content, "schema_version"}


def test_a_layer_without_its_number_of_calls() -> None:
    """0.1 left out the number where every size ran once, and a layer has no length any more."""
    layer = {"name": "a", "output_sizes": [[1], [2]], "times": [3], "length": 8}
    (found,) = upgraded({"schema_version": 1, "layers": [layer]})["layers"]
    assert [call["times"] for call in found["calls"]] == [3, 1]
    (found,) = upgraded({"schema_version": 1, "layers": [{"name": "a"}]})["layers"]
    assert found == {"name": "a"}
