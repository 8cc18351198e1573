"""docs/reference_counts.md: the convention that gives each published figure, digit for digit."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from conftest import Invoke
from torch import nn

from seclcompress import conventions, resolve, substitutions, workflows
from seclcompress.count import Count, Totals, count_network
from seclcompress.plan import Plan, PlanOptions, make_plan
from seclcompress.stack import layer_mult_adds
from seclcompress.trace import Trace, trace_network

#: The options with which `count` has the log's networks. --keep leaves a WRN's shortcuts as they are; in
#: MobileNetV2 the log rewrites each block's first 1×1 convolution and the last one.
OPTIONS: dict[str, dict[str, Any]] = {
    "tiny_convnet_no_bias": {"stem": True},
    "resnet18_cifar": {},
    "wrn40_2": {"keep": ("*.shortcut",)},
    "wrn28_10": {"keep": ("*.shortcut",)},
    "mobilenet_cifar": {},
    "mobilenetv2_cifar": {"only": ("layers.*.conv1", "conv2")},
    "darts_cifar": {"only": ("cells.*._ops",)},
}


@cache
def planned(name: str, depth: int, **config: Any) -> tuple[nn.Module, Trace, Plan]:
    source = resolve.locate(name)
    network = source.skeleton()
    trace = trace_network(network, source.input_size)
    options = PlanOptions(config={"depth": depth, **config}, **OPTIONS[name])
    return network, trace, make_plan(network, trace, options)


@cache
def by_the_log(name: str, depth: int, **config: Any) -> Count:
    """A network and its ACDC form with a stack of so many layers, by the log's convention."""
    network, trace, plan = planned(name, depth, **config)
    return conventions.by_the_log(network, trace, plan, count_network(network, trace, plan))


def printed(figures: Totals) -> tuple[str, str]:
    """Mult-Adds and parameters as the log prints them."""
    return f"{figures.mult_adds:.5E}", f"{figures.parameters:.5E}"


@pytest.mark.parametrize(
    ("name", "mult_adds", "parameters"),
    [
        ("resnet18_cifar", "5.55423E+08", "1.11740E+07"),
        ("wrn40_2", "3.28304E+08", "2.24355E+06"),
        ("mobilenetv2_cifar", "9.11550E+07", "2.29692E+06"),
        ("mobilenet_cifar", "4.63544E+07", "3.21723E+06"),
        pytest.param("darts_cifar", "5.38201E+08", "3.34934E+06", marks=pytest.mark.slow),
        ("wrn28_10", "5.24564E+09", "3.64792E+07"),
    ],
)
def test_the_logs_originals(name: str, mult_adds: str, parameters: str) -> None:
    original = by_the_log(name, 12 if name == "darts_cifar" else 11).columns["original"]
    assert printed(original) == (mult_adds, parameters)


def test_the_logs_tiny_convnet() -> None:
    """Its original has biases, which its ACDC form has not."""
    found = workflows.count("tiny_convnet", convention="log").count.columns["original"]
    assert printed(found) == ("1.83065E+07", "8.96740E+04")


@pytest.mark.parametrize(
    ("name", "depth", "mult_adds", "exactly"),
    [
        ("tiny_convnet_no_bias", 11, "4.60235E+06", 11_005),
        ("resnet18_cifar", 11, "1.23381E+08", 151_178),
        ("wrn40_2", 11, "5.26963E+07", 100_202),
        ("mobilenet_cifar", 11, "5.33176E+07", 208_586),
        ("wrn28_10", 11, "7.99262E+08", 555_498),
        pytest.param("darts_cifar", 12, "5.38201E+08", 1_952_254, marks=pytest.mark.slow),
        # What the log printed before it counted all layers of a stack, which is one layer.
        ("wrn40_2", 1, "3.32076E+07", 46_442),
        ("mobilenet_cifar", 1, "1.13910E+07", 89_546),
        ("mobilenetv2_cifar", 1, "8.21483E+07", 1_151_258),
    ],
)
def test_the_logs_acdc_forms(name: str, depth: int, mult_adds: str, exactly: int) -> None:
    figures = by_the_log(name, depth).columns["auto"]
    assert (f"{figures.mult_adds:.5E}", figures.parameters) == (mult_adds, exactly)


