"""What a layer may become, and what that loses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from seclcompress import substitutions
from seclcompress.budget import Candidate, by_dimensions, by_weights, candidates
from seclcompress.cost import LayerCost
from seclcompress.plan.entries import Layer
from seclcompress.substitutions import CallSize, Site


def layer(module: nn.Module, size: int = 8) -> Layer:
    site = Site(module, {CallSize((size, size), (size, size)): 1}, "here")
    parameters = sum(p.numel() for p in module.parameters())
    return Layer(site, LayerCost(parameters, {"dense": parameters * size**2}))


def conv(**options: object) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(32, 32, 3, padding=1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", substitutions.names())
def test_every_familys_ladder_is_of_its_options_and_has_no_size_twice(name: str) -> None:
    family = substitutions.get(name)
    ladder = [family.config(options) for options in family.Config.ladder()]
    assert ladder
    assert len(set(map(str, ladder))) == len(ladder)
    if len(ladder) == 1:
        return
    site = layer(nn.Conv2d(64, 64, 3, padding=1)).site
    costs = {family.cost(site, one).parameters for one in ladder if not family.refuse(site, one)}
    assert len(costs) >= 3


def test_itself_first_and_then_smaller_ones_that_the_family_does_not_refuse() -> None:
    found = candidates(layer(conv()), ["acdc", "separable"], by_dimensions)
    assert found[0].entry.action == "keep"
    assert found[0].loss == 0
    assert found[0].entry.cost == found[0].entry.original
    assert {one.entry.substitution for one in found[1:]} == {"acdc", "separable"}
    assert all(one.amount("parameters") < found[0].amount("parameters") for one in found[1:])
    assert all(one.entry.reason.endswith("; for the budget") for one in found[1:])
    assert [one.entry.config["depth"] for one in found[1:-1]] == [1, 2, 3, 4, 6, 8, 12, 16]


def test_a_refused_option_is_no_candidate() -> None:
    grouped = conv(groups=4)
    places = {
        one.entry.config.get("on")
        for one in candidates(layer(grouped), ["low_rank"], by_dimensions)
    }
    assert places == {None, "pointwise"}  # on=kernel is refused for groups


def test_only_itself_with_the_reason() -> None:
    (depthwise,) = candidates(layer(conv(groups=32)), ["acdc", "separable"], by_dimensions)
    assert depthwise.entry.reason == "it is depthwise already"
    tiny = layer(nn.Conv2d(2, 1, 1, bias=False))
    (small,) = candidates(tiny, ["separable"], by_dimensions)
    assert small.entry.reason == "none of the families would make it smaller"
    bound = replace(layer(conv()), bound="another module reads its weight")
    (stays,) = candidates(bound, ["separable"], by_dimensions)
    assert stays.entry.reason == "another module reads its weight"


def test_the_loss_of_dimensions_is_the_share_that_is_saved() -> None:
    found = candidates(layer(conv()), ["separable"], by_dimensions)[1]
    # 32·9 filters, 32·32 matrix, 32 biases of 32·32·9 + 32
    assert found.loss == 1 - (288 + 1024 + 32) / (9216 + 32)


def fitted(module: nn.Module, family: str, **options: object) -> float:
    chosen = substitutions.get(family)
    return by_weights(layer(module).site, chosen, chosen.config(options))


@pytest.mark.parametrize("name", substitutions.names())
def test_what_is_promised_is_what_is_built(name: str) -> None:
    module = nn.Conv2d(64, 64, 3, padding=1)
    family = substitutions.get(name)
    for one in candidates(layer(module), [name], by_dimensions)[1:]:
        made = family.build(module, family.config(one.entry.config))
        assert sum(p.numel() for p in made.parameters()) == one.amount("parameters")


class TestEnergy:
    def test_the_split_of_a_kernel_counts_as_well(self) -> None:
        """The share is one of the whole weight, not of the pointwise matrix behind the split."""
        module = conv()
        kernels = module.weight.detach().double().permute(1, 0, 2, 3).flatten(2)
        first = torch.linalg.svdvals(kernels)[:, 0].square().sum()
        energy = module.weight.detach().double().square().sum()
        assert fitted(module, "separable") == pytest.approx(float(1 - first / energy), abs=1e-6)

    @pytest.mark.parametrize("groups", [1, 4])
    def test_a_separable_layer_loses_nothing_as_separable(self, groups: int) -> None:
        module = conv(groups=groups)
        with torch.no_grad():
            matrix, filters = torch.randn(32, 32 // groups), torch.randn(32, 3, 3)
            for out in range(32):
                first = out // (32 // groups) * (32 // groups)
                mine = filters[first : first + 32 // groups]
                module.weight[out] = matrix[out][:, None, None] * mine
        assert fitted(module, "separable") < 1e-10
        assert 0.3 < fitted(conv(groups=groups), "separable") < 1

    def test_a_rank_is_what_the_singular_values_behind_it_have(self) -> None:
        module = nn.Conv2d(24, 16, 1, bias=False)
        values = torch.linalg.svdvals(module.weight.detach().flatten(1).double()).square()
        assert fitted(module, "low_rank", rank=5) == pytest.approx(
            float(values[5:].sum() / values.sum()), rel=1e-4
        )

    def test_a_linear_too(self) -> None:
        module = nn.Linear(24, 16)
        values = torch.linalg.svdvals(module.weight.detach().double()).square()
        assert fitted(module, "low_rank", rank=5) == pytest.approx(
            float(values[5:].sum() / values.sum()), rel=1e-4
        )

    def test_a_larger_size_loses_less(self) -> None:
        losses = [fitted(conv(), "monarch", ratio=ratio) for ratio in (0.125, 0.25, 0.5)]
        assert losses == sorted(losses, reverse=True)
        assert losses[0] > losses[-1] + 0.01

    def test_a_family_that_takes_nothing_over_loses_everything(self) -> None:
        assert fitted(conv(), "bottleneck") == 1

    def test_of_zeros_nothing_is_lost(self) -> None:
        module = conv()
        nn.init.zeros_(module.weight)
        assert fitted(module, "separable") == 0

    def test_the_layer_and_the_random_state_stay_as_they_are(self) -> None:
        module = conv()
        before, state = module.weight.detach().clone(), torch.random.get_rng_state()
        one = fitted(module, "acdc", depth=1)
        assert torch.equal(module.weight, before)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert fitted(module, "acdc", depth=1) == one


def test_an_amount_is_by_the_planned_execution() -> None:
    found = candidates(layer(conv()), ["acdc"], by_dimensions)
    for one in found[1:]:
        assert isinstance(one, Candidate)
        assert one.amount("mult_adds") == min(one.entry.cost.mult_adds.values())
