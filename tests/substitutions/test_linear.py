"""A Linear's replacement: a structured 1×1 convolution, run over all positions."""

from __future__ import annotations

import copy

import pytest
import torch
from examples import bottleneck_block, low_rank
from torch import nn

from seclcompress import substitutions
from seclcompress.substitutions import StructuredConv, StructuredLinear
from seclcompress.substitutions.site import as_convolution


class InTwoSteps(StructuredConv):
    """A replacement whose 1×1 convolution becomes two plain ones."""

    def __init__(self, conv: nn.Conv1d, steps: nn.Sequential) -> None:
        super().__init__(conv)
        self.steps = steps

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        return self.steps(x)

    def to_plain(self) -> nn.Module:
        return copy.deepcopy(self.steps)

    def to_dense(self) -> nn.Module:
        return copy.deepcopy(self.steps)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("wide", [600, 2500])
def test_several_convolutions_become_one_matrix_or_linears_in_a_row(bias: bool, wide: int) -> None:
    """2500 unit vectors are more than one batch of them."""
    steps = nn.Sequential(nn.Conv1d(wide, 3, 1, bias=bias), nn.Conv1d(3, 7, 1, bias=bias))
    built = StructuredLinear(InTwoSteps(nn.Conv1d(wide, 7, 1), steps))
    dense, plain = built.to_dense(), built.to_plain()
    x = torch.randn(4, wide)
    assert type(dense) is nn.Linear
    assert (dense.bias is not None) == bias
    first, second = (conv.weight.detach().double().squeeze(-1) for conv in steps)
    assert torch.equal(dense.weight, (second @ first).float())
    assert [type(part) for part in plain] == [nn.Linear, nn.Linear]
    for other in (dense, plain):
        torch.testing.assert_close(other(x), built(x), atol=1e-5, rtol=1e-4)


def test_structure_that_no_linear_has_is_multiplied_out() -> None:
    """torch has no grouped Linear."""
    steps = nn.Sequential(nn.Conv1d(8, 8, 1, groups=4), nn.Conv1d(8, 6, 1))
    built = StructuredLinear(InTwoSteps(nn.Conv1d(8, 6, 1), steps))
    plain = built.to_plain()
    assert type(plain) is nn.Linear
    x = torch.randn(4, 8)
    torch.testing.assert_close(plain(x), built(x), atol=1e-5, rtol=1e-4)


def test_a_nonlinear_family_is_never_taken_for_a_matrix() -> None:
    """A matrix made from its values at unit vectors would be silently wrong."""
    family = bottleneck_block.SUBSTITUTION
    block = family.build(nn.Conv1d(8, 8, 1), family.config({}))
    built = StructuredLinear(block)
    assert not built.affine
    assert built.to_dense() is None
    with pytest.raises(TypeError, match="BlockConv is not affine: its family cannot replace"):
        built.to_plain()


def test_a_product_of_matrices_stays_one() -> None:
    """A low-rank Linear of 64 × 64 has 256 parameters; multiplied out it would have 4,096."""
    family = low_rank.SUBSTITUTION
    built = family.build(nn.Linear(64, 64, bias=False), family.config({"rank": 2}))
    assert sum(p.numel() for p in built.to_plain().parameters()) == 256
    assert sum(p.numel() for p in built.to_dense().parameters()) == 4096


def refuses(family: str, linear: nn.Linear) -> bool:
    """Whether a family takes no such Linear: some want squares, some groups, some no Linear."""
    substitution = substitutions.get(family)
    reason = substitution.refuse(linear, substitution.config({}))
    assert reason is None or family not in ("acdc", "afdf", "separable"), reason
    return reason is not None


@pytest.mark.parametrize("family", substitutions.names())
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(9, 13), (13, 9), (8, 8)])
def test_a_linear_is_a_convolution_over_its_positions(
    family: str, shape: tuple[int, int], bias: bool
) -> None:
    linear = nn.Linear(*shape, bias=bias, dtype=torch.float64)
    substitution = substitutions.get(family)
    if refuses(family, linear):
        return
    built = substitution.build(linear, substitution.config({}))
    dense = built.to_dense()
    assert (dense.bias is not None) == bias
    several = isinstance(built.convolution.to_plain(), nn.Sequential)
    kind = nn.Sequential if several else nn.Linear
    assert type(built.to_plain()) is kind, "a matrix alone is no row of layers"
    one = built.convolution.to_dense()
    assert torch.equal(dense.weight, one.weight.squeeze(-1)), "what is a matrix already is copied"
    assert built(torch.zeros(0, 3, shape[0], dtype=torch.float64)).shape == (0, 3, shape[1])
    for training in (True, False):
        built.train(training)
        x = torch.randn(2, 3, shape[0], dtype=torch.float64)
        torch.testing.assert_close(built(x), dense(x), atol=1e-9, rtol=1e-9)


def test_products_of_a_linear() -> None:
    acdc = substitutions.get("acdc")
    built = acdc.build(nn.Linear(24, 16), acdc.config({}))
    built.execution = "dense"
    built.train().keep_product(True)
    built(torch.randn(5, 24)).sum().backward()
    [product] = built.products()
    torch.testing.assert_close(product, built.to_dense().weight)
    assert product.requires_grad
    built(torch.randn(2, 24))
    pointwise = built.convolution.pointwise
    make, made = pointwise.make_weight, []
    pointwise.make_weight = lambda: made.append(1) or make()
    built.products()
    assert made == [], "it is that of the pass"
    built.keep_product(False)
    built(torch.randn(2, 24))
    made.clear()
    built.products()
    assert made == [1]


def test_a_linear_as_a_convolution_costs_nothing() -> None:
    linear = nn.Linear(5, 7).requires_grad_(False)
    before = torch.get_rng_state()
    conv = as_convolution(linear)
    assert torch.equal(torch.get_rng_state(), before)
    assert conv.weight.data_ptr() == linear.weight.data_ptr()
    assert not conv.weight.requires_grad
    assert conv.bias is linear.bias
    assert as_convolution(nn.Linear(5, 7, bias=False)).bias is None
    assert as_convolution(nn.Linear(5, 7)).weight.requires_grad


@pytest.mark.parametrize("family", substitutions.names())
def test_on_the_layers_device(family: str) -> None:
    substitution = substitutions.get(family)
    linear = nn.Linear(6, 10, device="meta", dtype=torch.float64)
    if refuses(family, linear):
        return
    built = substitution.build(linear, substitution.config({}))
    for module in (built, built.to_dense(), built.to_plain()):
        assert {p.device.type for p in module.parameters()} == {"meta"}
        assert {p.dtype for p in module.parameters()} == {torch.float64}
