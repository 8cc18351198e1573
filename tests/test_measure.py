"""The measured cost model: its decisions and its cache. No test depends on real times."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from clocks import TellingClock
from conftest import Invoke
from torch import nn

from seclcompress import artefact, kernel, substitutions
from seclcompress.fusing import FusedStack
from seclcompress.measure import Stopwatch, TorchClock, default_cache
from seclcompress.substitutions import CallSize, Site
from seclcompress.substitutions.acdc import AcdcPointwise
from seclcompress.substitutions.site import as_convolution
from seclcompress.timing import Timing, alternate, describe_machine

ACDC = substitutions.get("acdc")
CONFIG = ACDC.config({"depth": 2})


def site(layer: nn.Module, calls: Mapping[tuple[int, ...], int] | None = None) -> Site:
    """The site of a layer with these numbers of calls by output size; one call at 4×4 by default."""
    calls = calls or {(4, 4): 1}
    sizes = {CallSize(input_size(layer, size), size): times for size, times in calls.items()}
    return Site(layer, sizes)


def input_size(layer: nn.Module, output: tuple[int, ...]) -> tuple[int, ...]:
    """An input size that gives this output size."""
    conv = as_convolution(layer)
    if conv.padding == "same":
        return output
    assert not isinstance(conv.padding, str)
    geometry = zip(output, conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True)
    return tuple(
        max(1, size * stride + dilation * (kernel - 1) - 2 * padding)
        for size, kernel, stride, padding, dilation in geometry
    )


def told(monkeypatch: pytest.MonkeyPatch, dense: Timing, fast: Timing) -> list[str]:
    """Replaces the measurement by given timings; returns a list of the sizes that it was asked for."""
    asked: list[str] = []

    def measure(self, case) -> dict[str, Timing]:
        asked.append(str(case.size))
        return {"dense": dense, "fast": fast}

    monkeypatch.setattr(Stopwatch, "_measure", measure)
    return asked


@pytest.mark.parametrize(
    ("dense", "fast", "choice"),
    [
        (Timing(3.0, 0.1), Timing(2.0, 0.1), "fast"),
        (Timing(2.0, 0.1), Timing(3.0, 0.1), "dense"),
        (Timing(3.0, 0.1), Timing(2.9, 0.2), "dense"),
        (Timing(3.0, 1.9), Timing(2.0, 0.1), "dense"),
        (Timing(3.0, 1.7), Timing(2.0, 0.1), "fast"),
        (Timing(2.0, 0.0), Timing(2.0, 0.0), "dense"),
    ],
)
def test_the_faster_one_unless_it_is_noise(
    monkeypatch, dense: Timing, fast: Timing, choice: str
) -> None:
    told(monkeypatch, dense, fast)
    found = Stopwatch().choose(site(nn.Conv2d(4, 8, 1)), ACDC, CONFIG)
    assert found.execution == choice
    assert found.seconds == {"dense": dense.median, "fast": fast.median}


def test_every_call_of_a_shared_layer_counts(monkeypatch) -> None:
    told(monkeypatch, Timing(3.0, 0.1), Timing(2.0, 0.1))
    found = Stopwatch().choose(site(nn.Conv2d(4, 8, 1), {(4, 4): 1, (2, 2): 2}), ACDC, CONFIG)
    assert found.seconds == {"dense": 9.0, "fast": 6.0}


def test_a_second_conversion_measures_nothing(monkeypatch, tmp_path: Path) -> None:
    asked = told(monkeypatch, Timing(3.0, 0.1), Timing(2.0, 0.1))
    cache = tmp_path / "deep" / "timings.json"
    conv = nn.Conv2d(4, 8, 1)
    first, second = Stopwatch(cache), Stopwatch(cache)
    first.choose(site(conv), ACDC, CONFIG)
    again = Stopwatch(cache)
    assert again.choose(site(conv), ACDC, CONFIG).execution == "fast"
    assert (first.measured, again.measured, len(asked)) == (1, 0, 1)
    # A change of anything that influences the seconds leads to a new measurement.
    again.choose(site(conv), ACDC, ACDC.config({"depth": 3}))
    again.choose(site(nn.Conv2d(4, 8, 3)), ACDC, CONFIG)
    again.choose(site(conv, {(5, 5): 1}), ACDC, CONFIG)
    Stopwatch(cache, batch=2).choose(site(conv), ACDC, CONFIG)
    Stopwatch(cache, clock=TorchClock(channels_last=True)).choose(site(conv), ACDC, CONFIG)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        again.choose(site(conv), ACDC, CONFIG)
    finally:
        torch.set_num_threads(threads)
    assert len(asked) == 7
    # A stopwatch keeps the results that others wrote to the file after it had read it.
    second.choose(site(conv, {(9, 9): 1}), ACDC, CONFIG)
    assert len(json.loads(cache.read_text())) == 8


@pytest.mark.parametrize("content", ["", "[]", '{"a": 3}', "[" * 9999, '{"a": {"dense": [1, -2]}}'])
def test_a_damaged_cache_is_measured_anew(monkeypatch, tmp_path: Path, content: str) -> None:
    asked = told(monkeypatch, Timing(3.0, 0.1), Timing(2.0, 0.1))
    cache = tmp_path / "timings.json"
    cache.write_text(content)
    Stopwatch(cache).choose(site(nn.Conv2d(4, 8, 1)), ACDC, CONFIG)
    assert len(asked) == 1
    assert len(json.loads(cache.read_text())) == 1


@pytest.mark.parametrize("left", [{}, {"dense": [3.0, 0.1]}, {"fast": [3.0, 0.1]}])
def test_a_case_with_other_executions_in_the_cache_is_measured_anew(
    monkeypatch, tmp_path: Path, left: dict[str, list[float]]
) -> None:
    asked = told(monkeypatch, Timing(3.0, 0.1), Timing(2.0, 0.1))
    cache = tmp_path / "timings.json"
    conv = nn.Conv2d(4, 8, 1)
    Stopwatch(cache).choose(site(conv), ACDC, CONFIG)
    (key,) = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: left}))
    found = Stopwatch(cache).choose(site(conv), ACDC, CONFIG)
    assert (found.execution, found.seconds) == ("fast", {"dense": 3.0, "fast": 2.0})
    assert len(asked) == 2
    assert json.loads(cache.read_text()) == {key: {"dense": [3.0, 0.1], "fast": [2.0, 0.1]}}


def test_a_family_with_one_execution_has_one_time() -> None:
    separable = substitutions.get("separable")
    found = Stopwatch().choose(site(nn.Conv2d(4, 8, 3)), separable, separable.config({}))
    assert found.execution == "dense"
    assert found.seconds is not None
    assert list(found.seconds) == ["dense"]


def test_a_linear_is_timed_over_its_positions() -> None:
    found = Stopwatch().choose(site(nn.Linear(4, 8), {(5,): 2}), ACDC, CONFIG)
    assert found.seconds is not None
    assert list(found.seconds) == ["dense", "fast"]


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.Conv2d(4, 8, (1, 5), stride=(2, 1), dilation=(1, 2), padding=(0, 4)),
        nn.Conv2d(4, 8, 3, padding="same"),
        nn.Conv2d(4, 8, 3, stride=2, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 8, 1, dtype=torch.float64),
        nn.Conv2d(4, 8, 3, padding=3),
        nn.Conv2d(4, 8, 1, stride=2, device="meta"),
        nn.Conv1d(4, 8, 3),
        nn.Conv3d(4, 8, 2, stride=2),
    ],
)
def test_a_layer_is_timed_at_its_true_shape(conv: nn.Module) -> None:
    size = (5,) * len(conv.kernel_size)
    seen = []
    where = site(conv, {size: 1})

    def spied(forward):
        def spy(self, x, *residual):
            y = forward(self, x, *residual)
            seen.append((tuple(x.shape), tuple(y.shape)))
            return y

        return spy

    with pytest.MonkeyPatch.context() as patch:
        for kind in (type(ACDC.build(nn.Conv2d(4, 8, 1), CONFIG)), FusedStack):
            patch.setattr(kind, "forward", spied(kind.forward))
        found = Stopwatch(batch=3).choose(where, ACDC, CONFIG)
    ((given, _),) = where.calls
    assert set(seen) == {((3, 4, *given), (3, 8, *size))}
    assert found.seconds is not None
    assert all(0 < seconds < 60 for seconds in found.seconds.values())


def test_without_a_place_for_the_cache(tmp_path: Path, monkeypatch) -> None:
    from seclcompress.errors import SeclcompressWarning

    told(monkeypatch, Timing(3.0, 0.1), Timing(2.0, 0.1))
    (tmp_path / "file").touch()
    stopwatch = Stopwatch(tmp_path / "file" / "timings.json")
    with pytest.warns(SeclcompressWarning, match="Timings are not remembered"):
        assert stopwatch.choose(site(nn.Conv2d(4, 8, 1)), ACDC, CONFIG).execution == "fast"


def test_random_numbers_are_left_alone() -> None:
    conv = nn.Conv2d(4, 8, 1)
    state = torch.get_rng_state()
    Stopwatch().choose(site(conv), ACDC, CONFIG)
    assert torch.equal(state, torch.get_rng_state())


def test_on_the_command_line(invoke: Invoke, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told(monkeypatch, Timing(3.0, 0.1), Timing(2.0, 0.1))
    assert default_cache() == tmp_path / "cache/seclcompress/timings.json"
    flags = ("wrn10_1", "--depth", 2, "--cost-model", "measured")
    result = invoke("convert", *flags, "-o", "out")
    assert "Measured 7 layer shapes" in result.stderr
    assert "chosen by the measured cost model: 0 dense, 8 fast" in " ".join(result.stdout.split())
    plan = artefact.read_config(Path("out")).plan
    assert plan is not None
    assert plan.cost_model == "measured"
    assert plan.rewritten[0].reason.endswith("; fast, though dense has fewer Mult-Adds")
    assert {layer.execution for layer in plan.rewritten} == {"fast"}
    assert plan.rewritten[0].seconds == {"dense": 3.0, "fast": 2.0}
    assert "Measured 0 layer shapes" in invoke("count", *flags).stderr
    loaded = artefact.load(Path("out"))
    assert {m.planned_execution for m in loaded.modules() if hasattr(m, "planned_execution")} == {
        "fast"
    }


@pytest.mark.parametrize(
    ("conv", "size", "last"),
    [
        (nn.Conv2d(4, 8, 3), (5, 6), torch.channels_last),
        (nn.Conv3d(4, 8, 1), (4, 5, 6), torch.channels_last_3d),
        (nn.Conv1d(4, 8, 1), (5,), None),
    ],
    ids=["images", "clips", "a Linear's positions"],
)
def test_both_candidates_run_in_the_layout(monkeypatch, conv, size, last) -> None:
    """The output has the input's layout, the dense candidate no stack; fused is channels last."""
    outputs: dict[str, torch.Tensor] = {}
    stacks: list[str] = []
    map_channels = AcdcPointwise.map_channels

    def watch(candidates, **how) -> dict[str, Timing]:
        for name, run in candidates.items():
            monkeypatch.setattr(
                AcdcPointwise,
                "map_channels",
                lambda layer, x, name=name: stacks.append(name) or map_channels(layer, x),
            )
            outputs[name] = run()
        return dict.fromkeys(candidates, Timing(1.0, 0.0))

    monkeypatch.setattr("seclcompress.measure.alternate", watch)
    for channels_last in (False, True):
        Stopwatch(clock=TorchClock(channels_last)).choose(site(conv, {size: 1}), ACDC, CONFIG)
        torch.testing.assert_close(outputs["dense"], outputs["fast"])
        assert set(stacks) == {"fast"}
        for name, y in outputs.items():
            assert y.is_inference()
            if y.dim() == 5 and name == "dense":
                continue  # the output of torch's own Conv3d is NCDHW
            fused = y.dim() == 4 and kernel.available()
            if (channels_last or fused) and last is not None:
                assert y.is_contiguous(memory_format=last)
                assert not y.is_contiguous()
            else:
                assert y.is_contiguous()