def test_the_logs_low_rank_filters() -> None:
    """Six numbers a channel for nine, and as many Mult-Adds: "3.32076E+07 3.87140E+04"."""
    figures = by_the_log("wrn40_2", 1, depthwise="acdc").columns["auto"]
    assert (f"{figures.mult_adds:.5E}", figures.parameters) == ("3.32076E+07", 38_714)
    figures = by_the_log("wrn40_2", 11, depthwise="acdc").columns["auto"]
    assert figures.parameters == 92_474


def test_the_logs_mobilenetv2() -> None:
    """The log rewrites one convolution that grows by it, which takes an edited plan here."""
    name, grows = "mobilenetv2_cifar", "layers.1.conv1"
    network, trace, plan = planned(name, 11)
    assert count_network(network, trace, plan).columns["auto"].parameters == 1_319_002
    decided = {layer.name: layer for layer in plan.layers}
    assert decided[grows].reason == "not worth it: 2,112 parameters instead of 1,536"
    like = {"action": "rewrite", "substitution": "acdc", "config": plan.rewritten[0].config}
    layers = [layer.model_copy(update=like if layer.name == grows else {}) for layer in plan.layers]
    edited = plan.model_copy(update={"layers": layers})
    figures = workflows.count(name, plan=edited, convention="log").count.columns["auto"]
    assert (f"{figures.mult_adds:.5E}", figures.parameters) == ("2.65222E+08", 1_319_578)


def test_the_logs_bottleneck_blocks() -> None:
    options = PlanOptions(substitution="G8B2", keep=("*.shortcut",))
    found = workflows.count("wrn28_10", options=options).count.columns["auto"]
    assert (found.parameters, found.mult_adds) == (4_785_114, 755_423_488)
    found = workflows.count("wrn28_10", options=options, convention="log").count.columns["auto"]
    assert printed(found) == ("7.57734E+08", "4.78511E+06")


def test_what_the_log_adds_to_multiply_adds() -> None:
    """By hand: ReLUs, the pooling window, the bias."""
    counted = by_the_log("tiny_convnet_no_bias", 11)
    sides = [32] * 2 + [16] * 3 + [8] * 4
    channels = [24] * 3 + [48] * 6
    relus = sum(c * side**2 for c, side in zip(channels, sides, strict=True))
    (between,) = [row for row in counted.rows if row.name == "(between layers)"]
    assert between.columns["original"].mult_adds == relus + 64 * 48
    assert counted.columns["original"].mult_adds == 18_211_296 + relus + 64 * 48 + 10


@pytest.mark.slow
def test_what_the_log_adds_in_darts() -> None:
    """Dilated filters are at side + 2."""
    counted = by_the_log("darts_cifar", 12)
    (dilated,) = [row for row in counted.rows if row.name == "cells.0._ops.7.op.1"]
    assert dilated.columns["original"].mult_adds == 9 * 36 * 34**2
    added = (
        6 * 9 * sum(c * ((side + 2) ** 2 - side**2) for c, side in ((36, 32), (72, 16), (144, 8)))
    )
    assert added == 800_928
    (between,) = [row for row in counted.rows if row.name == "(between layers)"]
    total = 528_359_040 + added + between.columns["original"].mult_adds + 10
    assert counted.columns["original"].mult_adds == total == 537_399_946 + added


def positions(size: Sequence[int] | None) -> int:
    assert size is not None
    return math.prod(size)


