"""Taps: the modules whose attention is compared."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from seclcompress import networks
from seclcompress.errors import UsageError
from seclcompress.taps import Taps, find_taps
from seclcompress.trace import trace_network


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
