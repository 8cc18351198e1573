"""Plans with several families: they are asked for, saved, counted, shown and timed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Awkward, Invoke
from rich.console import Console, RenderableType
from torch import nn

from seclcompress import resolve
from seclcompress.count import Count, check_rewritten, column_names, count_network
from seclcompress.errors import PlanError, UsageError
from seclcompress.plan import Choice, Plan, PlanOptions, fit_plan, make_plan, read_plan
from seclcompress.report.counts import count_csv, count_record, count_table, layers_table
from seclcompress.report.tables import UNSTEADY, column_titles
from seclcompress.rewrite import rewrite_network, to_dense, to_plain
from seclcompress.settings.planning import Assignment
from seclcompress.substitutions import structured_layers
from seclcompress.trace import Trace, trace_network

SIZE = (3, 16, 16)


@pytest.fixture
def traced(awkward_network: nn.Module) -> Trace:
    return trace_network(awkward_network, SIZE)


def mixed(network: nn.Module, traced: Trace, *assign: Assignment, **options: Any) -> Plan:
    return make_plan(
        network, traced, PlanOptions(**{"config": {"depth": 2}, "assign": assign, **options})
    )


def families(plan: Plan) -> dict[str, str | None]:
    return {layer.name: layer.substitution for layer in plan.layers}


SEPARABLE = Assignment(pattern="twice", substitution="separable")


class TestAskedFor:
    def test_some_layers_as_another_family(self, awkward_network: nn.Module, traced: Trace) -> None:
        plan = mixed(awkward_network, traced, SEPARABLE)
        assert families(plan) == {
            "stem": None,
            "body.0": "acdc",
            "body.3": "acdc",
            "body.4": None,
            "body.5": "acdc",
            "twice": "separable",
            "unused": None,
        }
        alone = mixed(awkward_network, traced)
        for layer, other in zip(plan.layers, alone.layers, strict=True):
            if layer.name != "twice":
                assert layer == other
        separable = mixed(awkward_network, traced, substitution="separable", config={})
        assert plan.layers[5] == separable.layers[5]
        assert plan.families == ["acdc", "separable"]
        assert plan.executions == ("dense", "fast")
        assert (separable.families, separable.executions) == (["separable"], ("dense",))

    def test_the_first_pattern_that_matches_counts(
        self, awkward_network: nn.Module, traced: Trace
    ) -> None:
        deep = Assignment(pattern="body.*", substitution="acdc", config={"depth": 3})
        shallow = Assignment(pattern="body.3", substitution="acdc", config={"depth": 1})
        one, other = (
            {layer.name: layer.config.get("depth") for layer in plan.rewritten}
            for plan in (
                mixed(awkward_network, traced, deep, shallow),
                mixed(awkward_network, traced, shallow, deep),
            )
        )
        assert one == {"body.0": 3, "body.3": 3, "body.5": 3, "twice": 2}
        assert other == {"body.0": 3, "body.3": 1, "body.5": 3, "twice": 2}

    def test_a_pattern_means_what_it_means_to_keep(
        self, awkward_network: nn.Module, traced: Trace
    ) -> None:
        whole = Assignment(pattern="body", substitution="separable")
        plan = mixed(awkward_network, traced, whole)
        found = families(plan)
        assert [name for name, family in found.items() if family == "separable"] == [
            "body.0",
            "body.3",
        ]
        assert found["twice"] == "acdc"
        assert plan.layers[4].reason == "not worth it: 3,608 parameters instead of 3,608"

    @pytest.mark.parametrize(
        ("assignment", "words"),
        [
            (
                Assignment(pattern="twice", substitution="acdc", config={"depth": 0}),
                "Options of substitution 'acdc': depth: ",
            ),
            (
                Assignment(pattern="twice", substitution="separable", config={"depth": 2}),
                "separable takes no option depth. It takes: none.",
            ),
            (Assignment(pattern="twice", substitution="seperable"), "Unknown substitution 'sep"),
            # Options are also checked if no layer uses them, because another pattern matches first.
            (
                Assignment(pattern="body", substitution="acdc", config={"deep": 2}),
                "takes no option deep",
            ),
        ],
    )
    def test_options_are_checked_before_anything_is_planned(
        self, awkward_network: nn.Module, traced: Trace, assignment: Assignment, words: str
    ) -> None:
        def never(*about: object) -> Choice:
            raise AssertionError("a layer was planned")

        first = Assignment(pattern="*", substitution="acdc")
        options = PlanOptions(assign=(first, assignment), keep=("there is no such layer",))
        with pytest.raises(UsageError) as caught:  # not the PlanError for the pattern of `keep`
            make_plan(awkward_network, traced, options, never)
        assert words in str(caught.value)

    @pytest.mark.parametrize("linear", [False, True])
    def test_a_pattern_that_matches_nothing(
        self, awkward_network: nn.Module, traced: Trace, linear: bool
    ) -> None:
        wrong = Assignment(pattern="twicee", substitution="separable")
        with pytest.raises(PlanError) as caught:
            mixed(awkward_network, traced, SEPARABLE, wrong, linear=linear)
        assert str(caught.value) == (
            f"--assign 'twicee' matches none of the {'8 layers' if linear else '7 convolutions'}. "
            "There are, for instance: twice."
        )

    def test_what_keeps_a_layer_wins(self, awkward_network: nn.Module, traced: Trace) -> None:
        everything = Assignment(pattern="*", substitution="separable")
        plan = mixed(awkward_network, traced, everything, keep=("twice",))
        reasons = {layer.name: layer.reason for layer in plan.layers if layer.action == "keep"}
        assert reasons["twice"] == "kept by --keep twice"
        assert reasons["stem"].startswith("the stem")
        assert reasons["body.4"] == "it is depthwise already"
        plan = mixed(awkward_network, traced, SEPARABLE, only=("body",))
        assert families(plan)["twice"] is None

    def test_a_layer_that_its_own_family_would_not_shrink_is_kept(
        self, awkward_network: nn.Module, traced: Trace
    ) -> None:
        deep = Assignment(pattern="body.5", substitution="acdc", config={"depth": 40})
        plan = mixed(awkward_network, traced, deep)
        assert plan.layers[4].reason == "not worth it: 7,288 parameters instead of 3,608"
        assert families(plan)["twice"] == "acdc"

    def test_only_who_has_a_choice_is_asked(
        self, awkward_network: nn.Module, traced: Trace
    ) -> None:
        asked = []

        def choose(site: Any, substitution: Any, config: Any) -> Choice:
            asked.append((site.name, substitution.name, config.model_dump()["depth"]))
            return Choice("fast", {"dense": 2.0, "fast": 1.0})

        options = PlanOptions(config={"depth": 2}, assign=(SEPARABLE,), cost_model="measured")
        plan = make_plan(awkward_network, traced, options, choose)
        assert asked == [("body.0", "acdc", 2), ("body.3", "acdc", 2), ("body.5", "acdc", 2)]
        twice = plan.layers[5]
        assert (twice.execution, twice.seconds) == ("dense", None)


class TestGivenBack:
    def test_saved_and_read(
        self, awkward_network: nn.Module, traced: Trace, tmp_path: Path
    ) -> None:
        plan = mixed(awkward_network, traced, SEPARABLE)
        path = tmp_path / "plan.json"
        path.write_text(plan.to_json(), encoding="utf-8")
        assert read_plan(path) == plan
        assert fit_plan(read_plan(path), awkward_network, traced, "plan.json") == plan

    def test_as_a_folder(self, invoke: Invoke, tmp_path: Path) -> None:
        plan = wide_plan(tmp_path / "plan.json")
        invoke("convert", "wrn10_1", "--plan", "plan.json", "-o", "out")
        out = json.loads(invoke("count", "out", "--json").stdout)
        asked = json.loads(invoke("count", "wrn10_1", "--plan", "plan.json", "--json").stdout)
        assert out["columns"] == asked["columns"]
        assert out["rows"] == asked["rows"]
        assert {row["substitution"] for row in out["rows"]} == {None, "acdc", "separable"}
        from seclcompress import artefact

        config = artefact.read_config(tmp_path / "out")
        assert config.plan == plan
        network = artefact.load(tmp_path / "out")
        assert len(structured_layers(network)) == len(plan.rewritten)

    def test_an_edited_execution_that_the_family_has_not(
        self, invoke: Invoke, tmp_path: Path
    ) -> None:
        path = tmp_path / "plan.json"
        plan = wide_plan(path)
        layer = next(layer for layer in plan.rewritten if layer.substitution == "separable")
        layer.execution = "fast"
        path.write_text(plan.to_json(), encoding="utf-8")
        words = " ".join(invoke("count", "wrn10_1", "--plan", path, code=1).stderr.split())
        assert f"{layer.name}: 'separable' has no execution 'fast'. It has: dense." in words


def wide_plan(path: Path | None = None) -> Plan:
    """A plan of wrn10_1 with a separable last group and a shallow stack as that group's shortcut.

    It is written to a file if `path` is given.
    """
    located = resolve.locate("wrn10_1")
    network = located.skeleton()
    assign = (
        Assignment(pattern="group3.*.shortcut", substitution="acdc", config={"depth": 1}),
        Assignment(pattern="group3", substitution="separable"),
    )
    options = PlanOptions(config={"depth": 2}, assign=assign)
    plan = make_plan(network, trace_network(network, located.input_size), options)
    if path is not None:
        path.write_text(plan.to_json(), encoding="utf-8")
    return plan


def counted(name: str, **options: Any) -> tuple[Count, Plan]:
    located = resolve.locate(name)
    network = located.skeleton()
    trace = trace_network(network, located.input_size)
    plan = make_plan(network, trace, PlanOptions(**options))
    return count_network(network, trace, plan), plan


LAYER4 = (Assignment(pattern="layer4", substitution="separable"),)


class TestCounted:
    def test_rows_and_columns_add_up(self) -> None:
        found, plan = counted("resnet18", assign=LAYER4)
        assert tuple(found.columns) == ("original", "separable", "dense", "fast", "auto")
        for name, column in found.columns.items():
            for quantity in ("parameters", "mult_adds"):
                rows = [getattr(row.columns[name], quantity) for row in found.rows]
                assert sum(rows) == getattr(column, quantity)
        acdc, _ = counted("resnet18")
        separable, _ = counted("resnet18", substitution="separable")
        assert found.columns["original"] == acdc.columns["original"]
        assert found.columns["separable"] == separable.columns["auto"]
        for row, ours, theirs in zip(found.rows, acdc.rows, separable.rows, strict=True):
            if row.name.startswith("layer4"):
                assert row.executions == ("dense",)
                assert row.columns["fast"] == row.columns["dense"] == theirs.columns["auto"]
            else:
                assert row == ours
        assert [len(row.executions) for row in found.rows].count(2) == len(
            [layer for layer in plan.rewritten if layer.substitution == "acdc"]
        )

    def test_the_fast_column_is_what_runs_when_fast_is_asked_for(
        self, awkward_network: nn.Module, traced: Trace
    ) -> None:
        plan = mixed(awkward_network, traced, SEPARABLE)
        found = count_network(awkward_network, traced, plan)
        saved = sum(
            layer.original.under("dense") - layer.cost.mult_adds.get("fast", layer.mult_adds)
            for layer in plan.rewritten
        )
        fast, original = found.columns["fast"], found.columns["original"]
        assert fast.mult_adds == original.mult_adds - saved
        assert fast.mult_adds != found.columns["dense"].mult_adds

    def test_which_columns_there_are(self) -> None:
        assert column_names(()) == ("original", "separable", "dense", "auto")
        assert column_names(("dense",)) == ("original", "separable", "dense", "auto")
        assert column_names(("fast",)) == ("original", "separable", "dense", "auto")
        every = ("original", "separable", "dense", "fast", "auto")
        assert column_names(("dense", "fast")) == every

    @torch.no_grad()
    def test_the_network_that_it_makes_is_what_was_counted(self, traced: Trace) -> None:
        torch.manual_seed(0)
        network = Awkward().eval()
        plan = mixed(network, traced, SEPARABLE)
        found = count_network(network, traced, plan)
        rewritten = rewrite_network(copy.deepcopy(network), plan)
        assert found.columns["auto"].parameters == sum(p.numel() for p in rewritten.parameters())
        check_rewritten(rewritten, found)
        ways = [layer.executions for layer in structured_layers(rewritten)]
        assert sorted(ways) == [("dense",)] + [("dense", "fast")] * 3
        x = torch.randn(2, *SIZE)
        for other in (to_dense(rewritten), to_plain(rewritten)):
            torch.testing.assert_close(other(x), rewritten(x), atol=1e-5, rtol=1e-4)


def printed(what: RenderableType, width: int) -> str:
    console = Console(width=width, highlight=False, emoji=False, color_system=None)
    with console.capture() as caught:
        console.print(what)
    return caught.get()


class TestShown:
    def test_titles(self) -> None:
        assert column_titles(["acdc", "separable"]) == {
            "original": "original",
            "separable": "plain separable",
            "dense": "mixed dense",
            "fast": "mixed fast",
            "auto": "mixed chosen",
        }
        assert column_titles(["acdc"])["fast"] == "SECL fast"
        assert column_titles(["separable"]) == {
            "original": "original",
            "separable": "plain separable",
            "auto": "separable",
        }
        assert list(column_titles([])) == ["original", "separable", "auto"]

    @pytest.mark.parametrize("width", [100, 40])
    def test_in_a_terminal(self, width: int) -> None:
        found, plan = counted("resnet18", assign=LAYER4)
        out = printed(count_table("resnet18", found, plan, {}, width), width)
        assert all(len(line) <= width for line in out.splitlines())
        assert "…" not in out
        if width == 40:  # one paragraph per column
            for title in ("original", "plain separable", *(f"mixed {x}" for x in XS)):
                assert title in out
            assert out.index("mixed dense") < out.index("mixed fast") < out.index("mixed chosen")
        else:
            names, ways = out.splitlines()[1:3]
            assert names.split() == ["plain", "mixed", "mixed", "mixed"]
            assert ways.split() == ["original", "separable", "dense", "fast", "chosen"]
        for column in found.columns.values():
            assert f"{column.parameters:,}" in out
            assert f"{column.mult_adds:,}" in out
        note = (
            "18 of 20 convolutions rewritten: 14 as acdc, 4 as separable; chosen by the paper cost "
            "model: 14 dense, 0 fast."
        )
        assert note in " ".join(out.split())

    @pytest.mark.parametrize("width", [100, 40])
    def test_layer_by_layer_in_a_terminal(self, width: int) -> None:
        found, _ = counted("resnet18", assign=LAYER4)
        out = printed(layers_table(found, width), width)
        assert all(len(line) <= width for line in out.splitlines())
        words = " ".join(out.split())
        acdc = next(row for row in found.rows if row.substitution == "acdc")
        separable = next(row for row in found.rows if row.substitution == "separable")
        both = {way: f"{acdc.columns[way].mult_adds:,}" for way in ("dense", "fast")}
        assert f"→ dense {both['dense']}" in words
        assert f"fast {both['fast']}" in words
        assert f"→ {separable.columns['dense'].mult_adds:,}" in words
        assert "separable, dense" not in words
        assert "acdc, dense" in words
        if width == 40:
            assert f"{separable.name}: separable" in words

    def test_for_programs(self) -> None:
        found, plan = counted("resnet18", assign=LAYER4)
        content = json.loads(count_record("resnet18", found, plan, {}).to_json())
        assert list(content["columns"]) == list(found.columns)
        by_name = {row["name"]: row for row in content["rows"]}
        assert by_name["layer4.0.conv1"]["executions"] == ["dense"]
        assert by_name["layer3.0.conv1"]["executions"] == ["dense", "fast"]
        heading, *lines = count_csv(found).splitlines()
        names = [f"{c}_{q}" for c in found.columns for q in ("parameters", "mult_adds")]
        assert heading.split(",")[6:] == names
        assert len(lines) == len(found.rows) + 1

    def test_one_execution_is_said_once(self) -> None:
        found, plan = counted("resnet18", substitution="separable")
        out = printed(count_table("resnet18", found, plan, {}, 100), 100)
        assert "16 of 20 convolutions rewritten." in out
        assert "fast" not in out
        assert "chosen" not in out
        heading = count_csv(found).splitlines()[0]
        assert "fast" not in heading
        assert heading.endswith("dense_parameters,dense_mult_adds,auto_parameters,auto_mult_adds")


XS = ("dense", "fast", "chosen")


class TestTimed:
    @pytest.mark.parametrize("width", [100, 40])
    def test_bench(self, invoke: Invoke, tmp_path: Path, monkeypatch, width: int) -> None:
        plan = wide_plan(tmp_path / "plan.json")
        flags = ("wrn10_1", "--plan", "plan.json", "--threads", 1, "--rounds", 3)
        monkeypatch.setenv("COLUMNS", str(width))
        out = invoke("bench", *flags).stdout
        assert "…" not in out
        if width == 40:
            for way in XS:
                assert f"mixed {way}" in out
        else:
            assert ["plain", "mixed", "mixed", "mixed"] in [x.split() for x in out.splitlines()]
        content = json.loads(invoke("bench", *flags, "--json").stdout)
        assert list(content["variants"]) == ["original", "separable", "dense", "fast", "auto"]
        chosen = {layer.name: layer.execution for layer in plan.rewritten}
        assert content["executions"] == {"NCHW": chosen, "NHWC": chosen}

    def test_bench_of_a_family_with_one_execution(self, invoke: Invoke, monkeypatch) -> None:
        flags = ("--threads", 1, "--rounds", 3, "--substitution", "separable")
        result = invoke("bench", "wrn10_1", *flags)
        heading = result.stdout.splitlines()[2:4]
        assert " ".join(heading).split() == ["plain", "original", "separable", "separable"]
        missing = [line.strip() for line in result.stdout.splitlines() if "–" in line]
        unsteady = UNSTEADY in " ".join(result.stdout.split())  # then no times are compared
        assert [line.startswith("times faster") for line in missing] == [True] * unsteady
        assert "Measured 0 layer shapes" in result.stderr  # nothing to choose between


def test_an_exact_name_means_the_stem_and_the_classifier_too(awkward_network: nn.Module) -> None:
    traced = trace_network(awkward_network, (3, 16, 16))
    for pattern, rewritten in (("stem", True), ("ste*", False)):
        options = PlanOptions(assign=(Assignment(pattern=pattern, substitution="separable"),))
        layers = {layer.name: layer for layer in make_plan(awkward_network, traced, options).layers}
        assert (layers["stem"].substitution == "separable") == rewritten
    options = PlanOptions(
        linear=True, assign=(Assignment(pattern="fc", substitution="acdc", config={"depth": 1}),)
    )
    layers = {layer.name: layer for layer in make_plan(awkward_network, traced, options).layers}
    assert layers["fc"].action == "rewrite"
