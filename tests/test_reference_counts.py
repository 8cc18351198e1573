"""docs/reference_counts.md: the convention that gives each published figure, digit for digit."""

from __future__ import annotations

import math

import pytest

from seclcompress import resolve
from seclcompress.count import count_network
from seclcompress.plan import Plan, PlanOptions, make_plan
from seclcompress.stack import stack_mult_adds
from seclcompress.substitutions.acdc import stack_length
from seclcompress.substitutions.site import as_convolution
from seclcompress.trace import Trace, trace_network


def planned(name: str, depth: int, keep: tuple[str, ...] = ("*.shortcut",)) -> tuple[Trace, Plan]:
    source = resolve.locate(name)
    network = source.skeleton()
    trace = trace_network(network, source.input_size)
    return trace, make_plan(network, trace, PlanOptions(config={"depth": depth}, keep=keep))


def relu_elements(trace: Trace) -> int:
    """Elements of all ReLU outputs of a wide residual network; a ReLU follows each batch norm."""
    return sum(math.prod(call.shape) for call in trace.calls if "bn" in call.name.split(".")[-1])


def by_the_log(name: str, depth: int, *, square: bool, at_input: bool) -> int:
    """Mult-Adds as the authors' script counted them.

    The pointwise map counts as the fast transform, or with `square` as the cheaper of that and a square
    N×N matrix. With `at_input`, that of a strided convolution is counted at the input's resolution. One
    operation is added for each ReLU element.
    """
    trace, plan = planned(name, depth)
    network = resolve.locate(name).skeleton()
    total = trace.total_mult_adds + relu_elements(trace)
    for layer in plan.rewritten:
        length = stack_length(as_convolution(network.get_submodule(layer.name)))
        (calls,) = layer.calls
        assert calls.times == 1
        fast = stack_mult_adds(length, depth)
        pointwise = min(fast, length**2) if square else fast
        strided = "stride=(2, 2)" in layer.layer
        assert calls.input_size is not None
        assert math.prod(calls.input_size) == math.prod(calls.output_size) * (4 if strided else 1)
        positions = math.prod(calls.input_size if at_input else calls.output_size)
        # The dense execution costs exactly as much as a plain separable convolution.
        assert layer.separable.under("dense") == layer.cost.under("dense")
        depthwise = layer.cost.under("fast") - fast * math.prod(calls.output_size)
        total += depthwise + pointwise * positions - layer.original.under("dense")
    return total


def test_the_logs_original() -> None:
    trace, _ = planned("wrn40_2", 12)
    assert relu_elements(trace) == 704_512
    assert trace.total_mult_adds + relu_elements(trace) == 328_303_872  # "3.28304E+08"


def test_the_papers_33_2_million() -> None:
    assert by_the_log("wrn40_2", 1, square=False, at_input=True) == 33_207_552  # "3.32076E+07"
    _, plan = planned("wrn40_2", 1)
    saved = sum(layer.original.parameters - layer.cost.parameters for layer in plan.layers)
    assert 2_243_546 - saved == 46_442  # "46.4K"


def test_the_logs_52_7_million() -> None:
    assert by_the_log("wrn40_2", 11, square=True, at_input=True) == 52_696_320  # "5.26963E+07"
    assert by_the_log("wrn40_2", 11, square=True, at_input=False) == 46_404_864
    assert by_the_log("wrn40_2", 11, square=True, at_input=False) - 704_512 == (
        44_127_488 + 3 * 524_288
    )


def test_the_logs_wide_network() -> None:
    trace, _ = planned("wrn28_10", 11)
    assert trace.total_mult_adds + relu_elements(trace) == pytest.approx(5.24564e9, rel=1e-5)
    found = by_the_log("wrn28_10", 11, square=True, at_input=True)
    assert found == pytest.approx(7.99262e8, rel=1e-5)


def test_the_logs_resnet18() -> None:
    """The log's stem is 3×3 (1,728 weights), torchvision's 7×7 (9,408). Shortcuts are rewritten."""
    source = resolve.locate("resnet18", num_classes=10, input_size=(3, 32, 32))
    network = source.skeleton()
    trace = trace_network(network, source.input_size)
    plan = make_plan(network, trace, PlanOptions(config={"depth": 11}))
    counted = count_network(network, trace, plan)
    assert counted.columns["auto"].parameters - 9_408 + 1_728 == 151_178  # "1.51178E+05"
