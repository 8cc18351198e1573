"""Groups of channels: what is lost with what; and no output changes when channels of zeros are lost."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from thinned import ALIKE, slow_or_exhaustive
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d

from seclcompress import networks
from seclcompress.errors import NetworkError
from seclcompress.graph import Channels, Member, channel_groups, kept_by_layer, narrow_network
from seclcompress.networks import default_input_size, named_spec
from seclcompress.torch_private import ConvNd, ConvTransposeNd

CLASSIFIERS = models.list_models(module=models, exclude="quantized_*")
#: One of each kind of graph, small enough for every run of the tests.
SOME = [
    "densenet121",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "resnext50_32x4d",
    "squeezenet1_1",
    "swin_t",
    "vit_b_32",
]


def zero(network: nn.Module, channels: Channels, lost: Mapping[str, Sequence[int]]) -> None:
    """Sets everything that makes or reads the lost channels to zero."""
    with torch.no_grad():
        for group in channels.groups:
            for number in lost.get(group.name, ()):
                for member, positions in zip(group.members, group.atoms[number], strict=True):
                    zero_side(network.get_submodule(member.layer), member.side, list(positions))


def zero_side(layer: nn.Module, side: str, positions: list[int]) -> None:
    if isinstance(layer, ConvNd | nn.Linear):
        weight = layer.weight
        grouped = isinstance(layer, ConvNd) and layer.groups > 1
        rows_are_outputs = not isinstance(layer, ConvTransposeNd)
        if (side == "outputs") == rows_are_outputs:
            weight[positions] = 0
        elif not grouped:
            weight[:, positions] = 0
        if side == "outputs" and layer.bias is not None:
            layer.bias[positions] = 0
    else:
        for tensor in [*layer.parameters()]:
            tensor[positions] = 0


def agrees(network: nn.Module, channels: Channels, lost: Mapping[str, Sequence[int]]) -> None:
    """Asserts that a network with zeroed channels and one without them compute the same."""
    whole = copy.deepcopy(network).eval()
    zero(whole, channels, lost)
    narrowed = copy.deepcopy(whole)
    narrow_network(narrowed, kept_by_layer(network, channels.groups, lost))
    before, after = (sum(p.numel() for p in one.parameters()) for one in (whole, narrowed))
    assert after < before
    images = torch.rand(1, *channels.input_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, computed = whole(images), narrowed(images)
    assert (computed - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)
    assert computed.isfinite().all()


def livelier(network: nn.Module) -> nn.Module:
    """Gives norms statistics and shifts of their own, so that channels differ."""
    torch.manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.bias.uniform_(-0.1, 0.1)
    return network


def first_of_each(channels: Channels) -> dict[str, list[int]]:
    return {group.name: [0] for group in channels.groups}


def some_of_each(channels: Channels, seed: int) -> dict[str, list[int]]:
    draw = random.Random(seed)
    return {
        group.name: sorted(
            draw.sample(range(len(group.atoms)), draw.randrange(1, len(group.atoms)))
        )
        for group in channels.groups
    }


#: The shuffled one has a test of its own.
RARE = ("shufflenet_v2_x0_5", *ALIKE)


@pytest.mark.parametrize("name", slow_or_exhaustive(CLASSIFIERS, SOME, RARE))
def test_no_output_changes(name: str) -> None:
    spec = named_spec(name)
    channels = channel_groups(networks.build(spec, skeleton=True), default_input_size(spec))
    assert channels.groups
    if name in ("regnet_y_128gf", "vit_h_14", "vit_l_16", "vit_l_32", "swin_v2_b"):
        return  # too large to be filled with values here; their kinds are tried by their smaller ones
    network = livelier(networks.build_untrained(spec))
    agrees(network, channels, first_of_each(channels))
    if name in SOME:
        agrees(network, channels, some_of_each(channels, 0))


def test_resnet18() -> None:
    """Twelve groups: four of residual sums, and one within each of eight blocks."""
    channels = channel_groups(networks.build(named_spec("resnet18"), skeleton=True), (3, 224, 224))
    widths = {group.name: group.width for group in channels.groups}
    blocks = {
        f"layer{stage}.{block}.conv1": 32 * 2**stage for stage in range(1, 5) for block in (0, 1)
    }
    assert widths == blocks | {
        "conv1": 64,
        "layer2.0.conv2": 128,
        "layer3.0.conv2": 256,
        "layer4.0.conv2": 512,
    }
    last = channels.groups[[*widths].index("layer4.0.conv2")]
    assert Member("fc", "inputs") in last.members
    assert Member("layer4.0.downsample.0", "outputs") in last.members
    assert channels.fixed == {"fc": "it is an output of the network"}


class Net(nn.Module):
    """A network of layers in a row; `how` is its forward pass."""

    def __init__(self, how: Callable[[Net, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self, x)


def groups_of(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Width and step by group; and losing channels changes nothing."""
    torch.manual_seed(0)
    channels = channel_groups(network, (3, 8, 8))
    if channels.groups:
        agrees(network, channels, first_of_each(channels))
        agrees(network, channels, some_of_each(channels, 1))
    return {group.name: (group.width, group.step) for group in channels.groups}


