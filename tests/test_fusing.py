"""Networks ready for inference are really fused, and compute the same; what is not fused is told."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable

import pytest
import torch
from batch_norms import draw_batch_norms
from compiled_kernel import needs_kernel
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from seclcompress import fusing, inference, kernel, networks
from seclcompress.fusing import FusedConv, FusedStack
from seclcompress.inference import for_inference, fused
from seclcompress.kernel import by_native
from seclcompress.plan import PlanOptions, make_plan
from seclcompress.rewrite import rewrite_network
from seclcompress.trace import trace_network


def rewritten(name: str, size: int) -> nn.Module:
    torch.manual_seed(0)
    network = networks.build(networks.named_spec(name, 10))
    draw_batch_norms(network, spread=0.1)
    network.eval()
    trace = trace_network(network, (3, size, size))
    rewrite_network(network, make_plan(network, trace, PlanOptions(config={"depth": 2})))
    return network


def operators(network: nn.Module, x: Tensor) -> dict[str, int]:
    """How often each of torch's operators runs."""
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as found:
        network(x)
    return {event.key: event.count for event in found.key_averages()}


def number(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


@needs_kernel
@pytest.mark.parametrize(("name", "size"), [("resnet18", 64), ("wrn10_1", 32)])
@pytest.mark.parametrize("execution", ["dense", "fast"])
def test_rewritten_networks_are_fused(name: str, size: int, execution: str) -> None:
    network = rewritten(name, size)
    plain = for_inference(network, (3, size, size), execution, fuse=False)
    ready = for_inference(network, (3, size, size), execution)
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected, found = plain(x), ready(x)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    before, after = operators(plain, x), operators(ready, x)
    convolutions = "aten::conv2d"
    # Convolutions that are not rewritten (the stem) are all that is left to torch.
    left = sum(type(m) is nn.Conv2d and m.groups == 1 and m.kernel_size != (1, 1)
               for m in plain.modules())  # fmt: skip
    assert after.get(convolutions, 0) == left < before[convolutions]
    assert after.get("aten::add", 0) + after.get("aten::add_", 0) <= (
        before.get("aten::add", 0) + before.get("aten::add_", 0)
    )
    if execution == "dense":
        assert number(ready, FusedConv) > 5
        relus = ("aten::relu", "aten::relu_")
        assert sum(after.get(r, 0) for r in relus) < sum(before.get(r, 0) for r in relus)
    else:
        assert number(ready, FusedStack) > 3


@needs_kernel
def test_a_fused_network_is_copied_and_pickled_and_has_a_state() -> None:
    ready = for_inference(rewritten("wrn10_1", 32), (3, 32, 32), "dense")
    x = torch.randn(1, 3, 32, 32)
    for other in (copy.deepcopy(ready), pickle.loads(pickle.dumps(ready))):
        assert torch.equal(other(x), ready(x))
        assert other.state_dict().keys() == ready.state_dict().keys()


def split(stride: int = 1, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(4, 4, 3, stride, 1, groups=4, bias=bias), nn.Conv2d(4, 6, 1, bias=bias)
    )


class Sums(nn.Module):
    """A split convolution, a sum with something, and ReLU."""

    def __init__(self, other: Callable[[Tensor], Tensor], first: bool = True) -> None:
        super().__init__()
        self.split, self.other, self.first = split(), other, first

    def forward(self, x: Tensor) -> Tensor:
        y, other = self.split(x), self.other(x)
        return torch.relu(y + other if self.first else other + y)


@needs_kernel
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "other",
    [
        lambda x: x[:, :1],
        lambda x: x.mean((1, 2, 3), keepdim=True),
        lambda x: x[:, :1].repeat(1, 6, 1, 1),
        lambda x: x[:1, :1, :1, :1].expand(3, 2, 1, 1, 1, 1).sum(0),
    ],
    ids=["one channel", "one number", "all", "more dimensions"],
)
def test_residuals_of_other_shapes(other: Callable[[Tensor], Tensor], first: bool) -> None:
    network = Sums(other, first).eval()
    ready = fused(network, (4, 7, 5))
    x = torch.randn(2, 4, 7, 5)
    with torch.no_grad():
        torch.testing.assert_close(ready(x), network(x))
    assert number(ready, FusedConv) == 1


@needs_kernel
def test_a_sum_larger_than_what_is_convolved() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return (self.map(x.mean((2, 3), keepdim=True)) + x).relu()

    network = Gate().eval()
    ready = fused(network, (4, 7, 5))
    x = torch.randn(2, 4, 7, 5)
    with torch.no_grad():
        torch.testing.assert_close(ready(x), network(x))
        torch.testing.assert_close(ready(x[:1]), network(x[:1]))
    assert number(ready, FusedConv) == 1


@needs_kernel
def test_what_others_read_is_not_changed() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = split(), nn.Conv2d(4, 6, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.one(x)
            z = self.two(x)
            z += y
            return torch.cat([y, z.relu_()], 1)

    network = Reads().eval()
    ready = fused(network, (4, 7, 5))
    x = torch.randn(2, 4, 7, 5)
    with torch.no_grad():
        torch.testing.assert_close(ready(x), network(x))
    assert number(ready, FusedConv) == 2


class Decides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.split = split()

    def forward(self, x: Tensor) -> Tensor:
        y = self.split(x)
        return y if y.sum() > 0 else -y


class Optional(Decides):
    """A trace takes the path with a mask, which then is None."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.split(x) if mask is None else self.split(x) * mask


@needs_kernel
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Decides, "Decides cannot be traced (TraceError"),
        (Optional, "Optional does not run (TypeErr"),
    ],
)
def test_what_a_trace_cannot_do_is_told(
    kind: type[nn.Module], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a logger of its own: a library of an earlier test may have switched loggers off."""
    told: list[logging.LogRecord] = []
    logger = logging.Logger("seclcompress", logging.INFO)
    logger.addFilter(lambda record: bool(told.append(record)))  # type: ignore[func-returns-value]
    monkeypatch.setattr(inference, "_log", logger)
    network = kind().eval()
    assert fused(network, (4, 7, 5)) is network
    assert words in "".join(record.getMessage() for record in told)


@needs_kernel
def test_an_error_of_the_fusing_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*of: object, **how: object) -> Tensor:
        raise RuntimeError("a bug")

    monkeypatch.setattr(kernel, "convolve", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        fused(split().eval(), (4, 7, 5))


def test_without_the_kernel_nothing_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "available", lambda: False)
    network = split().eval()
    assert fused(network, (4, 7, 5)) is network
    assert fusing.fused_layer(network) is network


@needs_kernel
def test_a_fused_network_runs_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = split(2).eval(), torch.randn(2, 4, 7, 5)
    ready = fused(network, (4, 7, 5))
    assert number(ready, FusedConv) == 1
    monkeypatch.setattr(by_native, "there", lambda: False)
    with torch.no_grad():
        torch.testing.assert_close(ready(x), network(x))
        torch.testing.assert_close(ready(x[0]), network(x[0]))
