"""Convolutions that make their weight at every call are rewritten as plain ones with that weight."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from seclcompress import substitutions
from seclcompress.plan import PlanOptions, make_plan
from seclcompress.rewrite import rewrite_network
from seclcompress.substitutions.folding import folded_weight
from seclcompress.substitutions.site import Site, folded
from seclcompress.trace import trace_network


class Standardised(nn.Conv2d):
    """As in BiT (Kolesnikov et al., 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.flatten(1)
        flat = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-6)
        weight = flat.reshape(self.weight.shape)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Scaled(Standardised):
    """As in NFNets (Brock et al., 2021): with a gain for each filter."""

    def __init__(self, *args: int, **options: int) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.gain = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(
            x, self.weight * self.gain, self.bias, self.stride, self.padding, groups=self.groups
        )


FOLDED: list[Callable[..., nn.Module]] = [
    Standardised,
    Scaled,
    lambda *a, **o: parametrizations.weight_norm(nn.Conv2d(*a, **o)),
    lambda *a, **o: parametrizations.spectral_norm(nn.Conv2d(*a, **o)),
]


@pytest.mark.parametrize("make", FOLDED)
@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2, "padding": 1}, {"groups": 2, "bias": False}, {"padding": "same"}],
)
def test_the_plain_one_computes_the_same(
    make: Callable[..., nn.Module], options: dict[str, int]
) -> None:
    torch.manual_seed(0)
    layer = make(4, 6, 3, **options).eval()
    x = torch.randn(2, 4, 9, 9)
    plain = folded(layer)
    assert type(plain) is nn.Conv2d
    torch.testing.assert_close(plain(x), layer(x))
    assert Site(layer).convolution.weight.shape == plain.weight.shape


def test_a_plain_layer_is_left_as_it_is() -> None:
    layer = nn.Conv2d(3, 4, 3)
    assert folded(layer) is layer
    assert folded_weight(nn.ConvTranspose2d(3, 4, 3)) is None
    assert folded_weight(nn.Linear(3, 4)) is None


class Dynamic(nn.Conv2d):
    """Its weight depends on the image."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * (1 + x.mean()), self.bias)


class Padded(nn.Conv2d):
    """It pads as TensorFlow does."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias)


class Twice(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias) + F.conv2d(x, self.weight, self.bias)


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * F.conv2d(x, self.weight, self.bias)


class Shifted(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, None if self.bias is None else self.bias + 1)


class Raises(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no")


@pytest.mark.parametrize("kind", [Dynamic, Padded, Twice, Doubled, Shifted, Raises])
def test_what_does_more_is_kept_and_named(kind: type[nn.Conv2d]) -> None:
    layer = kind(64, 64, 3)
    assert folded_weight(layer) is None
    acdc = substitutions.get("acdc")
    reason = acdc.refuse(layer, acdc.config({}))
    assert reason == f"a {kind.__name__} may compute something else than a plain convolution"


def test_without_values_and_in_training() -> None:
    layer = parametrizations.spectral_norm(nn.Conv2d(4, 6, 3)).train()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    folded_weight(layer)
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())
    assert all(module.training for module in layer.modules())
    found = folded_weight(Standardised(4, 6, 3, device="meta"))
    assert found is not None
    assert found.is_meta


@pytest.mark.parametrize("make", FOLDED)
def test_a_network_of_such_layers(make: Callable[..., nn.Module]) -> None:
    """A 1×1 layer starts from the weight that it had, exactly; nothing of its parameters is left."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        make(16, 24, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 4),
    ).eval()
    x = torch.randn(2, 3, 8, 8)
    expected = network(x).detach()
    trace = trace_network(network, (3, 8, 8))
    options = PlanOptions(substitution="low_rank", config={"rank": 16})
    if "low_rank" not in substitutions.names():
        options = PlanOptions(substitution="shuffle", config={"layers": 1, "groups": 1})
    plan = make_plan(network, trace, options, may_be_empty=True)
    plan.layers[1].action, plan.layers[1].substitution = "rewrite", "separable"
    plan.layers[1].config, plan.layers[1].execution = {}, "dense"
    fits = {}
    rewrite_network(network, plan, on_fit=fits.__setitem__)
    assert fits["1"].left == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=1e-4)
