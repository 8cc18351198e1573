"""The losses, one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seclcompress import substitutions
from seclcompress.losses import (
    attention_map,
    attention_transfer,
    knowledge_distillation,
    product_decay,
)


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


class TestProductDecay:
    def test_it_is_weight_decay_on_the_product(self) -> None:
        """If the only factor is the matrix itself, the gradient is λW."""
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
        make = layer.pointwise.make_weight
        made: list[int] = []
        layer.pointwise.make_weight = lambda: made.append(1) or make()
        [product] = layer.products()
        assert made == [], "it is that of the pass"
        [anew] = layer.products()
        assert made == [1], "and is given once"
        torch.testing.assert_close(anew, product)
        product.square().sum().backward()
        assert layer.pointwise.a.grad is not None
