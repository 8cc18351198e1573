"""Networks prepared for inference compute the same; the bench has a figure for every variant."""

from __future__ import annotations

import json

import pytest
import torch
from batch_norms import draw_batch_norms
from conftest import Invoke
from torch import nn

from seclcompress import networks, substitutions
from seclcompress.bench import Measured, Variant
from seclcompress.fusing import FusedStack
from seclcompress.inference import for_inference
from seclcompress.measure import Stopwatch
from seclcompress.plan import PlanOptions, make_plan
from seclcompress.rewrite import rewrite_network
from seclcompress.substitutions import StructuredConv, structured_layers
from seclcompress.substitutions.shapes import BlockConv, FullConv
from seclcompress.timing import Timing
from seclcompress.trace import trace_network


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def fast_layers(network: nn.Module) -> list[nn.Module]:
    """The layers that run fast in a network ready for inference, fused or not."""
    stacks = [module for module in network.modules() if isinstance(module, FusedStack)]
    inside = {id(part) for stack in stacks for part in stack.modules()}
    return [*stacks, *(one for one in structured_layers(network) if id(one) not in inside)]


def settled(name: str, size: int) -> nn.Module:
    """A network whose batch norms have random statistics, so that wrong folding shows."""
    torch.manual_seed(0)
    network = networks.build(networks.named_spec(name, 10))
    draw_batch_norms(network, spread=0.1)
    return network.eval()


FOLDED = [
    ("resnet18", 64, 0),
    ("vgg11_bn", 64, 0),
    ("mobilenet_v2", 64, 0),
    ("wrn10_1", 32, 4),  # pre-activation: norms before convolutions stay
    ("googlenet", 64, 2),  # those of the auxiliary heads, which do not run
    ("shufflenet_v2_x0_5", 64, 0),
]
#: Networks that take seconds to fold run in one way, but in the slow tests.
LARGE = ("vgg11_bn", "mobilenet_v2", "googlenet")


@pytest.mark.parametrize(
    ("name", "size", "left", "execution"),
    [
        pytest.param(
            *one, way, marks=[pytest.mark.slow] if one[0] in LARGE and way != "auto" else []
        )
        for one in FOLDED
        for way in ("dense", "fast", "auto")
    ],
)
def test_it_computes_the_same(name: str, size: int, left: int, execution: str) -> None:
    network = settled(name, size)
    trace = trace_network(network, (3, size, size))
    plan = make_plan(network, trace, PlanOptions(config={"depth": 2}))
    rewrite_network(network, plan)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    ready = for_inference(network, (3, size, size), execution)
    x = torch.randn(2, 3, size, size)
    substitutions.set_execution(network, execution)
    with torch.no_grad():
        expected, found = network(x), ready(x)
    assert (found - expected).abs().max() < 1e-4 * max(1, float(expected.abs().max()))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    structured = len(fast_layers(ready))
    assert norms(ready) <= left
    if execution == "dense":
        assert structured == 0
    if execution == "fast":
        assert structured == len(plan.rewritten)
    assert not any(p.requires_grad for p in ready.parameters())


def moved(norm: nn.Module) -> nn.Module:
    """Gives a batch norm random statistics, scale and shift."""
    with torch.no_grad():
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 1.5)
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0, 0.3)
    return norm