def test_alternating() -> None:
    order: list[str] = []
    alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert order[-12:] == [*"abba"] * 3, "neither always behind the other"
    times = alternate({"long": lambda: time.sleep(0.02), "short": lambda: None}, rounds=3)
    assert times["long"].median >= 0.02 > times["short"].median
    assert "threads" in describe_machine()


FAULTS = """
import resource, torch
from seclcompress.timing import alternate

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

seen = []
torch.set_num_threads(2)  # with one, convolutions take other memory
conv = torch.nn.Conv2d(64, 256, 1)  # an output of 3 MB, 784 pages
x = torch.randn(1, 64, 56, 56)

def run():
    before = faults()
    with torch.inference_mode():
        conv(x)
    seen.append(faults() - before)

alternate({"one": run, "other": run}, rounds=20)
print(sorted(seen)[len(seen) // 2])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc's allocator")
def test_page_faults_of_a_fresh_process_are_not_timed() -> None:
    # Page faults made dense seem four times slower in the first layers that a process measured.
    ran = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 100


def test_a_runtime_has_its_own_executions_and_the_original_is_a_candidate() -> None:
    clock = TellingClock({"original": 2.0, "dense": 3.0}, spread=1.0)
    stopwatch = Stopwatch(clock=clock, originals=True)
    found = stopwatch.choose(site(nn.Conv2d(4, 8, 3), {(4, 4): 1, (2, 2): 2}), ACDC, CONFIG)
    assert (found.execution, found.runtime) == ("dense", "onnxruntime")
    assert found.seconds == pytest.approx({"original": 0.006, "dense": 0.009})
    assert 0 < found.noise < 0.003
    assert found.slower == "slower in onnxruntime: dense takes 9.00 ms, the original 6.00"
    assert [shape for _, shape in clock.asked] == [(1, 4, 6, 6), (1, 4, 4, 4)]
    candidates, shape = clock.asked[0]
    assert list(candidates) == ["original", "dense"]
    images = torch.randn(shape)
    assert candidates["dense"](images).shape == candidates["original"](images).shape
    assert isinstance(candidates["original"], nn.Conv2d)
    assert not any(module.training for module in candidates.values())


def test_without_the_original_nothing_is_said_of_it() -> None:
    clock = TellingClock({"dense": 3.0})
    found = Stopwatch(clock=clock).choose(site(nn.Conv2d(4, 8, 3)), ACDC, CONFIG)
    assert found.seconds == {"dense": 0.003}
    assert (found.noise, found.slower) == (0.0, None)


@pytest.mark.parametrize(
    ("spread", "slower"), [(0.0, True), (0.3, True), (0.6, False)], ids=["quiet", "less", "noise"]
)
def test_slower_is_more_than_noise(spread: float, slower: bool) -> None:
    clock = TellingClock({"original": 2.0, "dense": 2.25}, spread)
    found = Stopwatch(clock=clock, originals=True).choose(site(nn.Conv2d(4, 8, 3)), ACDC, CONFIG)
    assert (found.slower is not None) == slower


def test_a_runtime_with_a_transform_is_asked_for_both() -> None:
    clock = TellingClock({"original": 9.0, "dense": 3.0, "fast": 2.0}, executions=("dense", "fast"))
    found = Stopwatch(clock=clock, originals=True).choose(site(nn.Conv2d(4, 8, 3)), ACDC, CONFIG)
    assert found.execution == "fast"
    ((candidates, _),) = clock.asked
    assert list(candidates) == ["original", "dense", "fast"]


def test_a_runtime_and_its_version_are_remembered_apart(tmp_path: Path) -> None:
    cache, conv = tmp_path / "timings.json", nn.Conv2d(4, 8, 1)
    times = {"original": 2.0, "dense": 3.0, "fast": 1.0}
    clocks = [
        TellingClock(times),
        TellingClock(times, version="2"),
        TellingClock(times, runtime="openvino"),
        TellingClock(times, runtime="openvino"),
    ]
    for clock in clocks:
        Stopwatch(cache, clock=clock, originals=True).choose(site(conv), ACDC, CONFIG)
    assert [len(clock.asked) for clock in clocks] == [1, 1, 1, 0]
    # Who does not ask for the original has no use for it, and needs no new measurement.
    again = TellingClock(times)
    found = Stopwatch(cache, clock=again).choose(site(conv), ACDC, CONFIG)
    assert (found.seconds, again.asked) == ({"dense": 0.003}, [])


def test_how_much_is_left_is_said() -> None:
    said: list[str] = []
    clock = TellingClock({"original": 2.0, "dense": 3.0})
    stopwatch = Stopwatch(clock=clock, originals=True, on_measure=said.append)
    sites = [site(nn.Conv2d(4, 8, 1)), site(nn.Conv2d(4, 8, 3)), site(nn.Conv2d(4, 8, 1))]
    for each in sites:
        stopwatch.foresee(each, ACDC, CONFIG)
    assert (clock.asked, said) == ([], [])
    for each in sites:
        stopwatch.choose(each, ACDC, CONFIG)
    assert [words[-8:] for words in said] == ["(1 of 2)", "(2 of 2)"]


def test_what_other_work_has_disturbed_is_not_remembered(tmp_path: Path) -> None:
    cache, conv = tmp_path / "timings.json", nn.Conv2d(4, 8, 1)
    for spread, unsteady in ((1.1, 1), (1.0, 0), (1.1, 0)):
        clock = TellingClock({"original": 2.0, "dense": 3.0}, spread)
        stopwatch = Stopwatch(cache, clock=clock, originals=True)
        for _ in range(2):  # within one plan it is measured once, and counts
            assert stopwatch.choose(site(conv), ACDC, CONFIG).seconds is not None
        assert stopwatch.unsteady == unsteady
    assert clock.asked == [], "the steady one is known"


@pytest.mark.parametrize(("positions", "shape"), [(1, (2, 4)), (5, (2, 5, 4))])
def test_a_linear_is_timed_as_a_linear(positions: int, shape: tuple[int, ...]) -> None:
    clock = TellingClock({"original": 2.0, "dense": 3.0})
    stopwatch = Stopwatch(clock=clock, batch=2, originals=True)
    stopwatch.choose(site(nn.Linear(4, 8, device="meta"), {(positions,): 1}), ACDC, CONFIG)
    ((candidates, seen),) = clock.asked
    assert seen == shape
    for candidate in candidates.values():
        assert isinstance(candidate, nn.Linear)
        assert candidate(torch.randn(shape)).shape == (*shape[:-1], 8)
