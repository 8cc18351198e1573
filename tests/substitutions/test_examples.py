"""The example families, one for each shape, keep the promises of their shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from examples import (
    acdc_depthwise,
    bottleneck_block,
    low_rank,
    symmetric_depthwise,
    symmetric_full,
)
from promises import BlockPromises, FactoredPromises, FullPromises, SplitPromises
from torch import nn

from seclcompress import rewrite, substitutions
from seclcompress.plan import make_plan
from seclcompress.settings import PlanOptions
from seclcompress.trace import trace_network


class TestSymmetric(FullPromises):
    family = symmetric_full.SUBSTITUTION
    channels = (8, 8)


class TestBottleneck(BlockPromises):
    family = bottleneck_block.SUBSTITUTION
    cases = ({}, {"reduction": 5, "groups": 2})
    linear = "bottleneck_block is not affine, so it is not for Linear layers"


class TestLowRank(SplitPromises, FactoredPromises):
    family = low_rank.SUBSTITUTION
    cases = ({}, {"rank": 5})

    def test_plain_it_stays_two_matrices(self, options: dict[str, Any]) -> None:
        _, built = self.built(options, 3)
        plain = built.to_plain()
        assert [type(part) for part in plain] == [nn.Conv2d] * 3
        numbers = sum(p.numel() for p in plain.parameters())
        assert numbers == sum(p.numel() for p in built.parameters())


class TestAcdcDepthwise(SplitPromises, FactoredPromises):
    """SECL-LR's filters: a family with structure in the depthwise part."""

    family = acdc_depthwise.SUBSTITUTION
    kernels = (3,)
    dimensions = (2,)
    linear = "a Linear has no space"


class TestSymmetricDepthwise(FullPromises):
    """A family for depthwise convolutions alone."""

    family = symmetric_depthwise.SUBSTITUTION
    channels = (8, 8)
    kernels = (3,)
    dimensions = (2,)
    depthwise = True
    linear = "symmetric_depthwise is not for Linear layers"


def test_depthwise_layers_are_planned_and_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    family = symmetric_depthwise.SUBSTITUTION
    registered = {**substitutions._registered(), family.name: family}
    monkeypatch.setattr(substitutions, "_registered", lambda: registered)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8, padding=1), nn.Conv2d(8, 8, 1)
    ).eval()
    trace = trace_network(network, (3, 9, 9))
    plan = make_plan(network, trace, PlanOptions(substitution=family.name, head=True))
    assert [layer.name for layer in plan.rewritten] == ["1"]
    assert plan.layers[2].reason == "symmetric_depthwise is not for convolutions of this kind"
    rewrite.rewrite_network(network, plan)
    dense = rewrite.to_dense(network)
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(dense(x), network(x))
    found = trace_network(dense, (3, 9, 9)).mult_adds["1"]
    assert found == plan.rewritten[0].cost.mult_adds["dense"]
