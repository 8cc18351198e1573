"""The memory layout of a run."""

from __future__ import annotations

import pytest
import torch
from runs import digits
from torch import nn

from seclcompress import substitutions
from seclcompress.settings.training import TrainingSettings
from seclcompress.train.environment import lay_out, layout


def strided(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, 20, kernel, stride=stride)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (strided(15, 1, 2), torch.contiguous_format),
        (strided(16, 1, 2), torch.channels_last),
        (strided(15, 1, 1), torch.channels_last),
        (strided(15, 3, 2), torch.channels_last),
    ],
)
def test_what_onednn_cannot_do_in_channels_last(
    layer: nn.Conv2d, expected: torch.memory_format
) -> None:
    """There it writes past its memory in the backward pass (uxlfoundation/oneDNN#6035)."""
    settings, data = TrainingSettings(), digits()
    assert layout(nn.Sequential(layer), settings, data) == expected
    acdc = substitutions.get("acdc")
    structured = acdc.build(layer, acdc.config({"depth": 2}))
    assert layout(nn.Sequential(structured), settings, data) == expected
    network = lay_out(nn.Sequential(layer, nn.Conv2d(20, 8, 3)), settings, data)
    assert network[1].weight.is_contiguous(memory_format=expected)
    plain = settings.model_copy(update={"channels_last": False})
    assert layout(nn.Sequential(layer), plain, data) == torch.contiguous_format