class Halves(FullConv):
    """A full convolution whose weight is a sum of two."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        self.one = nn.Parameter(conv.weight.detach() / 2)
        self.other = nn.Parameter(torch.randn_like(conv.weight) / 10)

    def factors(self) -> list[nn.Parameter]:
        return [self.one, self.other]

    def make_weight(self) -> torch.Tensor:
        return self.one + self.other


def bottleneck(conv: nn.Conv2d, inner: int = 4) -> BlockConv:
    """A block: 1×1, BN, ReLU, strided 3×3, BN, ReLU, 1×1."""
    body = nn.Sequential(
        nn.Conv2d(conv.in_channels, inner, 1, bias=False),
        moved(nn.BatchNorm2d(inner)),
        nn.ReLU(inplace=True),
        nn.Conv2d(inner, inner, 3, padding=1, stride=conv.stride, groups=2, bias=False),
        moved(nn.BatchNorm2d(inner)),
        nn.ReLU(inplace=True),
        nn.Conv2d(inner, conv.out_channels, 1, bias=conv.bias is not None),
    )
    return BlockConv(conv, body)


class Shaped(nn.Module):
    """A block and a full convolution, each followed by a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        block, full = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Conv2d(6, 6, 3, bias=False)
        self.block, self.first = bottleneck(block), moved(nn.BatchNorm2d(6))
        self.full, self.second = Halves(full), moved(nn.BatchNorm2d(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(self.block(x)).relu()
        assert self.block.out_channels == 6  # networks read such attributes of convolutions
        return self.second(self.full(x))


@pytest.mark.parametrize("execution", ["dense", "fast", "auto"])
def test_batch_norm_in_and_behind_blocks_and_full_convolutions(execution: str) -> None:
    torch.manual_seed(0)
    network = Shaped().eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    ready = for_inference(network, (3, 8, 8), execution)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(ready(x), expected, atol=1e-5, rtol=1e-4)
    assert norms(network) == 4
    assert norms(ready) == 0  # all four are folded: two in the block, two after the layers
    assert structured_layers(ready) == []
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(p.requires_grad for p in ready.parameters())


def test_a_block_that_runs_twice_keeps_its_norms() -> None:
    class Repeats(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.norm = bottleneck(nn.Conv2d(3, 3, 3, padding=1)), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.block(self.block(x)))

    torch.manual_seed(0)
    network = Repeats().eval()
    moved(network.norm)
    ready = for_inference(network, (3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(ready(x), network(x))
    assert norms(ready) == 3


def test_what_must_not_be_folded() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice = nn.Conv2d(4, 4, 1)
            self.once = nn.Conv2d(4, 4, 1)
            self.norms = nn.ModuleList([nn.BatchNorm2d(4) for _ in range(3)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norms[0](self.twice(x)) + self.norms[1](self.twice(x))
            y = self.once(x)
            return self.norms[2](y) + y

    network = Net().eval()
    network.norms[2].running_mean.normal_()
    ready = for_inference(network, (4, 3, 3))
    x = torch.randn(1, 4, 3, 3)
    with torch.no_grad():
        torch.testing.assert_close(ready(x), network(x))
    assert norms(ready) == 3


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.norm.running_mean.normal_()

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        y = self.conv(x)
        if mask is None:
            y = y.abs()
        return self.norm(y)


class Reads(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) + self.conv.weight.sum()


class ReadsInside(Small):
    def __init__(self) -> None:
        super().__init__()
        acdc = substitutions.get("acdc")
        self.conv = acdc.build(self.conv, acdc.config({"depth": 2}))
        self.conv.planned_execution = "fast"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) + self.conv.pointwise.a.sum()


class Squares(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).square()


class OtherNorm(Small):
    def __init__(self) -> None:
        super().__init__()
        self.norm = Squares(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class Hooked(Small):
    def __init__(self) -> None:
        super().__init__()
        self.conv.register_forward_hook(lambda module, args, output: output.abs())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class Trains(Small):
    def __init__(self) -> None:
        super().__init__()
        self.norm.train = lambda mode=True: self.norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class Normed(Small):
    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


@pytest.mark.parametrize(
    "kind", [Small, Reads, ReadsInside, OtherNorm, Hooked, Trains, Normed], ids=lambda k: k.__name__
)
def test_what_a_trace_cannot_see_is_not_folded_wrongly(kind: type[nn.Module]) -> None:
    network = kind().eval()
    x = torch.randn(2, 3, 5, 5)
    ready = for_inference(network, (3, 5, 5))
    with torch.no_grad():
        torch.testing.assert_close(ready(x), network(x))
    # The fold of Small is discarded after the comparison; in the others nothing is folded.
    assert norms(ready) == 1


def test_a_network_that_cannot_be_traced_runs_as_it_is() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(self.conv(x))
            return y if y.sum() > 0 else -y

    assert norms(for_inference(Looks(), (3, 4, 4))) == 1


def test_bench_has_a_figure_for_every_variant(invoke: Invoke, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    flags = ("wrn10_1", "--threads", 1, "--rounds", 3, "--depth", 1)
    content = json.loads(invoke("bench", *flags, "--json").stdout)
    assert list(content["variants"]) == ["original", "separable", "dense", "fast", "auto"]
    for variant in content["variants"].values():
        assert variant["timing"]["median"] > 0
        assert variant["other"]["median"] > 0
        assert variant["layout"] in ("NCHW", "NHWC")
    sizes = {name: variant["file_bytes"] for name, variant in content["variants"].items()}
    assert sizes["original"] > sizes["separable"] > sizes["dense"] == sizes["fast"] == sizes["auto"]
    for width in ("40", "100"):
        monkeypatch.setenv("COLUMNS", width)
        out = invoke("bench", *flags).stdout
        assert "1 threads" in " ".join(out.split())
        assert "weights file, MB" in out
        assert "…" not in out


@pytest.mark.parametrize(("layout", "fast", "otherwise"), [("NCHW", 0, 2), ("NHWC", 9, 7)])
def test_bench_chooses_for_each_layout(
    invoke: Invoke, monkeypatch, tmp_path, layout: str, fast: int, otherwise: int
) -> None:
    """The faster execution may differ between layouts; the last line is about the faster layout."""

    def measure(self, *of: object) -> dict[str, Timing]:
        return {
            "dense": Timing(2.0, 0.0),
            "fast": Timing(1.0 if self.clock.channels_last else 3.0, 0.0),
        }

    seen: dict[str, int] = {}

    def bench(found: dict[str, Variant], *size: object, **how: object) -> dict[str, Measured]:
        for name, network in found["auto"].networks.items():
            seen[name] = len(fast_layers(network))
        timing = Timing(1.0, 0.0)
        return {name: Measured(timing, layout, timing, 1, None) for name in found}

    monkeypatch.setattr(Stopwatch, "_measure", measure)
    monkeypatch.setattr("seclcompress.workflows.benching.time_variants", bench)
    flags = ("wrn10_1", "--depth", 1, "--linear", "--head")
    result = invoke("bench", *flags)
    assert seen == {"NCHW": 0, "NHWC": 9}
    words = f"Chosen in {layout}: {fast} of 9 layers run fast; {otherwise} run otherwise"
    assert words in " ".join(result.stdout.split())
    executions = json.loads(invoke("bench", *flags, "--json").stdout)["executions"]
    assert set(executions["NCHW"].values()) == {"dense"}
    assert set(executions["NHWC"].values()) == {"fast"}
    # `convert` can make the network that bench shows.
    measured = ("--cost-model", "measured", *(["--channels-last"] if layout == "NHWC" else []))
    invoke("convert", *flags, *measured, "--dry-run", "--write-plan", "plan.json")
    layers = json.loads((tmp_path / "plan.json").read_text())["layers"]
    assert sum(layer["execution"] == "fast" for layer in layers) == fast


def test_bench_leaves_the_classifier_of_linear_layers_alone(invoke: Invoke) -> None:
    flags = ("wrn10_1", "--depth", 1, "--linear", "--rounds", 3, "--cost-model", "paper")
    content = json.loads(invoke("bench", *flags, "--json").stdout)
    assert "fc" not in content["executions"]["NCHW"]
    assert "separable" in content["variants"]


def test_bench_has_the_baseline_of_count(invoke: Invoke) -> None:
    for flags in (("wrn10_1", "--min-channels", 20), ("wrn10_1", "--only", "group3")):
        content = json.loads(invoke("bench", *flags, "--rounds", 3, "--json").stdout)
        counted = json.loads(invoke("count", *flags, "--json").stdout)
        parameters = counted["columns"]["separable"]["parameters"]
        assert (
            4 * parameters
            < content["variants"]["separable"]["file_bytes"]
            < 5 * parameters + 20_000
        )


def test_bench_of_a_folder_at_another_size(invoke: Invoke) -> None:
    invoke("convert", "wrn10_1", "--depth", 1, "-o", "student")
    result = invoke("bench", "student", "--input-size", 16, "--rounds", 3)
    assert "Measured" not in result.stderr
    assert "3×16×16" in result.stdout


def test_bench_of_a_network_that_keeps_everything(invoke: Invoke, monkeypatch) -> None:
    content = json.loads(invoke("bench", "wrn10_1", "--keep", "*", "--rounds", 3, "--json").stdout)
    assert list(content["variants"]) == ["original"]
    out = invoke("bench", "wrn10_1", "--keep", "*", "--rounds", 3).stdout
    assert "–" in out


@pytest.mark.parametrize("execution", ["dense", "fast"])
def test_a_network_that_is_one_structured_layer(execution: str) -> None:
    acdc = substitutions.get("acdc")
    layer = acdc.build(nn.Conv2d(4, 8, 3), acdc.config({"depth": 2}))
    ready = for_inference(layer, (4, 6, 6), execution)
    assert isinstance(ready, StructuredConv) == (execution == "fast")
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(ready(x), layer.eval()(x), atol=1e-5, rtol=1e-5)