def the_older_way(name: str, depth: int, *, at_one_position: bool = False) -> tuple[str, int]:
    """Mult-Adds and parameters of the log's older tables, from shapes alone.

    A stack stands where its convolution stood, without filters before it: 2N numbers a layer, L layers
    of 4N + 5N log₂ N at each position of the output (at first at a single one), even where N² is less.
    """
    network, _, plan = planned(name, depth)
    counted = by_the_log(name, depth)
    rewritten = {layer.name for layer in plan.rewritten}
    kept = [row.columns["original"] for row in counted.rows if row.name not in rewritten]
    mult_adds: float = sum(totals.mult_adds for totals in kept)
    parameters = sum(totals.parameters for totals in kept)
    for layer in plan.rewritten:
        conv = network.get_submodule(layer.name)
        assert isinstance(conv, nn.Conv2d)
        length = max(conv.in_channels, conv.out_channels)
        (calls,) = layer.calls
        where = 1 if at_one_position else positions(calls.output_size)
        mult_adds += depth * layer_mult_adds(length) * where
        parameters += 2 * length * depth
    return f"{mult_adds:.5E}", parameters


@pytest.mark.parametrize(
    ("name", "one_position", "output", "parameters", "one_layer"),
    [
        ("tiny_convnet_no_bias", "2.18184E+05", "2.94185E+07", 9_034, ("2.76143E+06", 1_834)),
        ("resnet18_cifar", "4.14427E+06", "2.31831E+08", 120_650, ("2.26888E+07", 25_930)),
        ("wrn40_2", "3.78971E+06", "2.43861E+08", 77_018, ("2.46428E+07", 23_258)),
    ],
)
def test_the_logs_older_tables(
    name: str, one_position: str, output: str, parameters: int, one_layer: tuple[str, int]
) -> None:
    """ "This is wrong, see below", then the positions, then "a much more reasonable result"."""
    assert the_older_way(name, 11, at_one_position=True) == (one_position, parameters)
    assert the_older_way(name, 11) == (output, parameters)
    assert the_older_way(name, 1) == one_layer


def test_the_convention_on_the_command_line(invoke: Invoke) -> None:
    how = ("wrn16_2", "--keep", "*.shortcut", "--depth", 11, "--convention", "log")
    shown = invoke("count", *how).stdout
    assert "Mult-Adds (log)" in shown
    assert "research log counts" in shown
    assert "fast" not in shown
    found = json.loads(invoke("count", *how, "--json").stdout)
    assert found["convention"] == "log"
    assert list(found["columns"]) == ["original", "auto"]
    for column, totals in found["columns"].items():
        rows = [row["columns"][column] for row in found["rows"]]
        assert sum(row["mult_adds"] for row in rows) == totals["mult_adds"]
        assert sum(row["parameters"] for row in rows) == totals["parameters"]
    lines = invoke("count", *how, "--csv").stdout.splitlines()
    assert lines[-1].split(",")[-1] == str(found["columns"]["auto"]["mult_adds"])
    assert "(between layers)" in invoke("count", *how, "--per-layer").stdout
    assert "--convention" in invoke("count", "wrn16_2", "--convention", "mac", code=2).stderr


def test_a_network_that_stays_as_it_is(invoke: Invoke) -> None:
    how = ("count", "mobilenet_cifar", "--only", "layers.0.conv1", "--convention", "log", "--json")
    columns = json.loads(invoke(*how).stdout)["columns"]
    assert columns["auto"] == columns["original"]
    assert columns["auto"]["mult_adds"] == 46_354_432 + 10


@pytest.mark.parametrize("family", substitutions.names())
@pytest.mark.parametrize("options", [{}, {"on": "kernel"}], ids=str)
def test_the_logs_convention_takes_every_family(family: str, options: dict[str, str]) -> None:
    """Families that the log has no rule for count as they run; the classifier's bias is added."""
    chosen = substitutions.get(family)
    if options.keys() - chosen.Config.model_fields.keys():
        pytest.skip("it has no such option")
    planned = workflows.count(
        "resnet18_cifar",
        options=PlanOptions(substitution=family, config=options),
        convention="log",
    ).count
    ours = workflows.count(
        "resnet18_cifar", options=PlanOptions(substitution=family, config=options)
    ).count
    found = planned.column("auto").mult_adds
    if family in ("acdc", "afdf"):
        assert found > 0
        return
    ways = [ours.column(way).mult_adds + 10 for way in ("dense", "fast")]
    assert min(ways) <= found <= max(ways)
