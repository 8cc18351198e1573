"""What a layer loses on images: the true error of its outputs, and the true slopes of the loss."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress import substitutions
from seclcompress.budget import by_weights, fisher, outputs
from seclcompress.budget.fisher import Gradients
from seclcompress.budget.looking import (
    Calibration,
    LookingAtFisher,
    LookingAtOutputs,
    LookingAtRecovered,
)
from seclcompress.budget.outputs import Inputs
from seclcompress.budget.sensitivity import distance, whole_weight
from seclcompress.data import Images, Presentation
from seclcompress.data.images import Batch
from seclcompress.errors import NetworkError
from seclcompress.preprocessing import Preprocessing
from seclcompress.substitutions import CallSize, Site
from seclcompress.train.outputs import OutputReader

LAYERS = {
    "plain": (lambda: nn.Conv2d(6, 8, 3, padding=1, bias=False), (6, 9, 7)),
    "stride": (lambda: nn.Conv2d(6, 8, (3, 5), stride=(2, 1), padding=(1, 2)), (6, 9, 8)),
    "reflect": (lambda: nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"), (6, 9, 7)),
    "groups": (lambda: nn.Conv2d(6, 8, 3, groups=2), (6, 9, 7)),
    "1d": (lambda: nn.Conv1d(6, 8, 3, padding=1), (6, 9)),
    "linear": (lambda: nn.Linear(6, 8), (5, 6)),
}
NOBODY = lambda *_: None  # noqa: E731


class AtHand(Images):
    """Images of random numbers, as they are."""

    def __init__(self, count: int, size: tuple[int, ...], classes: int) -> None:
        generator = torch.Generator().manual_seed(1)
        self.pixels = torch.randn(count, *size, generator=generator)
        self.labels = torch.randint(classes, (count,), generator=generator)

    def subset(self, indices: Tensor) -> Images:
        raise NotImplementedError

    def read(self, order: Sequence[Tensor], presentation: Presentation) -> Iterator[Batch]:
        del presentation
        for indices in order:
            yield Batch(self.pixels[indices], self.labels[indices], indices)


def calibration(network: nn.Module, images: AtHand, classes: int = 4) -> Calibration:
    plain = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))
    size = tuple(images.pixels.shape[1:])
    shown = Presentation(size, plain)
    order = torch.arange(len(images))
    return Calibration(network, OutputReader(classes), images, order, shown, "at hand", 0)


def site_of(network: nn.Module, name: str, size: tuple[int, ...] = (4, 4)) -> Site:
    return Site(network.get_submodule(name), {CallSize(size, size): 1}, name)


def changed(layer: nn.Module, seed: int = 3) -> Tensor:
    """A difference of weights of the layer's shape, with zeros between groups."""
    whole = whole_weight(Site(layer))
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(whole.shape, generator=generator) * (whole != 0)


def outputs_with(layer: Any, far: Tensor, x: Tensor) -> Tensor:
    """How far the outputs are off, by running the layer with both weights."""
    groups = getattr(layer, "groups", 1)
    before = layer(x)
    narrow = far
    if groups > 1:
        rows, columns = far.shape[0] // groups, far.shape[1] // groups
        blocks = [
            far[g * rows : (g + 1) * rows, g * columns : (g + 1) * columns] for g in range(groups)
        ]
        narrow = torch.cat(blocks)
    with torch.no_grad():
        layer.weight -= narrow
        after = layer(x)
        layer.weight += narrow
    return (before - after).detach()


