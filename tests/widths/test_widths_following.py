"""Where a layer's values stand: behind activations as modules, functions and in place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress import networks, workflows
from seclcompress.resolve import locate
from seclcompress.widths.measure import gather, measured
from seclcompress.widths.sites import find_sites

BATCHES = [torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(n)) for n in range(3)]


class Net(nn.Module):
    """A convolution, something behind it, and a classifier."""

    def __init__(self, behind: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.prelu = nn.PReLU(6)
        self.gate = nn.Conv2d(6, 6, 1)
        self.other = nn.Conv2d(3, 6, 1)
        self.behind = behind
        self.last = nn.Conv2d(6, 5, 1)
        self.fc = nn.Linear(5, 2)
        nn.init.uniform_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.behind(self, x)
        return self.fc(self.last(self.seen).relu().mean((2, 3)))


def in_place(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    y += 1
    return y.relu_()


def composite(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return y * F.relu6(y + 3) / 6


def residual(net: Net, x: Tensor) -> Tensor:
    y = net.norm(net.first(x))
    y += net.other(x)
    return F.relu(y, inplace=True)


CASES: dict[str, tuple[Callable[[Net, Tensor], Tensor], str | None, str]] = {
    "relu": (lambda net, x: net.first(x).relu(), "relu", "output"),
    "in place": (in_place, "relu", "output"),
    "batch norm": (lambda net, x: F.gelu(net.norm(net.first(x))), "gelu", "batch norm"),
    "functional batch norm": (
        lambda net, x: F.silu(
            F.batch_norm(net.first(x), net.norm.running_mean, net.norm.running_var)
        ),
        *("silu", "batch norm"),
    ),
    "prelu": (lambda net, x: net.prelu(net.first(x)), "prelu", "output"),
    "clamp": (lambda net, x: net.first(x).clamp(min=0), "clamp", "output"),
    "a swish of parts": (composite, "hardtanh", "output"),
    "a residual sum": (residual, "relu", "batch norm"),
    "norm behind a sum": (lambda net, x: net.norm(net.first(x) + 1).relu(), "relu", "output"),
    "none": (lambda net, x: net.first(x), None, "output"),
    "dropout": (lambda net, x: F.dropout(net.first(x).tanh(), training=False), "tanh", "output"),
    "group norm": (lambda net, x: F.group_norm(net.first(x), 2).relu(), "relu", "output"),
    "pooled first": (lambda net, x: F.max_pool2d(net.first(x), 2).relu(), "relu", "output"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_next_layer_reads(case: str) -> None:
    behind, activation, before = CASES[case]
    torch.manual_seed(0)
    net = Net(behind)
    sites = find_sites(net, BATCHES[0][:1])
    first = next(site for site in sites if site.name == "first")
    assert (first.activation, first.before, first.channels) == (activation, before, 6)
    assert net.training
    assert sites[-1].name == "last"
    moments = gather(net, sites, iter(BATCHES))
    net.eval()
    with torch.no_grad():
        read, own = [], []
        for batch in BATCHES:
            net(batch)
            read.append(net.seen.clone())
            own.append(net.first(batch))
            if before == "batch norm":
                affine = (net.norm.weight, net.norm.bias) if "functional" not in case else ()
                own[-1] = F.batch_norm(
                    own[-1], net.norm.running_mean, net.norm.running_var, *affine
                )
    rows = torch.cat(read).movedim(1, -1).flatten(0, -2).double()
    found = measured(first, moments["first"])
    assert found.values == len(rows)
    torch.testing.assert_close(
        torch.tensor(found.variances, dtype=torch.float64), rows.var(0, correction=0)
    )
    rows = torch.cat(own).movedim(1, -1).flatten(0, -2).double()
    expected = torch.linalg.eigvalsh(torch.cov(rows.T, correction=0)).flip(0)
    assert found.components is not None
    torch.testing.assert_close(
        torch.tensor(found.components.explained, dtype=torch.float64),
        expected,
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "module",
    [
        *(nn.CELU(), nn.ELU(), nn.GELU(), nn.Hardshrink(), nn.Hardsigmoid(), nn.Hardswish()),
        *(nn.Hardtanh(), nn.LeakyReLU(), nn.LogSigmoid(), nn.Mish(), nn.PReLU(), nn.ReLU()),
        *(nn.ReLU6(), nn.RReLU(), nn.SELU(), nn.SiLU(), nn.Sigmoid(), nn.Softplus()),
        *(nn.Softshrink(), nn.Tanh(), nn.Threshold(0.1, 0)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_every_activation_of_torch_has_a_name(module: nn.Module) -> None:
    net = Net(lambda net, x: module.eval()(net.first(x)))
    site = find_sites(net, BATCHES[0][:1])[0]
    assert site.activation is not None
    same = {"ReLU6": "hardtanh", "SELU": "elu", "CELU": "celu", "LeakyReLU": "leaky_relu"}
    name = type(module).__name__
    assert site.activation == same.get(name, name.lower())
    assert gather(net, [site], BATCHES[:1])["first"].behind.count == 4 * 64


def test_behind_an_activation_a_pool_is_a_reader() -> None:
    net = Net(lambda net, x: F.max_pool2d(net.first(x).relu(), 2))
    sites = find_sites(net, BATCHES[0][:1])
    found = measured(sites[0], gather(net, sites, BATCHES)["first"])
    assert found.values == 12 * 64  # all places, not the pooled ones


def test_a_gate_of_each_channel_is_read_as_it_is() -> None:
    def squeeze(net: Net, x: Tensor) -> Tensor:
        y = net.first(x).relu()
        return y * net.gate(y.mean((2, 3), keepdim=True)).sigmoid()

    net = Net(squeeze)
    sites = {site.name: site for site in find_sites(net, BATCHES[0][:1])}
    assert [*sites] == ["first", "gate", "last"]
    assert sites["gate"].activation == "sigmoid"
    found = gather(net, [*sites.values()], BATCHES)
    assert (found["first"].behind.count, found["gate"].behind.count) == (12 * 64, 12)


def test_layers_of_a_shared_module_and_of_one_and_three_dimensions() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Conv1d(3, 4, 3, padding=1)
            self.twice = nn.Conv1d(4, 4, 1)
            self.cube = nn.Conv3d(1, 5, 2)
            self.up = nn.ConvTranspose3d(5, 3, 2)
            self.unused = nn.Linear(2, 2)
            self.fc = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.line(x.flatten(2)).relu()
            y = self.twice(self.twice(y).relu()).relu()
            y = self.up(self.cube(y.reshape(-1, 1, 4, 8, 8)).relu()).relu()
            return self.fc(y.mean((2, 3, 4)))

    torch.manual_seed(0)
    net = Odd()
    sites = find_sites(net, BATCHES[0][:1])
    assert [(site.name, site.channels) for site in sites] == [
        *(("line", 4), ("twice", 4), ("cube", 5), ("up", 3)),
    ]
    moments = gather(net, sites, BATCHES)
    assert moments["twice"].behind.count == 2 * moments["line"].behind.count == 2 * 12 * 64
    assert moments["cube"].behind.count == 12 * 3 * 7 * 7
    for site in sites:
        found = measured(site, moments[site.name])
        assert found.notes == ()
        assert found.components is not None
        assert found.singular is not None


@pytest.mark.parametrize("name", ["resnet18_cifar", "mobilenetv2_cifar", "wrn10_1", "tiny_convnet"])
def test_every_hidden_layer_of_networks_with_names(name: str) -> None:
    located = locate(name)
    net = networks.build_untrained(located.network, seed=0)
    image = torch.randn(1, *located.input_size)
    sites = find_sites(net, image)
    layers = [one for one in net.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    assert len(sites) == len(layers) - 1  # all but the classifier
    for found in gather(net, sites, [image]).values():
        assert found.behind.finite
        assert found.before.finite


def test_a_converted_network(converted: object) -> None:
    net, _ = locate(str(converted)).load()
    found = {site.name: site for site in find_sites(net, torch.randn(1, 3, 16, 16))}
    whole = networks.build_untrained(locate("wrn10_1").network, seed=0)
    assert [*found] == [site.name for site in find_sites(whole, torch.randn(1, 3, 16, 16))]
    moments = gather(net, [*found.values()], [torch.randn(8, 3, 16, 16)])
    site = found["group3.0.conv2"]
    row = measured(site, moments[site.name])
    assert row.kind == "replacement"
    assert row.components is not None
    assert row.singular is not None


def test_a_network_that_raises_leaves_no_hook() -> None:
    def fails(net: Net, x: Tensor) -> Tensor:
        if len(x) > 1:
            raise ValueError("no batches, please")
        return net.first(x).relu()

    net = Net(fails)
    sites = find_sites(net, BATCHES[0][:1])
    with pytest.raises(ValueError, match="no batches"):
        gather(net, sites, BATCHES)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in net.modules())
    assert net(BATCHES[0][:1]).shape == (1, 2)


def test_dead_channels_and_what_is_not_finite() -> None:
    torch.manual_seed(0)
    net = Net(lambda net, x: net.first(x).relu())
    with torch.no_grad():
        net.first.weight[:2] = 0
        net.first.bias[:2] = torch.tensor([-1.0, 0.3])  # always 0, and always 0.3
    sites = find_sites(net, BATCHES[0][:1])
    found = measured(sites[0], gather(net, sites, BATCHES)["first"])
    assert found.dead == 2
    assert found.variances is not None
    assert found.variances[:2] == (0, 0)
    assert min(found.variances[2:]) > 0
    with torch.no_grad():
        net.first.bias[3] = float("nan")
    found = measured(sites[0], gather(net, sites, BATCHES)["first"])
    missing = (found.dead, found.variances, found.normality, found.gammas, found.components)
    assert missing == (None,) * 5
    assert found.notes == (
        "its activations are not finite numbers",
        "its outputs are not finite numbers",
    )
    assert found.singular is not None


def test_one_channel() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 1, 3), nn.ReLU(), nn.Conv2d(1, 2, 3), nn.Flatten())
    sites = find_sites(net, BATCHES[0][:1])
    found = measured(sites[0], gather(net, sites, BATCHES)["0"])
    assert (found.channels, found.normality, found.exponential_normal) == (1, None, None)
    assert found.components is not None
    assert found.components.ratios == (1.0,)


def test_more_channels_than_covariances_are_kept_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seclcompress.widths.measure.WIDEST", 5)
    net = Net(lambda net, x: net.first(x).relu())
    sites = find_sites(net, BATCHES[0][:1])
    moments = gather(net, sites, BATCHES)
    found = measured(sites[0], moments["first"])
    assert found.components is None
    assert found.variances is not None
    assert found.notes == ("more than 5 channels are too many for covariances",)
    assert moments["first"].before.scatter.shape == (6,)
    assert moments["last"].before.scatter.shape == (5, 5)


def test_workflows_has_it() -> None:
    assert {"widths", "Widths"} <= set(workflows.__all__)