def conv(ins: int, outs: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(ins, outs, 3, padding=1, groups=groups)


def pooled(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def test_a_sum_joins() -> None:
    net = Net(
        lambda n, x: n.fc(pooled(n.a(x) + n.b(x))), a=conv(3, 6), b=conv(3, 6), fc=nn.Linear(6, 2)
    )
    assert groups_of(net) == {"a": (6, 1)}


def test_a_concatenation_keeps_apart() -> None:
    net = Net(
        lambda n, x: n.fc(pooled(torch.cat([n.a(x), n.b(x)], 1).relu())),
        a=conv(3, 6),
        b=conv(3, 4),
        fc=nn.Linear(10, 2),
    )
    assert groups_of(net) == {"a": (6, 1), "b": (4, 1)}


def test_groups_are_lost_whole() -> None:
    net = Net(
        lambda n, x: n.fc(pooled(n.norm(n.b(n.a(x))))),
        a=conv(3, 12),
        b=conv(12, 24, 4),
        norm=nn.BatchNorm2d(24),
        fc=nn.Linear(24, 2),
    )
    assert groups_of(net) == {"a": (12, 3)}


def test_depthwise_and_multiplier() -> None:
    net = Net(
        lambda n, x: n.fc(pooled(n.b(n.a(x)))), a=conv(3, 6), b=conv(6, 12, 6), fc=nn.Linear(12, 2)
    )
    assert groups_of(net) == {"a": (6, 1)}


def test_flattening_gives_a_channel_many_features() -> None:
    net = Net(
        lambda n, x: n.fc(torch.flatten(n.a(x).relu(), 1)), a=conv(3, 5), fc=nn.Linear(5 * 64, 2)
    )
    assert groups_of(net) == {"a": (5, 1)}


def test_transposed_convolutions_frozen_norms_and_prelu() -> None:
    net = Net(
        lambda n, x: n.fc(pooled(n.p(n.norm(n.up(n.a(x)))))),
        a=conv(3, 6),
        up=nn.ConvTranspose2d(6, 8, 2, 2),
        norm=FrozenBatchNorm2d(8),
        p=nn.PReLU(8),
        fc=nn.Linear(8, 2),
    )
    assert groups_of(net) == {"a": (6, 1), "up": (8, 1)}


def test_gates_of_channels_and_of_places() -> None:
    net = Net(
        lambda n, x: n.fc(
            pooled(n.a(x) * n.by_place(x).sigmoid() * n.by_channel(pooled(x))[..., None, None])
        ),
        a=conv(3, 6),
        by_place=conv(3, 1),
        by_channel=nn.Linear(3, 6),
        fc=nn.Linear(6, 2),
    )
    assert groups_of(net) == {"a": (6, 1)}


def test_a_layer_that_runs_twice() -> None:
    net = Net(
        lambda n, x: n.fc(pooled(n.b(n.b(n.a(x))))), a=conv(3, 6), b=conv(6, 6), fc=nn.Linear(6, 2)
    )
    assert groups_of(net) == {"a": (6, 1)}


def fixed_of(network: nn.Module) -> dict[str, str]:
    return channel_groups(network, (3, 8, 8)).fixed


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda n, a: layer_norm(a, (6, 8, 8)), "LayerNorm runs over it"),
        (lambda n, a: a.softmax(1), "_softmax runs over it"),
        (lambda n, a: a.cumsum(1), "cumsum is not known to leave channels as they are"),
        (lambda n, a: a - a.mean(1, keepdim=True), "mean runs over it"),
        (lambda n, a: a * a.new_ones(6, 1, 1), "mul joins it with a tensor of fixed width"),
        (lambda n, a: a * n.a.weight.sum(), "the weights of a are used elsewhere as well"),
        (lambda n, a: a + n.image.repeat(1, 2, 1, 1), "add joins it with a tensor of fixed width"),
        (lambda n, a: a.view(-1, 6, 8, 8), "it does not run as before"),
        (lambda n, a: torch.cat(a.chunk(2, 1)[::-1], 1), "it does not run as before"),
        (lambda n, a: a[:, [1, 0, 2, 3, 4, 5]], "is not known"),
    ],
)
def test_what_fixes_a_width(how: Callable[[Net, Tensor], Tensor], words: str) -> None:
    def forward(n: Net, x: Tensor) -> Tensor:
        n.image = x
        return n.fc(pooled(how(n, n.a(x))))

    net = Net(forward, a=conv(3, 6), fc=nn.Linear(6, 2))
    assert words in channel_groups(net, (3, 8, 8)).fixed["a"]


