"""Convolutions of every kind that torch has, drawn by hypothesis."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import nn

from seclcompress.substitutions.site import CONVOLUTIONS

#: Settings for promises that the tests of many families inherit. A convolution on which one family
#: failed is tried on all of them.
inherited = settings(max_examples=40, suppress_health_check=[HealthCheck.differing_executors])


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, torch.Tensor]:
    """Any convolution in float64, and an input that it accepts."""
    dimensions = draw(st.sampled_from([2, 2, 2, 1, 3]))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    c_in = groups * draw(st.integers(1, 13 // groups))
    c_out = c_in if draw(st.booleans()) else groups * draw(st.integers(1, 13 // groups))
    cube = st.integers(1, 4).map(lambda size: [size] * dimensions)
    box = st.lists(st.integers(1, 4), min_size=dimensions, max_size=dimensions)
    kernel = draw(st.one_of(cube, box))
    dilation = draw(st.integers(1, 2))
    stride = draw(st.lists(st.integers(1, 3), min_size=dimensions, max_size=dimensions))
    padding: Any = draw(st.sampled_from([0, 1, 2, "same", "valid"]))
    if padding == "same":
        stride = [1] * dimensions
    mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
    sizes = [(k - 1) * dilation + 1 + draw(st.integers(2, 5)) for k in kernel]
    torch.manual_seed(draw(st.integers(0, 999)))
    conv = CONVOLUTIONS[dimensions](
        c_in,
        c_out,
        tuple(kernel),
        stride=tuple(stride),
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=mode,
        dtype=torch.float64,
    )
    x = torch.randn(draw(st.integers(1, 2)), c_in, *sizes, dtype=torch.float64)
    return conv, x
