"""The networks of the sources have the published sizes, to the digit, and the names of checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Invoke
from torch import Tensor, nn

from seclcompress import networks, resolve
from seclcompress.errors import NetworkError
from seclcompress.trace import trace_network


def figures(name: str) -> tuple[int, int]:
    """Parameters and Mult-Adds of a network."""
    source = resolve.locate(name)
    network = source.skeleton()
    trace = trace_network(network, source.input_size)
    assert trace.unknown == {}
    return sum(p.numel() for p in network.parameters()), trace.total_mult_adds


@pytest.mark.parametrize(
    ("name", "parameters", "mult_adds"),
    [
        ("tiny_convnet", 89_674, 18_211_296),
        ("tiny_convnet_no_bias", 89_674 - 24 * 3 - 48 * 6, 18_211_296),
        ("resnet18_cifar", 11_173_962, 555_422_720),
        ("mobilenet_cifar", 3_217_226, 46_354_432),
        ("mobilenetv2_cifar", 2_296_922, 91_154_944),
        ("darts_cifar", 3_349_342, 528_359_040),
        ("darts20_36_cifar", 3_349_342, 528_359_040),
        ("resnet6_no_norm", 1_971_308, 200_721_248),  # the notebook prints the former
        ("mlp64_mnist", 785 * 64 + 65 * 10, 784 * 64 + 64 * 10),
        ("mlp2048_mnist", 785 * 2048 + 2049 * 10, 784 * 2048 + 2048 * 10),
        (
            "conv_pool2_50_mnist",
            10 * 50 + 451 * 50 + 1251 * 500 + 501 * 10,
            9 * 50 * 26**2 + 450 * 50 * 11**2 + 1250 * 500 + 5000,
        ),
    ],
)
def test_to_the_digit(name: str, parameters: int, mult_adds: int) -> None:
    assert figures(name) == (parameters, mult_adds)


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.73), (1202, 19.42)],
)
def test_thin_residual_networks(depth: int, parameters: float) -> None:
    """The paper's table 6 in millions; and by hand: filters, batch norm, the classifier."""
    network = resolve.locate(f"resnet{depth}_cifar").skeleton()
    found = sum(p.numel() for p in network.parameters())
    n = (depth - 2) // 6
    filters = 9 * (3 * 16 + 2 * n * (16**2 + 32**2 + 64**2) - 32 * 16 - 64 * 32)
    assert found == filters + 2 * (16 + 2 * n * (16 + 32 + 64)) + 650
    assert abs(found / 1e6 - parameters) < 0.01


@pytest.mark.parametrize(
    ("depth", "width", "millions", "symmetric"),
    [
        (10, 1, 0.13, 0.10),
        (16, 1, 0.22, 0.17),
        (34, 1, 0.50, 0.38),
        (100, 1, 1.52, 1.14),
        (10, 2, 0.50, 0.40),
        (16, 2, 0.86, 0.67),
        (34, 2, 1.97, 1.49),
        (100, 2, 6.02, 4.49),
    ],
)
def test_bottleneck_blocks(depth: int, width: int, millions: float, symmetric: float) -> None:
    """The figure of "Exploring Weight Symmetry", without and with channelwise symmetry of the 3×3."""
    found, _ = figures(f"wrn{depth}_{width}_bottleneck")
    n = (depth - 4) // 6
    inner = [16 * width, 32 * width, 64 * width]
    free = sum(9 * n * c * (c - 1) // 2 for c in inner)
    assert round(found / 1e6, 2) == millions
    assert round((found - free) / 1e6, 2) == symmetric


def test_the_bottleneck_network_of_the_table() -> None:
    assert figures("wrn16_1_bottleneck")[0] == 219_482  # "0.219M"


@pytest.mark.parametrize(
    ("options", "millions"),
    [
        (("--option", "form=triangular"), 0.172),
        (("--option", "form=ldl"), 0.172),
        (("--option", "form=average", "--option", "over=spatial"), 0.187),
        (("--option", "form=average", "--option", "over=both"), 0.156),
    ],
)
def test_the_symmetric_forms_of_the_table(
    invoke: Invoke, options: tuple[str, ...], millions: float
) -> None:
    """The table of "Exploring Weight Symmetry": test-time parameters, the 3×3 alone symmetric.

    Its 0.173 M for the eigen form is of a rank that it does not name.
    """
    counted = invoke(
        "count", "wrn16_1_bottleneck", "--substitution", "symmetric", "--only", "*.conv2",
        *options, "--csv",
    )  # fmt: skip
    total = counted.stdout.splitlines()[-1].split(",")
    parameters = int(total[-2])
    assert round(parameters / 1e6, 3) == millions


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wrn17_1_bottleneck", "Did you mean wrn16_1_bottleneck"),
        ("wrn1300_1_bottleneck", "the deepest is wrn1204_1_bottleneck"),
        ("resnet26_cifar", "Unknown network 'resnet26_cifar'. Did you mean resnet"),
        ("mlp0_mnist", "Unknown network"),
        ("mlp10000_mnist", "Unknown network"),
        ("conv_pool4_50_mnist", "Unknown network .* conv_pool"),
    ],
)
def test_impossible_ones(name: str, words: str) -> None:
    with pytest.raises(NetworkError, match=words):
        networks.build(networks.named_spec(name))


