"""AFDF: complex diagonals and Fourier transforms, with real inputs and outputs."""

from __future__ import annotations

import pytest
import torch
from promises import FactoredPromises, SplitPromises
from torch import nn

from seclcompress import substitutions
from seclcompress.errors import UsageError
from seclcompress.substitutions import CallSize, Site
from seclcompress.transforms import riffle

AFDF = substitutions.get("afdf")


class TestAfdf(SplitPromises, FactoredPromises):
    family = substitutions.get("afdf")
    cases = (
        {"depth": 2},
        {},
        {"depth": 1, "permutation": "none"},
        {"depth": 2, "block": 2, "permutation": "random", "permutation_seed": 5},
    )


def test_it_is_the_formula() -> None:
    """The numbers between the layers are complex; the real part is taken at the end."""
    torch.manual_seed(0)
    conv = nn.Conv1d(12, 12, 1, bias=False, dtype=torch.float64)
    built = AFDF.build(conv, AFDF.config({"depth": 3})).pointwise
    f = torch.fft.fft(torch.eye(12, dtype=torch.complex128))
    p = riffle(torch.eye(12, dtype=torch.float64)).to(f.dtype)
    whole = torch.eye(12, dtype=f.dtype)
    for a, d in zip(*(torch.view_as_complex(x.detach()) for x in (built.a, built.d)), strict=True):
        whole = whole @ torch.diag(a) @ f @ torch.diag(d) @ torch.linalg.inv(f) @ p
    assert whole.imag.abs().max() > 0.01, "the real part is another matrix"
    torch.testing.assert_close(built.make_weight().detach(), whole.real.mT)


@pytest.mark.parametrize(
    ("channels", "depth", "block", "parameters"),
    [
        (32, 1, 1, 128),  # the research log's AFDF_1 … AFDF_32, BDAFDF_1_32 … BDAFDF_2_8
        (32, 32, 1, 4096),
        (64, 16, 1, 4096),
        (32, 1, 2, 256),
        (32, 2, 2, 512),
        (64, 1, 8, 2048),
        (64, 2, 4, 2048),
        (64, 2, 8, 4096),
    ],
)
def test_parameters_are_the_logs(channels: int, depth: int, block: int, parameters: int) -> None:
    site = Site(nn.Conv1d(channels, channels, 1, bias=False), {CallSize((1,), (1,)): 1})
    config = AFDF.config({"depth": depth, "block": block})
    cost = AFDF.cost(site, config)
    assert cost.parameters == parameters
    log2 = {32: 5, 64: 6}[channels]
    assert cost.mult_adds == {
        "dense": channels**2,
        "fast": depth * (8 * channels * block + 10 * channels * log2),
    }
    assert cost.parameters == sum(p.numel() for p in AFDF.build(site, config).parameters())


@pytest.mark.parametrize("block", [1, 4])
def test_untrained_it_is_unitary_before_the_real_part(block: int) -> None:
    conv = nn.Conv1d(16, 16, 1, bias=False, dtype=torch.float64)
    nn.init.normal_(conv.weight, std=1 / 16)
    built = AFDF.build(conv, AFDF.config({"depth": 2, "block": block})).pointwise
    a, d = (built.form.factors(x.detach()) for x in (built.a, built.d))
    assert a.shape == ((2, 16) if block == 1 else (2, 4, 4, 4))
    for factors in (a, d):
        if block == 1:
            sizes = factors.abs()
        else:
            square = factors @ factors.mH
            sizes = square.diagonal(dim1=-2, dim2=-1).real.sqrt()
            off = square - torch.diag_embed(square.diagonal(dim1=-2, dim2=-1))
            assert off.abs().max() < 1e-9
        torch.testing.assert_close(sizes, sizes.flatten()[0].expand_as(sizes))
    assert float(a.imag.abs().mean()) > 0.05


def test_options_are_checked() -> None:
    words = "It takes: depth, permutation, permutation_seed, block"
    for options in ({"depth": 0}, {"block": 0}, {"init": "paper"}, {"permutation_seed": 1}):
        with pytest.raises(UsageError, match=words):
            AFDF.config(options)


def test_too_large_blocks_are_refused() -> None:
    conv = nn.Conv2d(16, 8, 3)
    assert AFDF.refuse(conv, AFDF.config({"block": 17})) == (
        "blocks of 17 are larger than its 16 channels"
    )
    assert AFDF.refuse(conv, AFDF.config({"block": 16, "depth": 1})) is None
    assert AFDF.refuse(conv, AFDF.config({"block": 16, "depth": 2})) == (
        "2 layers with blocks of 16 have 2,048 numbers, more than 4 matrices of 16×16"
    )