class TestInputs:
    @pytest.mark.parametrize("name", list(LAYERS))
    @pytest.mark.parametrize("widest", [8192, 5])
    @pytest.mark.parametrize("centred", [False, True])
    def test_it_is_the_mean_error_of_the_outputs(
        self, name: str, widest: int, centred: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As second moments, and as patches where a layer is too wide for them."""
        monkeypatch.setattr(outputs, "WIDEST", widest)
        monkeypatch.setattr(outputs, "_AT_ONCE", 1000)  # so that a batch is taken in pieces
        torch.manual_seed(0)
        make, size = LAYERS[name]
        layer: Any = make()
        x = torch.randn(10, *size) + 0.3
        far = changed(layer)
        found = Inputs(layer, 10_000, centred=centred)
        found._most = 10_000
        for start in range(0, 10, 4):
            found.add(x[start : start + 4], len(x[start : start + 4]), torch.Generator())
        errors = outputs_with(layer, far, x).double()
        if centred:
            of_channels = [n for n in range(errors.dim()) if n != (2 if name == "linear" else 1)]
            errors -= errors.mean(of_channels, keepdim=True)
        squares = errors.square()
        true = float(squares.sum()) / (squares.numel() / 8)
        assert found.missed(far.double()) == pytest.approx(true, rel=1e-4)

    def test_a_layer_that_is_too_wide_holds_no_more_than_its_share(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outputs, "WIDEST", 8)
        layer = nn.Linear(16, 3)
        found = Inputs(layer, 100)
        for _ in range(5):
            found.add(torch.randn(10, 16), 10, torch.Generator().manual_seed(0))
        held = sum(columns.numel() * 4 for columns in found._columns)
        assert 0 < held <= Inputs.held(layer) == 8 * 8**2

    def test_so_many_positions_of_an_image_are_drawn(self) -> None:
        layer = nn.Conv2d(3, 4, 3, padding=1)
        found = Inputs(layer, 7)
        found.add(torch.randn(4, 3, 9, 9), 4, torch.Generator().manual_seed(0))
        assert found._count == 28
        few = nn.Linear(6, 2)
        windows = Inputs(few, 7)  # a network that joins images with windows
        windows.add(torch.randn(4 * 5, 9, 6), 4, torch.Generator().manual_seed(0))
        assert windows._count == 28

    def test_one_image_without_a_batch(self) -> None:
        layer = nn.Conv2d(3, 4, 3)
        x, far = torch.randn(3, 6, 6), changed(layer)
        one, other = Inputs(layer, 100), Inputs(layer, 100)
        one.add(x, 1, torch.Generator())
        other.add(x[None], 1, torch.Generator())
        assert one.missed(far.double()) == other.missed(far.double()) > 0

    def test_nothing_shown_is_nothing_lost(self) -> None:
        layer = nn.Linear(6, 2)
        assert Inputs(layer, 5).missed(changed(layer).double()) == 0


def test_what_a_layer_never_sees_is_not_lost() -> None:
    """Channels that are always zero: the energy of their weights is missed, and no output."""
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 1)
    layer = nn.Conv2d(8, 6, 3, padding=1, bias=False)
    with torch.no_grad():
        first.weight[4:], first.bias[4:] = 0, 0  # type: ignore[index]
        matrix, filters = torch.randn(6, 4), torch.randn(4, 3, 3)
        layer.weight[:, :4] = matrix[:, :, None, None] * filters
        layer.weight[:, 4:] = torch.randn(6, 4, 3, 3)
    network = nn.Sequential(first, nn.ReLU(), layer, nn.Flatten(), nn.Linear(96, 4))
    site, family = site_of(network, "2"), substitutions.get("separable")
    config = family.config({})
    assert by_weights(site, family, config) > 0.05
    found = LookingAtOutputs(calibration(network, AtHand(30, (3, 4, 4), 4))).look([site], NOBODY)
    far = distance(site, family, config)
    assert far is not None
    whole = found["2"].missed(whole_weight(site).double())
    assert found["2"].missed(far) < 1e-10 * whole
    with torch.no_grad():
        layer.weight[:, :4] = torch.randn(6, 4, 3, 3)  # it sees these
    again = distance(site, family, config)
    assert again is not None
    assert found["2"].missed(again) > 0.05 * whole


class TestRecovered:
    @pytest.mark.parametrize("name", ["plain", "stride", "reflect", "linear", "1d"])
    @pytest.mark.parametrize("family", ["separable", "low_rank", "acdc"])
    def test_less_is_missed_than_as_it_was_fitted(self, name: str, family: str) -> None:
        torch.manual_seed(0)
        make, size = LAYERS[name]
        layer: Any = make()
        network = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(4))
        network(torch.zeros(1, *size))
        made = substitutions.get(family)
        config = made.config({})
        site = site_of(network, "0")
        if made.refuse(site, config) is not None:
            pytest.skip("the family has nothing for such a layer")
        looker = LookingAtRecovered(calibration(network, AtHand(30, size, 4)))
        shown = looker.look([site], NOBODY)["0"]
        fitted = distance(site, made, config)
        better = distance(site, made, config, functools.partial(looker.improve, site, shown))
        assert fitted is not None
        assert better is not None
        exact = name == "linear" and family == "separable"  # the layer itself
        assert shown.missed(better) < shown.missed(fitted) or exact

    def test_a_mean_that_batch_norm_takes_away_is_no_loss(self) -> None:
        """All that the channels beyond the first two do is to add a constant."""
        torch.manual_seed(0)
        layer = nn.Conv2d(6, 8, 1, bias=False)
        shift = nn.Conv2d(3, 6, 1)
        with torch.no_grad():
            shift.weight[2:] = 0
        network = nn.Sequential(shift, layer, nn.Flatten(), nn.Linear(8 * 16, 4))
        site, made = site_of(network, "1"), substitutions.get("low_rank")
        two = made.config({"ratio": 0.6})
        found = {}
        for looker in (LookingAtRecovered, LookingAtOutputs):
            looking = looker(calibration(network, AtHand(30, (3, 4, 4), 4)))
            shown = looking.look([site], NOBODY)["1"]
            far = distance(site, made, two, functools.partial(looking.improve, site, shown))
            assert far is not None
            found[looker] = shown.missed(far) / shown.missed(whole_weight(site).double())
        assert found[LookingAtRecovered] < 1e-6 < 0.01 < found[LookingAtOutputs]

    def test_what_is_too_wide_is_measured_as_it_was_fitted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outputs, "WIDEST", 5)
        network = nn.Sequential(nn.Conv2d(6, 8, 3), nn.Flatten(), nn.Linear(8 * 4, 4))
        site, made = site_of(network, "0"), substitutions.get("low_rank")
        looker = LookingAtRecovered(calibration(network, AtHand(9, (6, 4, 4), 4)))
        shown = looker.look([site], NOBODY)["0"]
        one = distance(site, made, made.config({}))
        improve = functools.partial(looker.improve, site, shown)
        other = distance(site, made, made.config({}), improve)
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


class Branched(nn.Module):
    """A layer that runs twice, in-place steps, frozen weights, and one that leads nowhere."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.twice = nn.Conv2d(6, 6, 3, padding=1, bias=False, groups=groups)
        self.nowhere = nn.Conv2d(6, 5, 1)
        self.muted = nn.Linear(6, 4)
        self.last = nn.Linear(6, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(input=x).relu_()
        x = self.twice(x).relu_()
        self.nowhere(x)
        x = self.twice(x)
        x.mul_(1.5)
        x = x.mean((2, 3))
        scores: Tensor = self.last(x) + 0 * self.muted(x)
        return scores


def slopes(network: nn.Module, weight: Tensor, images: AtHand, far: Tensor) -> float:
    """By the definition: for each image and channel, how the loss changes along the difference."""
    total = 0.0
    for x, label in zip(images.pixels, images.labels, strict=True):
        loss = F.cross_entropy(network(x[None]), label[None])
        (g,) = torch.autograd.grad(loss, [weight])
        total += float((g * far).flatten(1).sum(1).double().square().sum())
    return total / (2 * len(images))


@pytest.mark.parametrize("kept", ["by_weights", "by_calls"])
@pytest.mark.parametrize("layer", ["first", "twice", "last"])
def test_fisher_is_that_of_the_definition(
    layer: str, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fisher, "_weights", lambda _: 1 if kept == "by_weights" else 10**9)
    torch.manual_seed(0)
    network, images = Branched().eval(), AtHand(9, (3, 4, 4), 4)
    site = site_of(network, layer)
    far = changed(site.layer)
    true = slopes(network, site.layer.weight, images, far)  # type: ignore[arg-type]
    network.requires_grad_(False)
    network.train()  # it is looked at in eval mode
    found = LookingAtFisher(calibration(network, images)).look([site], NOBODY)[layer]
    assert bool(found._slopes) is (kept == "by_weights")
    assert found.missed(far.double()) == pytest.approx(true, rel=1e-4)
    assert true > 0
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.get_submodule(layer)._forward_hooks


@pytest.mark.parametrize("kept", ["by_weights", "by_calls"])
def test_fisher_of_a_layer_with_groups(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fisher, "_weights", lambda _: 1 if kept == "by_weights" else 10**9)
    torch.manual_seed(0)
    network, images = Branched(groups=2).eval(), AtHand(5, (3, 4, 4), 4)
    site = site_of(network, "twice")
    found = LookingAtFisher(calibration(network, images)).look([site], NOBODY)["twice"]
    far = whole_weight(site)
    true = slopes(network, network.twice.weight, images, network.twice.weight.detach())
    assert found.missed(far.double()) == pytest.approx(true, rel=1e-4)


def test_with_nothing_left_it_is_blockswaps_potential() -> None:
    """Of the outputs of a layer without bias: 1 ÷ 2N · Σ_c Σ_n (Σ_ij a · ∂L/∂a)²."""
    torch.manual_seed(0)
    network, images = Branched().eval(), AtHand(6, (3, 4, 4), 4)
    site = site_of(network, "last")
    found = LookingAtFisher(calibration(network, images)).look([site], NOBODY)["last"]
    kept: list[Tensor] = []
    network.last.register_forward_hook(lambda _module, _inputs, a: kept.append(a))
    loss = F.cross_entropy(network(images.pixels), images.labels, reduction="sum")
    (a,) = kept
    (g,) = torch.autograd.grad(loss, [a])
    potential = float((a.detach() * g).square().sum()) / (2 * len(images))
    assert found.missed(whole_weight(site).double()) == pytest.approx(potential, rel=1e-5)


def test_what_does_not_reach_the_loss_is_worth_nothing() -> None:
    torch.manual_seed(0)
    network = Branched().eval()
    sites = [site_of(network, name) for name in ("nowhere", "muted", "last")]
    found = LookingAtFisher(calibration(network, AtHand(5, (3, 4, 4), 4))).look(sites, NOBODY)
    lost = {site.name: found[site.name].missed(whole_weight(site).double()) for site in sites}
    assert lost["nowhere"] == lost["muted"] == 0 < lost["last"]


def test_what_is_kept_of_an_image_is_the_smaller() -> None:
    """A wide layer on few positions: its inputs and gradients; a narrow one on many: the slope."""
    wide, narrow = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
    assert Gradients.held(Site(wide, {CallSize((2, 2), (2, 2)): 1}), wide) == 4 * 2 * 32 * 4
    assert Gradients.held(Site(narrow, {CallSize((9, 9), (9, 9)): 1}), narrow) == 4 * 2 * 2 * 9


def test_a_loss_that_is_no_number_is_an_error() -> None:
    network = Branched()
    with torch.no_grad():
        network.last.weight[:] = torch.inf
    looker = LookingAtFisher(calibration(network, AtHand(2, (3, 4, 4), 4)))
    with pytest.raises(NetworkError, match="--sensitivity output"):
        looker.look([site_of(network, "first")], NOBODY)
