"""torch's convolution as a function of the weight, for every way to pad."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from seclcompress.substitutions.shapes.convolve import convolve, pad
from seclcompress.substitutions.site import CONVOLUTIONS


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [0, 2, "valid", "same"])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (3, 2), (4, 1), (5, 1)])
def test_it_pads_as_torch_does(
    dimensions: int, mode: str, padding: Any, kernel: int, dilation: int
) -> None:
    stride = 1 if padding == "same" else 2
    conv = CONVOLUTIONS[dimensions](
        *(4, 6, kernel),
        stride=stride,
        padding=padding,
        padding_mode=mode,
        dilation=dilation,
        groups=2,
        dtype=torch.float64,
    )
    x = torch.randn(2, 4, *(9, 8, 7)[:dimensions], dtype=torch.float64)
    torch.testing.assert_close(convolve(x, conv.weight, conv.bias, conv, 2), conv(x))


def test_without_groups_and_bias() -> None:
    conv = nn.Conv2d(3, 5, 3, padding=(2, 0), bias=False)
    x = torch.randn(1, 3, 6, 6)
    torch.testing.assert_close(convolve(x, conv.weight, None, conv), conv(x))


def test_zeros_around_an_image() -> None:
    conv = nn.Conv2d(2, 3, (1, 3), padding=(2, 1), bias=False)
    x = torch.randn(1, 2, 4, 5)
    whole = pad(x, conv, (1, 3))
    assert whole.shape == (1, 2, 8, 7)
    torch.testing.assert_close(nn.functional.conv2d(whole, conv.weight), conv(x))
