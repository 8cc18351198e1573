"""Whole rewritten networks: copies, pickles, half precision, odd sizes, and equal executions."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import Awkward, Invoke
from torch import nn

import seclcompress
from seclcompress import artefact, networks
from seclcompress.artefact import ArtefactConfig
from seclcompress.cost import convolution_mult_adds
from seclcompress.errors import ArtefactError
from seclcompress.networks.weights import check_finite
from seclcompress.plan import PlanOptions, make_plan
from seclcompress.rewrite import rewrite_network
from seclcompress.trace import trace_network


@pytest.fixture
def rewritten() -> nn.Module:
    torch.manual_seed(0)
    network = Awkward().eval()
    plan = make_plan(network, trace_network(network, (3, 16, 16)), PlanOptions(config={"depth": 2}))
    return rewrite_network(network, plan).eval()


def image(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_copies_compute_the_same_and_share_nothing(rewritten: nn.Module) -> None:
    x = image()
    expected = rewritten(x)
    stream = io.BytesIO()
    torch.save(rewritten, stream)
    stream.seek(0)
    copies = {
        "deepcopy": copy.deepcopy(rewritten),
        "pickle": pickle.loads(pickle.dumps(rewritten)),
        "torch.save": torch.load(stream, weights_only=False),
    }
    for how, other in copies.items():
        assert torch.equal(other(x), expected), how
        for parameter in other.parameters():
            parameter.mul_(1.5)
        assert not torch.equal(other(x), expected), how
        assert torch.equal(rewritten(x), expected), how


@torch.no_grad()
def test_state_dict_round_trips(rewritten: nn.Module) -> None:
    x = image()
    expected = rewritten(x)
    state = {name: value.clone() for name, value in rewritten.state_dict().items()}
    for parameter in rewritten.parameters():
        parameter.mul_(1.5)
    assert not torch.equal(rewritten(x), expected)
    rewritten.load_state_dict(state)
    assert torch.equal(rewritten(x), expected)
    loaded = safetensors.torch.load(safetensors.torch.save(state))
    assert loaded.keys() == state.keys()
    rewritten.load_state_dict(loaded, assign=True)
    assert torch.equal(rewritten(x), expected)


@torch.no_grad()
def test_in_data_parallel(rewritten: nn.Module) -> None:
    x = image()
    wrapped = nn.DataParallel(rewritten)
    assert torch.equal(wrapped(x).cpu(), rewritten(x))
    assert all(name.startswith("module.") for name in wrapped.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("execution", ["dense", "fast", "auto"])
def test_in_half_precision_and_back(rewritten: nn.Module, execution: str) -> None:
    seclcompress.set_execution(rewritten, execution)
    x = image()
    expected = rewritten(x)
    half = copy.deepcopy(rewritten).half()
    found = half(x.half())
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), expected, atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(half.float()(x), expected, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("execution", ["dense", "fast", "auto"])
def test_no_images_one_image_and_one_in_training(rewritten: nn.Module, execution: str) -> None:
    seclcompress.set_execution(rewritten, execution)
    assert rewritten(image(0)).shape == (0, 10)
    torch.testing.assert_close(rewritten(image(1)), rewritten(image())[:1], atol=1e-4, rtol=1e-3)
    # The batch norms have 8 × 16 values per channel here, so training on one image is possible.
    loss = rewritten.train()(image(1)).square().sum()
    loss.backward()
    used = [p for name, p in rewritten.named_parameters() if not name.startswith("unused")]
    assert all(torch.isfinite(p.grad).all() for p in used)


def test_images_of_one_pixel(invoke: Invoke) -> None:
    invoke("convert", "wrn10_1", "--depth", 2, "--input-size", "3x1x1", "-o", "out")
    network = artefact.load(Path("out"))
    for execution in ("dense", "fast"):
        seclcompress.set_execution(network, execution)
        with torch.no_grad():
            assert torch.isfinite(network(torch.ones(1, 3, 1, 1))).all()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network.train()(torch.ones(1, 3, 1, 1))  # batch norm refuses this in any network


def test_a_convolution_without_channels() -> None:
    with pytest.warns(UserWarning, match="zero-element"):
        empty = nn.Conv2d(4, 0, 1)
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3))
    network.add_module("branch", nn.Sequential(nn.Conv2d(64, 4, 1), empty))
    plan = make_plan(
        network, trace_network(network, (3, 8, 8)), PlanOptions(config={"depth": 1}, head=True)
    )
    fates = {layer.name: (layer.action, layer.reason) for layer in plan.layers}
    assert fates["1"][0] == "rewrite"
    assert fates["branch.1"] == ("keep", "it has no channels (weights of 0×4×1×1)")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_no_numbers(invoke: Invoke, bad: float) -> None:
    state = networks.build(networks.named_spec("wrn10_1")).state_dict()
    state["group2.0.conv1.weight"][0, 0, 0, 0] = bad
    safetensors.torch.save_file(state, "w.safetensors")
    words = invoke("convert", "wrn10_1", "--weights", "w.safetensors", "-o", "out", code=1).stderr
    assert "NaN or infinite: group2.0.conv1.weight (1 of 4608)" in words
    assert not Path("out").exists()


@pytest.mark.parametrize("scale", [1e-42, 0.0, 1e37])
def test_subnormal_vanishing_and_enormous_weights(rewritten: nn.Module, scale: float) -> None:
    """A rewritten layer starts with finite factors, even if the original's weights are extreme."""
    torch.manual_seed(0)
    network = Awkward().eval()
    with torch.no_grad():
        network.body[5].weight.sign_().mul_(scale)
    plan = make_plan(network, trace_network(network, (3, 16, 16)), PlanOptions(config={"depth": 2}))
    rewrite_network(network, plan)
    check_finite(network.state_dict(), "the network")
    assert all(
        float(f.detach().abs().min()) > 0 for f in network.body[5].parameter_groups()["factors"]
    )