@pytest.mark.slow
def test_a_channel_shuffle_keeps_its_width_and_what_is_within_it_does_not() -> None:
    spec = named_spec("shufflenet_v2_x0_5")
    channels = channel_groups(networks.build(spec, skeleton=True), (3, 64, 64))
    agrees(livelier(networks.build_untrained(spec)), channels, first_of_each(channels))
    names = {group.name for group in channels.groups}
    assert "stage2.1.branch2.0" in names  # within a block: made and read there
    assert "stage2.1.branch2.5" not in names  # shuffled with the other half
    assert "does not run as before" in channels.fixed["stage2.1.branch2.5"]


def test_auxiliary_classifiers_are_narrowed_with_the_rest() -> None:
    spec = named_spec("googlenet")
    network = networks.build(spec, skeleton=True)
    assert network.aux1 is not None
    channels = channel_groups(network, (3, 224, 224))
    lost = first_of_each(channels)
    narrow_network(network, kept_by_layer(network, channels.groups, lost))
    network.to_empty(device="cpu").train()
    outputs = network(torch.rand(2, 3, 224, 224))
    assert [one.shape for one in outputs] == [(2, 1000)] * 3


def test_layers_that_are_made_elsewhere_keep_their_width() -> None:
    net = Net(
        lambda n, x: n.fc(pooled(n.b(n.a(x)))), a=conv(3, 6), b=conv(6, 4), fc=nn.Linear(4, 2)
    )
    torch.nn.utils.parametrizations.weight_norm(net.a)
    assert groups_of(net) == {"b": (4, 1)}


def test_the_network_stays_as_it_is() -> None:
    network = networks.build_untrained(named_spec("wrn10_1"))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.train()
    channel_groups(network, (3, 32, 32))
    after = network.state_dict()
    assert network.training
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_no_time_means_no_groups() -> None:
    network = networks.build(named_spec("wrn10_1"), skeleton=True)
    channels = channel_groups(network, (3, 32, 32), time_limit=0)
    assert channels.groups == ()
    assert "there was no time to try it" in channels.fixed.values()


def test_a_network_that_cannot_run() -> None:
    network = networks.build(named_spec("resnet18"), skeleton=True)
    with pytest.raises(NetworkError, match="cannot be followed at an input of 5x8x8: "):
        channel_groups(network, (5, 8, 8))
