"""The bottleneck of Moonshine: its blocks, its names, and the totals that its networks have."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from conftest import Invoke
from promises import BlockPromises
from torch import nn

from seclcompress import networks, substitutions
from seclcompress.errors import UsageError
from seclcompress.plan import Plan, make_plan
from seclcompress.plan.given import fit_plan
from seclcompress.settings import PlanOptions
from seclcompress.trace import trace_network


class TestBottleneck(BlockPromises):
    family = substitutions.get("bottleneck")
    channels = (6, 32)
    kernels = (3,)
    cases = ({}, {"groups": "depthwise", "reduction": 4}, {"groups": "full", "reduction": 16})
    linear = "bottleneck is not affine, so it is not for Linear layers"


@cache
def planned(network: str, name: str, **config: object) -> Plan:
    built = networks.build(networks.named_spec(network), skeleton=True)
    options = PlanOptions(substitution=name, config=config)
    return make_plan(built, trace_network(built, (3, 32, 32)), options)


def totals(network: str, name: str) -> tuple[int, int]:
    built = networks.build(networks.named_spec(network), skeleton=True)
    plan = planned(network, name)
    everything = sum(parameter.numel() for parameter in built.parameters())
    saved = sum(layer.original.parameters - layer.cost.parameters for layer in plan.layers)
    trace = trace_network(built, (3, 32, 32))
    fewer = sum(layer.original.under("dense") - layer.mult_adds for layer in plan.layers)
    return everything - saved, trace.total_mult_adds - fewer


class TestTotals:
    """Shortcuts and stem left, as Moonshine does."""

    @pytest.mark.parametrize(
        ("network", "name", "parameters"),
        [
            ("wrn28_10", "G2B2", 4_543_194),
            ("wrn28_10", "G4B2", 4_623_834),
            ("wrn28_10", "G8B2", 4_785_114),
            ("wrn28_10", "G16B2", 5_107_674),
            ("wrn28_10", "DConvB4", 2_393_114),
            ("wrn40_2", "DConvB4", 152_954),
            ("wrn40_2", "G2B2", 300_122),
            ("wrn40_2", "G8B2", 372_698),
        ],
    )
    def test_parameters(self, network: str, name: str, parameters: int) -> None:
        assert totals(network, name)[0] == parameters

    def test_mult_adds(self) -> None:
        assert totals("wrn28_10", "G8B2")[1] == 755_423_488


class TestRefusals:
    @pytest.mark.parametrize(
        ("conv", "words"),
        [
            (nn.Conv2d(8, 8, 1), "a bottleneck is for kernels above 1×1"),
            (nn.Conv2d(8, 9, 3), "its 9 output channels cannot be divided by reduction=2"),
            (nn.Conv2d(8, 24, 3), "12 channels in the middle cannot be split into groups of 8"),
        ],
    )
    def test_in_words(self, conv: nn.Module, words: str) -> None:
        family = substitutions.get("bottleneck")
        reason = family.refuse(conv, family.config({}))
        assert reason is not None
        assert words in reason

    @pytest.mark.parametrize("value", ["3", "0", "-8", "x", True, 32])
    def test_other_groups(self, value: object) -> None:
        family = substitutions.get("bottleneck")
        with pytest.raises(UsageError, match="Options of substitution 'bottleneck': groups"):
            family.config({"groups": value})


class TestNames:
    @pytest.mark.parametrize(
        ("name", "groups", "reduction"),
        [("G8B2", 8, 2), ("DConvB4", "depthwise", 4), ("B16", "full", 16), ("G16B2", 16, 2)],
    )
    def test_an_alias_stands_for_options(self, name: str, groups: object, reduction: int) -> None:
        family, config = substitutions.configured(name, {})
        assert family.name == "bottleneck"
        assert config.model_dump() == {"groups": groups, "reduction": reduction}

    @pytest.mark.parametrize("name", ["G3B2", "g8b2", "G8B3", "G8", "DConvB", "G8B2 "])
    def test_others_are_unknown(self, name: str) -> None:
        with pytest.raises(UsageError, match="Unknown substitution"):
            substitutions.configured(name, {})

    def test_an_option_that_contradicts_the_alias(self) -> None:
        words = "G8B2 stands for bottleneck with groups=8, but groups=4 is given as well"
        with pytest.raises(UsageError, match=words):
            substitutions.configured("G8B2", {"groups": "4"})
        assert (
            substitutions.configured("G8B2", {"groups": "8"})[1]
            == (substitutions.configured("G8B2", {})[1])
        )

    def test_a_plan_stores_the_family_and_takes_the_alias(self) -> None:
        plan = planned("wrn10_1", "G4B2")
        assert plan.families == ["bottleneck"]
        assert plan.rewritten[0].config == {"groups": 4, "reduction": 2}
        edited = plan.model_copy(deep=True)
        for layer in edited.rewritten:
            layer.substitution, layer.config = "DConvB2", {}
        network = networks.build(networks.named_spec("wrn10_1"), skeleton=True)
        fitted = fit_plan(edited, network, trace_network(network, (3, 32, 32)), "plan.json")
        assert fitted.rewritten[0].substitution == "bottleneck"
        assert fitted.rewritten[0].config == {"groups": "depthwise", "reduction": 2}

    def test_on_the_command_line(self, invoke: Invoke) -> None:
        counted = invoke("count", "wrn28_10", "--substitution", "G8B2", "--json")
        assert "4785114" in counted.stdout
        failed = invoke(
            "count", "wrn10_1", "--substitution", "G8B2", "--option", "groups=2", code=2
        )
        assert "G8B2 stands for bottleneck with groups=8" in failed.stderr.replace("\n", " ")


def test_the_filters_start_for_relus_and_the_bias_is_the_originals() -> None:
    conv = nn.Conv2d(32, 64, 3)
    family, config = substitutions.configured("G8B2", {})
    built = family.build(conv, config)
    assert torch.equal(built.body[-1].bias, conv.bias)
    assert float(built.body[0].weight.detach().std()) == pytest.approx((2 / 32) ** 0.5, rel=0.2)