def test_float16_weights_in_a_file(invoke: Invoke) -> None:
    state = networks.build(networks.named_spec("wrn10_1")).state_dict()
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    safetensors.torch.save_file(half, "w.safetensors")
    invoke("convert", "wrn10_1", "--depth", 2, "--weights", "w.safetensors", "-o", "out")
    written = safetensors.torch.load_file("out/model.safetensors")
    assert written["conv1.weight"].dtype == torch.float32
    assert torch.equal(written["conv1.weight"], half["conv1.weight"].float())


def test_counts_that_need_more_than_32_bits() -> None:
    assert convolution_mult_adds(2**12, 2**12, (3, 3), 1, 2**24) == 9 * 2**48
    source = seclcompress.locate("resnet18")
    network = source.skeleton()
    small, large = (trace_network(network, (3, side, side)) for side in (224, 224 * 128))
    fc = small.mult_adds["fc"]
    assert large.total_mult_adds > 2**40
    assert large.total_mult_adds - fc == (small.total_mult_adds - fc) * 128**2
    options = PlanOptions(config={"depth": 2})
    counted = [
        seclcompress.count_network(network, trace, make_plan(network, trace, options)).columns
        for trace in (small, large)
    ]
    for column in counted[0]:
        one, two = (columns[column].mult_adds - fc for columns in counted)
        assert two == one * 128**2


def test_by_python_and_by_the_command_line_the_same_bytes(invoke: Invoke) -> None:
    invoke("convert", "wrn10_1", "--depth", 3, "--keep", "group1", "--seed", 7, "-o", "cli")
    source = seclcompress.locate("wrn10_1")
    network, told = source.load(seed=7)
    assert told.untrained == ()
    options = PlanOptions(config={"depth": 3}, keep=("group1",))
    plan = make_plan(network, trace_network(network, source.input_size), options)
    rewrite_network(network, plan, seed=7)
    about = ArtefactConfig(network=source.network, plan=plan, input_size=source.input_size, seed=7)
    artefact.save(Path("api"), network, about)
    for name in ("config.json", "model.safetensors"):
        assert Path("api", name).read_bytes() == Path("cli", name).read_bytes()
    with pytest.raises(ArtefactError, match="is there already"):
        artefact.save(Path("api"), network, about)
