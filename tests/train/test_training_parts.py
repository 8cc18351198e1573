"""Losses, taps and optimisers, each by itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seclcompress import networks, substitutions
from seclcompress.errors import UsageError
from seclcompress.losses import (
    attention_map,
    attention_transfer,
    knowledge_distillation,
    product_decay,
)
from seclcompress.optim import (
    SCHEDULES,
    factor_decay,
    factor_decay_by_ratio,
    make_optimizers,
    set_learning_rate,
)
from seclcompress.settings.training import TrainingSettings
from seclcompress.taps import Taps, find_taps
from seclcompress.trace import trace_network


class TestLosses:
    def test_attention_by_hand(self) -> None:
        x = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
        expected = torch.tensor([5.0, 2.0]) / (25 + 4) ** 0.5
        torch.testing.assert_close(attention_map(x)[0], expected)

    def test_attention_does_not_see_scale_or_channels(self) -> None:
        x = torch.randn(2, 5, 4, 4)
        maps = attention_map(x * 3), attention_map(torch.cat([x, x], 1))
        assert float(attention_transfer(maps[:1], maps[1:], 1000)) < 1e-9
        assert float(attention_transfer([], [], 1000)) == 0

    def test_the_number_of_taps_does_not_change_the_size(self) -> None:
        one, two = (attention_map(torch.randn(2, 5, 4, 4)) for _ in range(2))
        single = attention_transfer([one], [two], 7.0)
        assert float(single) == pytest.approx(float(attention_transfer([one] * 4, [two] * 4, 7.0)))
        distance = F.mse_loss(one, two)
        assert float(single) == pytest.approx(7 * 3 * float(distance))

    def test_distillation_by_hand(self) -> None:
        s, t = torch.randn(3, 5), torch.randn(3, 5)
        y = torch.tensor([0, 1, 2])
        temperature, alpha = 4.0, 0.9
        p, q = (s / temperature).softmax(1), (t / temperature).softmax(1)
        divergence = (q * (q / p).log()).sum(1).mean()
        expected = alpha * 16 * 2 * divergence + 0.1 * F.cross_entropy(s, y)
        torch.testing.assert_close(knowledge_distillation(s, t, y, alpha, temperature), expected)
        torch.testing.assert_close(knowledge_distillation(s, t, y, 0, 4), F.cross_entropy(s, y))
        assert float(knowledge_distillation(s, s, y, 1, 4)) == pytest.approx(0, abs=1e-5)


class TestTaps:
    @pytest.mark.parametrize(
        ("name", "size", "expected"),
        [
            ("wrn16_2", 32, ["group1", "group2", "group3"]),
            ("resnet18", 224, ["layer1", "layer2", "layer3", "layer4"]),
            ("resnet18", 32, ["layer1", "layer2", "layer3"]),
            ("vgg11_bn", 224, [f"features.{i}" for i in (4, 11, 18, 25)]),
            ("mobilenet_v2", 224, [f"features.{i}" for i in (1, 3, 6, 13, 18)]),
            ("efficientnet_b0", 224, [f"features.{i}" for i in (1, 2, 3, 5, 8)]),
            ("regnet_y_400mf", 224, [f"trunk_output.block{i}" for i in (1, 2, 3, 4)]),
            ("densenet121", 224, [f"features.denseblock{i}" for i in (1, 2, 3, 4)]),
            ("convnext_tiny", 224, [f"features.{i}" for i in (1, 3, 5, 7)]),
            ("shufflenet_v2_x0_5", 224, ["stage2", "stage3", "conv5"]),
        ],
    )
    def test_ends_of_the_resolution_groups(self, name: str, size: int, expected: list[str]) -> None:
        network = networks.build(networks.named_spec(name), skeleton=True)
        assert find_taps(network, trace_network(network, (3, size, size))) == expected

    def test_a_transformer_has_none(self) -> None:
        network = networks.build(networks.named_spec("vit_b_32"), skeleton=True)
        assert find_taps(network, trace_network(network, (3, 224, 224))) == []

    def test_outputs_are_handed_over_once(self) -> None:
        network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Identity(), nn.Conv2d(4, 2, 1))
        with Taps(network, ["2", "0"]) as taps:
            y = network(torch.randn(1, 3, 5, 5))
            last, first = taps.take()
            assert last is y
            assert first.shape == (1, 4, 5, 5)
            with pytest.raises(KeyError):
                taps.take()
        network(torch.randn(1, 3, 5, 5))
        assert not network[0]._forward_hooks

    def test_a_module_that_is_not_there(self) -> None:
        with pytest.raises(UsageError, match="no module 'layer9' to tap"):
            Taps(nn.Sequential(), ["layer9"])


class TestProductDecay:
    def test_it_is_weight_decay_on_the_product(self) -> None:
        """With one factor that is the matrix itself, the gradient is λW."""
        w = torch.randn(3, 4, requires_grad=True)
        product_decay([w, w], 0.1).backward()
        torch.testing.assert_close(w.grad, 2 * 0.1 * w.detach())
        assert float(product_decay([], 0.1)) == 0

    @pytest.mark.parametrize("name", ["acdc", "separable"])
    def test_a_layer_keeps_the_matrix_of_its_last_pass(self, name: str) -> None:
        family = substitutions.get(name)
        layer = family.build(nn.Conv2d(4, 8, 3, padding=1), family.config({})).train()
        layer.keep_product(True)
        layer(torch.randn(64, 4, 9, 9))
        if name == "separable":
            assert layer.products() == []
            return
        kept = layer.pointwise._product
        [product] = layer.products()
        assert product is kept
        assert layer.pointwise._product is None
        [anew] = layer.products()
        torch.testing.assert_close(anew, product)
        product.square().sum().backward()
        assert layer.pointwise.a.grad is not None


class TestOptim:
    def network(self) -> nn.Module:
        acdc = substitutions.get("acdc")
        return nn.Sequential(acdc.build(nn.Conv2d(4, 8, 3), acdc.config({})), nn.BatchNorm2d(8))

    def test_the_diagonals_have_their_own_decay_and_rate(self) -> None:
        network = self.network()
        settings = TrainingSettings(lr=0.1, weight_decay=5e-4, factor_lr=3, factor_optimizer="same")
        [optimizer] = make_optimizers(network, settings, 1e-6)
        rest, factors = optimizer.param_groups
        assert (rest["weight_decay"], factors["weight_decay"]) == (5e-4, 1e-6)
        layer = network[0]
        assert {id(p) for p in factors["params"]} == {id(layer.pointwise.a), id(layer.pointwise.d)}
        assert len(rest["params"]) == 4
        set_learning_rate([optimizer], settings, 0)
        assert (rest["lr"], factors["lr"]) == pytest.approx((0.1, 0.3))
        [alone] = make_optimizers(nn.Linear(2, 2), settings, 0)
        assert len(alone.param_groups) == 1

    def test_the_diagonals_can_have_their_own_optimiser(self) -> None:
        settings = TrainingSettings(lr=0.1)
        assert (settings.factor_optimizer, settings.factor_lr_share) == ("adamw", 0.1)
        assert TrainingSettings(factor_optimizer="same").factor_lr_share == 1
        assert TrainingSettings(optimizer="adamw").factor_lr_share == 1
        assert TrainingSettings(factor_lr=2).factor_lr_share == 2
        first, second = make_optimizers(self.network(), settings, 0)
        assert isinstance(first, torch.optim.SGD)
        assert isinstance(second, torch.optim.AdamW)
        assert len(second.param_groups[0]["params"]) == 2
        set_learning_rate([first, second], settings, 0)
        assert second.param_groups[0]["lr"] == pytest.approx(0.01)
        both = make_optimizers(
            self.network(), TrainingSettings(optimizer="adamw", factor_optimizer="adamw"), 0
        )
        assert len(both) == 1
        assert isinstance(both[0], torch.optim.AdamW)

    def test_the_decay_rules(self) -> None:
        assert factor_decay_by_ratio(5e-4, 100_202, 2_243_546) == pytest.approx(2.233e-5, rel=1e-3)
        found = [
            factor_decay(TrainingSettings(weight_decay=5e-4, factor_decay=rule), 1, 10)
            for rule in ("ratio", "fixed", "product", 0.25)
        ]
        assert found == pytest.approx([5e-5, 8.8e-6, 0, 0.25])

    def test_schedules(self) -> None:
        assert SCHEDULES["cosine"](0) == 1
        assert SCHEDULES["cosine"](0.5) == pytest.approx(0.5)
        assert SCHEDULES["cosine"](1) == pytest.approx(0)
        found = [SCHEDULES["step"](epoch / 200) for epoch in (0, 59, 60, 119, 120, 160, 199)]
        assert found == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.008, 0.008])

    def test_warming_up(self) -> None:
        settings = TrainingSettings(lr=0.1, epochs=100, warmup_epochs=2)
        optimizers = make_optimizers(nn.Linear(2, 2), settings, 0)
        found = [set_learning_rate(optimizers, settings, done) for done in (0, 1, 2)]
        assert 0 < found[0] < 1e-4
        assert found[1:] == pytest.approx([0.05, 0.1], rel=1e-2)
