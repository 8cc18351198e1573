"""The clock of a runtime: layers as files of one layer. No test depends on real times."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from seclcompress import export, extras, substitutions
from seclcompress.errors import ExportError, UsageError
from seclcompress.export.clock import FileClock, clock_of
from seclcompress.export.content import Content
from seclcompress.export.contract import Format, Job, Runner
from seclcompress.export.graph import tracing
from seclcompress.export.graph.chains import steps_of
from seclcompress.export.race import as_file
from seclcompress.kernel.library import has_onnxruntime_library
from seclcompress.measure import Stopwatch, TorchClock
from seclcompress.plan import PlanOptions
from seclcompress.substitutions import CallSize, Site
from seclcompress.timing import REST, Timing
from seclcompress.workflows.planning import plan_network

ACDC = substitutions.get("acdc")
CONFIG = ACDC.config({"depth": 2})

CHAINS = {
    "padded": (nn.Conv2d(3, 4, 3, padding=1), (3, 6, 5)),
    "strided": (nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2)), (3, 7, 6)),
    "same, odd": (nn.Conv2d(3, 4, 4, padding="same", dilation=(1, 3)), (3, 12, 12)),
    "valid": (nn.Conv2d(4, 6, 3, padding="valid", groups=2, bias=False), (4, 5, 5)),
    "sound": (nn.Conv1d(3, 4, 3, padding=2), (3, 9)),
    "clip": (nn.Conv3d(3, 4, (1, 2, 3), padding=(0, 1, 2)), (3, 2, 4, 5)),
    "split": (
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.Sequential(nn.Conv2d(4, 8, 1))),
        (4, 5, 5),
    ),
    "features": (nn.Linear(4, 3), (4,)),
    "without bias": (nn.Linear(4, 3, bias=False), (4,)),
    "positions": (nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 5)), (6, 4)),
    "grid": (nn.Linear(4, 3), (2, 3, 4)),
}


def runner(format: Format, network: nn.Module, size: tuple[int, ...], folder: Path) -> Runner:
    return as_file(format, network, folder / f"it{format.suffix}", size)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_row_of_layers_is_written_without_a_trace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, runtime: str
) -> None:
    def never(*about: object, **how: object) -> None:
        raise AssertionError("torch's exporter takes a second")

    format = export.of_runtime(runtime)
    if format.missing():
        pytest.skip(f"{runtime} not installed")
    monkeypatch.setattr(tracing, "trace", never)
    network, size = CHAINS[name]
    run = runner(format, network.eval().requires_grad_(False), size, tmp_path)
    for batch in (1, 3):
        x = torch.randn(batch, *size)
        (y,) = run(x.numpy())
        torch.testing.assert_close(torch.from_numpy(y), network(x), atol=1e-5, rtol=1e-4)


def hooked() -> nn.Module:
    conv = nn.Conv2d(3, 3, 1)
    conv.register_forward_hook(lambda module, args, output: 2 * output)
    return conv


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()),
        nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 3, 1).half(),
        nn.ConvTranspose2d(3, 3, 2),
        hooked(),
        nn.Sequential(nn.Sequential(hooked())),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)),
        nn.Sequential(),
        nn.ModuleDict({"a": nn.Conv2d(3, 3, 1)}),
    ],
    ids=str,
)
def test_other_networks_are_traced(network: nn.Module) -> None:
    assert steps_of(network) is None


def test_a_layer_that_stands_twice_is_run_twice(tmp_path: Path) -> None:
    conv = nn.Conv2d(3, 3, 1).eval().requires_grad_(False)
    network, x = nn.Sequential(conv, conv), torch.randn(2, 3, 4, 4)
    (y,) = runner(export.get("onnx"), network, (3, 4, 4), tmp_path)(x.numpy())
    torch.testing.assert_close(torch.from_numpy(y), network(x))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("layer", [nn.Conv2d(8, 16, 3, padding=1), nn.Linear(8, 16)], ids=str)
def test_it_runs(runtime: str, layer: nn.Module) -> None:
    if export.of_runtime(runtime).missing():
        pytest.skip(f"{runtime} not installed")
    clock = clock_of(runtime)
    ways = export.of_runtime(runtime).executions()
    assert (clock.runtime, clock.executions) == (runtime, ways)
    fast = runtime == "onnxruntime" and has_onnxruntime_library()
    assert ways == (("dense", "fast") if fast else ("dense",))
    assert clock.about() == {"runtime": export.of_runtime(runtime).version(), "rest": REST}
    size = CallSize((4, 4), (4, 4)) if isinstance(layer, nn.Conv2d) else CallSize((5,), (5,))
    found = Stopwatch(clock=clock, originals=True).choose(Site(layer, {size: 1}), ACDC, CONFIG)
    assert (found.execution in ways, found.runtime) == (True, runtime)
    assert found.seconds is not None
    assert list(found.seconds) == ["original", *ways]
    assert all(0 < seconds < 60 for seconds in found.seconds.values())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_whole_network_is_planned(
    runtime: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if export.of_runtime(runtime).missing():
        pytest.skip(f"{runtime} not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = PlanOptions(
        config={"depth": 2}, cost_model="measured", runtime=runtime, only=("group3",)
    )
    plan = plan_network("wrn10_1", options=options, input_size=(3, 8, 8)).plan
    assert plan.runtime == runtime
    assert len(plan.timed) == len(plan.rewritten) == 3
    assert {layer.execution for layer in plan.rewritten} == {"dense"}


class Slow(Format):
    """A format whose runtime has a transform: it runs what it was given, in torch."""

    name, summary, suffix, runtime = "slow", "", ".slow", "slowtime"

    def __init__(self) -> None:
        self.written: list[nn.Module] = []

    def executions(self) -> tuple[str, ...]:
        return ("dense", "fast")

    def write(self, job: Job):
        from seclcompress.export.content import Written

        self.written.append(job.prepared.network)
        return Written({self.suffix: b""}, job.content)

    def load(self, path: Path, *, threads: int, fold: bool = True) -> Runner:
        network = self.written[-1]
        return lambda images: [network(torch.from_numpy(images)).detach().numpy()]

    def content(self, path: Path) -> Content:
        raise AssertionError

    def version(self) -> str:
        return "slowtime 3"


def test_a_format_says_what_its_runtime_has(monkeypatch: pytest.MonkeyPatch) -> None:
    format = Slow()
    seen: list[list[str]] = []

    def tell(candidates, **how) -> dict[str, Timing]:
        seen.append(list(candidates))
        for run in candidates.values():
            run()
        return dict(zip(candidates, [Timing(t, 0.0) for t in (3.0, 2.0, 1.0)], strict=True))

    monkeypatch.setattr("seclcompress.export.clock.alternate", tell)
    stopwatch = Stopwatch(clock=FileClock(format), originals=True)
    size = CallSize((4, 4), (4, 4))
    layer = nn.Conv2d(8, 16, 3, padding=1, dtype=torch.float64)
    found = stopwatch.choose(Site(layer, {size: 1}), ACDC, CONFIG)
    assert seen == [["original", "dense", "fast"]]
    assert (found.execution, found.runtime) == ("fast", "slowtime")
    original, dense, fast = format.written
    assert isinstance(original, nn.Conv2d)
    assert substitutions.structured_layers(dense) == []
    assert substitutions.structured_layers(fast) == [fast]
    assert {p.dtype for one in format.written for p in one.parameters()} == {torch.float32}


def test_a_layer_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Slow, job: Job) -> None:
        raise ExportError("it is too large.")

    monkeypatch.setattr(Slow, "write", refuse)
    words = (
        r"A layer \(original\) cannot be timed in slowtime for an input of 1×8×4×4: it is too large"
    )
    with pytest.raises(ExportError, match=words):
        FileClock(Slow()).time({"original": nn.Conv2d(8, 8, 1)}, torch.randn(1, 8, 4, 4))


def test_which_clock() -> None:
    assert clock_of(None) == clock_of("torch") == TorchClock()
    assert clock_of("torch", channels_last=True) == TorchClock(channels_last=True)
    words = (
        r"^Unknown runtime 'onnx'. There are: executorch, litert, onnxruntime, openvino, torch.$"
    )
    with pytest.raises(UsageError, match=words):
        clock_of("onnx")
    with pytest.raises(UsageError, match="Unknown runtime 'none'"):
        clock_of("none")


def test_packages_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    words = (
        r"^--runtime openvino needs onnx, .*openvino, which are not installed: pip install 'seclc"
    )
    with pytest.raises(UsageError, match=words):
        clock_of("openvino")