def thin_state(depth: int) -> dict[str, Tensor]:
    """A checkpoint's tensors as the widely used training program names them, of random values."""
    state: dict[str, Tensor] = {}

    def conv(name: str, out: int, inside: int) -> None:
        state[f"{name}.weight"] = torch.randn(out, inside, 3, 3) * 0.1

    def norm(name: str, channels: int) -> None:
        state[f"{name}.weight"] = torch.rand(channels) + 0.5
        state[f"{name}.bias"] = torch.randn(channels) * 0.1
        state[f"{name}.running_mean"] = torch.randn(channels) * 0.1
        state[f"{name}.running_var"] = torch.rand(channels) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1", 16, 3)
    norm("bn1", 16)
    inside = 16
    for group, out in enumerate((16, 32, 64), start=1):
        for block in range((depth - 2) // 6):
            where = f"layer{group}.{block}"
            conv(f"{where}.conv1", out, inside)
            norm(f"{where}.bn1", out)
            conv(f"{where}.conv2", out, out)
            norm(f"{where}.bn2", out)
            inside = out
    state["linear.weight"], state["linear.bias"] = torch.randn(10, 64), torch.randn(10)
    return state


def by_hand(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """What such a checkpoint's network computes, in functions alone (He et al., option A)."""
    F = nn.functional

    def norm(name: str, y: Tensor) -> Tensor:
        return F.batch_norm(
            y,
            state[f"{name}.running_mean"],
            state[f"{name}.running_var"],
            state[f"{name}.weight"],
            state[f"{name}.bias"],
        )

    x = F.relu(norm("bn1", F.conv2d(x, state["conv1.weight"], padding=1)))
    for name in [key.removesuffix(".conv1.weight") for key in state if ".conv1." in key]:
        stride = 2 if name in ("layer2.0", "layer3.0") else 1
        y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
        y = F.relu(norm(f"{name}.bn1", y))
        y = norm(f"{name}.bn2", F.conv2d(y, state[f"{name}.conv2.weight"], padding=1))
        if stride == 2:
            x = x[:, :, ::2, ::2]
            zeros = torch.zeros(x.shape[0], x.shape[1] // 2, *x.shape[2:])
            x = torch.cat([zeros, x, zeros], 1)
        x = F.relu(x + y)
    return F.linear(x.mean((2, 3)), state["linear.weight"], state["linear.bias"])


def test_checkpoints_of_thin_residual_networks_load(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = thin_state(20)
    saved = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
    torch.save({**saved, "best_prec1": 91.7}, tmp_path / "resnet20.th")
    weights = str(tmp_path / "resnet20.th")
    network, _ = resolve.locate("resnet20_cifar", weights=weights).load()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(images), by_hand(state, images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("resnet18_cifar", "conv1 bn1 layer1.0.conv1 layer2.0.shortcut.0 layer4.1.bn2 linear"),
        ("mobilenet_cifar", "conv1 bn1 layers.0.conv1 layers.12.bn2 linear"),
        ("mobilenetv2_cifar", "conv1 layers.0.shortcut.1 layers.16.conv3 conv2 bn2 linear"),
        (
            "darts_cifar",
            "stem.0 cells.0.preprocess0.op.1 cells.0._ops.0.op.5 cells.7.preprocess0.conv_2 "
            "cells.19._ops.7.op.3 classifier",
        ),
    ],
)
def test_the_names_of_checkpoints(name: str, some: str) -> None:
    there = networks.build(networks.named_spec(name), skeleton=True).state_dict()
    assert {f"{layer}.weight" for layer in some.split()} <= set(there)


def test_channels_are_repeated_where_a_block_adds_some() -> None:
    network = networks.build(networks.named_spec("resnet6_no_norm"))
    block = network[1]  # 24 → 48 → 72
    with torch.no_grad():
        block.conv2.weight.zero_()
        block.conv2.bias.zero_()
        x = torch.randn(1, 24, 4, 4)
        assert torch.equal(block(x), torch.cat([x, x, x], 1))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_they_train_on_gray_and_on_coloured_images(invoke: Invoke) -> None:
    how = ("--data", "digits", "--epochs", 1, "--train-images", 40, "--batch-size", 20)
    for name in ("mlp16_mnist", "conv_pool2_4_mnist", "tiny_convnet"):
        shown = invoke("train", name, *how, "-o", "run", "--overwrite").stderr
        assert ("they are shown at 1x28x28" in shown) == ("mnist" in name)
        invoke("evaluate", "run", "--data", "digits")
