"""Layers that no family can replace, and the reasons of single families."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from examples import bottleneck_block, symmetric_full
from torch import nn

from seclcompress import substitutions
from seclcompress.errors import SubstitutionError, UsageError
from seclcompress.substitutions import Site, Substitution, SubstitutionConfig

FAMILIES = [substitutions.get(name) for name in substitutions.names()]
FAMILIES += [bottleneck_block.SUBSTITUTION, symmetric_full.SUBSTITUTION]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


class Mine(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu()


class Extra(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 4)
        self.scale = nn.Parameter(torch.ones(4))


class OwnConvolution(nn.Conv2d):
    def _conv_forward(self, x: Any, weight: Any, bias: Any) -> Any:
        return -super()._conv_forward(x, weight, bias)


class OwnCall(nn.Linear):
    def __call__(self, x: Any) -> Any:
        return -super().__call__(x)


class Named(nn.Conv3d):
    """A subclass that computes the same."""

    def __init__(self) -> None:
        super().__init__(16, 16, (3, 1, 1), bias=False)


def _weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # weight_norm is deprecated
        return torch.nn.utils.weight_norm(layer)


def _hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, args, output: None)
    return layer


def _backward_hooked(layer: nn.Module) -> nn.Module:
    layer.register_full_backward_hook(lambda module, into, out: None)
    return layer


@every_family
@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Mine(4, 4, 3), "a Mine may compute something else than a plain convolution"),
        (OwnConvolution(4, 4, 3), "a OwnConvolution may compute something else than a plain conv"),
        (Extra(), "a Extra may compute something else than a plain Linear"),
        (OwnCall(4, 4), "a OwnCall may compute something else than a plain Linear"),
        (nn.ReLU(), "a ReLU may compute something else"),
        (nn.ConvTranspose2d(4, 4, 3), "a ConvTranspose2d upsamples"),
        (nn.MultiheadAttention(4, 2), "the packed projections of a MultiheadAttention"),
        (
            nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
            "the weight of this ParametrizedLinear is made from other parameters",
        ),
        (_weight_norm(nn.Conv2d(4, 4, 3)), "the weight of this Conv2d is made from other"),
        (_hooked(nn.Conv2d(4, 4, 3)), "it has hooks, which would be lost"),
        (_backward_hooked(nn.Conv2d(4, 4, 3)), "it has hooks, which would be lost"),
        (
            nn.Conv2d(4, 4, 3, dtype=torch.complex64),
            "its weights are torch.complex64, not floating",
        ),
        (nn.Linear(0, 4, device="meta"), "it has no channels (weights of 4×0)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_none_can_rewrite(family: Substitution, layer: nn.Module, words: str) -> None:
    reason = family.refuse(layer, family.config({}))
    assert words in (reason or "")
    with pytest.raises(SubstitutionError, match="Cannot rewrite"):
        family.build(layer, family.config({}))


@every_family
def test_a_subclass_that_computes_the_same(family: Substitution) -> None:
    built = family.build(Named(), family.config({})).eval()
    assert built(torch.randn(1, 16, 5, 2, 2)).shape == (1, 16, 3, 2, 2)


@every_family
@pytest.mark.parametrize(("channels", "groups", "kept"), [(1, 1, False), (8, 8, True)])
def test_which_convolutions_are_depthwise(
    family: Substitution, channels: int, groups: int, kept: bool
) -> None:
    conv = nn.Conv2d(channels, 8, 3, groups=groups)
    assert (Site(conv).kind == "depthwise") == kept
    assert (family.refuse(conv, family.config({})) == "it is depthwise already") == kept


class Choosy(Substitution):
    """A family that replaces depthwise layers only, and whose options decide which it refuses."""

    name = "choosy"
    summary = "for tests"
    kinds = frozenset({"depthwise"})

    class Config(SubstitutionConfig):
        """Options."""

        most: int = 8

    def _refuse(self, site: Site, config: Any) -> str | None:
        return "it is too wide" if site.convolution.out_channels > config.most else None

    def cost(self, site: Site, config: Any) -> Any:
        raise NotImplementedError

    def _build(self, site: Site, config: Any) -> Any:
        symmetric = symmetric_full.SUBSTITUTION
        return symmetric._build(Site(nn.Conv2d(9, 9, 1)), symmetric.config({}))


def test_a_family_refuses_by_its_options_and_by_kind() -> None:
    family, conv = Choosy(), nn.Conv1d(9, 9, 1, groups=9)
    assert family.refuse(conv, family.config({})) == "it is too wide"
    with pytest.raises(SubstitutionError, match=r"as 'choosy': it is too wide\.$"):
        family.build(conv, family.config({"most": "8"}))
    wide = family.config({"most": 9})
    assert family.refuse(conv, wide) is None
    assert family.build(conv, wide) is not None
    assert family.refuse(nn.Linear(3, 3), wide) == "choosy is not for Linear layers"
    words = "choosy is not for convolutions of this kind"
    assert family.refuse(nn.Conv1d(9, 9, 1), wide) == words


class NoOptions(Choosy):
    Config = SubstitutionConfig


def test_options_that_are_none_in_words() -> None:
    with pytest.raises(UsageError, match=r"'choosy': .*most.*wide.* It takes: most\.$"):
        Choosy().config({"most": "wide"})
    with pytest.raises(UsageError, match=r"^choosy takes no option least\. It takes: none\.$"):
        NoOptions().config({"least": 1})
