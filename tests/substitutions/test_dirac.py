"""The Dirac family: an identity and normalised filters, each with gains of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from promises import FullPromises
from torch import nn

from seclcompress import substitutions
from seclcompress.cost import LayerCost
from seclcompress.inference import for_inference
from seclcompress.optim import make_optimizers
from seclcompress.plan import Choice
from seclcompress.plan.entries import Layer, rewritten
from seclcompress.settings import TrainingSettings
from seclcompress.substitutions import CallSize, Site, StructuredLayer
from seclcompress.substitutions.dirac import DiracConv

FAMILY = substitutions.get("dirac")


def dirac(conv: nn.Module, **options: Any) -> DiracConv:
    built = FAMILY.build(conv, FAMILY.config(options))
    assert isinstance(built, DiracConv)
    return built


class TestDirac(FullPromises):
    family = substitutions.get("dirac")

    def in_the_rest(self, layer: StructuredLayer) -> list[nn.Parameter]:
        return [layer.direction]


def test_its_note_reaches_the_plan() -> None:
    site = Site(nn.Conv2d(8, 8, 3), {CallSize((5, 5), (3, 3)): 1})
    config = FAMILY.config({})
    cost = FAMILY.cost(site, config)
    assert cost.parameters == 9 * 64 + 8 + 16
    layer = Layer(site, LayerCost(584, {"dense": 1}))
    entry = rewritten(layer, FAMILY, config, cost, Choice("dense"))
    words = "asked for, though it adds 2.7 % to its parameters; its gains fold away when it runs"
    assert entry.reason == words


class TestTheFormula:
    @pytest.mark.parametrize(
        ("c_in", "c_out", "groups"), [(6, 6, 1), (4, 8, 1), (8, 4, 1), (6, 6, 2)]
    )
    def test_without_filters_it_is_the_identity(self, c_in: int, c_out: int, groups: int) -> None:
        layer = dirac(nn.Conv2d(c_in, c_out, 3, padding=1, groups=groups, bias=False), init="paper")
        with torch.no_grad():
            layer.b.zero_()
            x = torch.randn(2, c_in, 5, 5)
            wanted = torch.cat([x, x], 1)[:, :c_out]
            assert torch.equal(layer(x), wanted)

    def test_the_papers_gains_and_unit_filters(self) -> None:
        layer = dirac(nn.Conv2d(6, 6, 3), init="paper")
        assert torch.equal(layer.a, torch.ones(6))
        assert torch.equal(layer.b, torch.full((6,), 0.1))
        with torch.no_grad():
            layer.a.zero_()
            layer.direction.mul_(7)
            norms = layer.make_weight().flatten(1).norm(dim=1)
        torch.testing.assert_close(norms, torch.full((6,), 0.1))

    def test_paper_gains_do_not_follow_the_original(self) -> None:
        conv = nn.Conv2d(64, 64, 3, bias=False)
        nn.init.normal_(conv.weight, std=9)
        x = torch.randn(8, 64, 9, 9)
        with torch.no_grad():
            assert float(dirac(conv, init="paper")(x).var()) == pytest.approx(1.01, rel=0.1)
            assert float(dirac(conv)(x).var()) == pytest.approx(float(conv(x).var()), rel=0.1)

    def test_it_starts_from_trained_weights_exactly(self) -> None:
        for conv in (nn.Conv2d(6, 10, 3), nn.Conv1d(8, 4, 3, groups=2), nn.Linear(5, 5)):
            layer = FAMILY.build(conv.double(), FAMILY.config({}))
            fit = layer.fit(conv)
            assert fit is not None
            assert fit.left < 1e-15
            torch.testing.assert_close(layer.to_dense().weight, conv.weight, rtol=0, atol=1e-15)

    def test_a_filter_that_is_the_identity_alone_can_still_learn(self) -> None:
        conv = nn.Conv2d(3, 3, 3, bias=False)
        nn.init.dirac_(conv.weight)
        layer = dirac(conv)
        assert layer.fit(conv).left == 0
        layer(torch.randn(1, 3, 5, 5)).square().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
        assert float(layer.b.grad.abs().min()) > 0


class TestTraining:
    def test_the_gains_are_not_decayed_and_the_filters_are(self) -> None:
        network = nn.Sequential(dirac(nn.Conv2d(4, 4, 3)))
        (optimizer,) = make_optimizers(network, TrainingSettings(weight_decay=0.5), 0.1)
        decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
        layer = network[0]
        assert [decay[id(p)] for p in (layer.a, layer.b)] == [0.0, 0.0]
        assert decay[id(layer.direction)] == 0.5

    def test_it_folds_with_batch_norm_into_one_convolution(self) -> None:
        network = nn.Sequential(dirac(nn.Conv2d(4, 6, 3, bias=False)), nn.BatchNorm2d(6), nn.ReLU())
        network(torch.randn(8, 4, 6, 6) * 2 + 1)
        ready = for_inference(network.eval(), (4, 6, 6))
        assert [type(module) for module in ready] == [nn.Conv2d, nn.Identity, nn.ReLU]
        x = torch.randn(2, 4, 6, 6)
        with torch.no_grad():
            torch.testing.assert_close(ready(x), network(x), atol=1e-5, rtol=1e-5)
