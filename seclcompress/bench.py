"""What a rewrite gains by the clock: a whole network five ways, side by side in one run."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from seclcompress.artefact import weights_bytes
from seclcompress.cost import EXECUTIONS
from seclcompress.inference import for_inference, to_memory_format
from seclcompress.kernel.layout import CHANNELS_LAST
from seclcompress.networks.tasks import task_of
from seclcompress.substitutions import structured_layers
from seclcompress.timing import Timing, alternate
from seclcompress.trace import floating_dtype

#: Memory layouts to compare, by the number of dimensions of a batch.
LAYOUTS = {
    4: {"NCHW": torch.contiguous_format, "NHWC": CHANNELS_LAST[4]},
    5: {"NCDHW": torch.contiguous_format, "NDHWC": CHANNELS_LAST[5]},
}


@dataclass(frozen=True)
class Variant:
    """One way to run a network.

    Attributes:
        networks: In eval mode, ready to run; by memory layout, for which the executions were chosen.
        file_bytes: Of its weights as they are stored: structured layers as factors.
    """

    networks: Mapping[str, nn.Module]
    file_bytes: int


@dataclass(frozen=True)
class Measured:
    """What one variant took.

    Attributes:
        timing: Seconds a batch, in the faster layout.
        layout: That layout.
        other: Seconds a batch in the other layout.
        file_bytes: Of the weights as they are stored.
        peak_bytes: Of memory beside the weights, activations and scratch; None where the system does
            not tell.
    """

    timing: Timing
    layout: str
    other: Timing
    file_bytes: int
    peak_bytes: int | None


def variants(
    original: nn.Module,
    separable: nn.Module | None,
    structured: Mapping[str, nn.Module],
    input_size: tuple[int, ...],
) -> dict[str, Variant]:
    """The columns of every report as networks that are ready to run.

    Args:
        original: As it was.
        separable: Rewritten as plain separable; None where that rewrites nothing.
        structured: Rewritten as planned for each memory layout, one network for several if they
            agree; empty likewise.
        input_size: (channels, *spatial), images or clips.
    """
    layouts = LAYOUTS[len(input_size) + 1]

    def same(network: nn.Module, execution: str) -> Variant:
        ready = for_inference(network, input_size, execution)
        return Variant(dict.fromkeys(layouts, ready), len(weights_bytes(network)))

    found = {"original": same(original, "auto")}
    if separable is not None:
        found["separable"] = same(separable, "auto")
    if structured:
        one = next(iter(structured.values()))
        layers = structured_layers(one)
        ways = [way for way in EXECUTIONS if any(way in layer.executions for layer in layers)]
        if len(ways) > 1:
            found |= {execution: same(one, execution) for execution in ways}
        ready = {network: for_inference(network, input_size) for network in structured.values()}
        chosen = {layout: ready[structured[layout]] for layout in layouts}
        found["auto"] = Variant(chosen, len(weights_bytes(one)))
    return found


def bench(
    networks: Mapping[str, Variant],
    input_size: tuple[int, ...],
    *,
    batch: int = 1,
    rounds: int = 9,
) -> dict[str, Measured]:
    """Times variants in both layouts, all of them in turn; then takes each one's memory.

    Args:
        networks: From `variants`, the original among them.
        input_size: (channels, *spatial), images or clips.
        batch: Images at once.
        rounds: How often each is timed, there and back.
    """
    x = torch.randn(batch, *input_size, generator=torch.Generator().manual_seed(0))
    x = x.to(floating_dtype(next(iter(networks["original"].networks.values()))))
    layouts = LAYOUTS[x.dim()]
    candidates: dict[str, Callable[[], object]] = {}
    for name, variant in networks.items():
        for layout, memory_format in layouts.items():
            candidates[f"{name} {layout}"] = _runner(variant.networks[layout], x, memory_format)
    with torch.inference_mode():
        times = alternate(candidates, rounds=rounds, warm_ups=2)
    results = {}
    for name, variant in networks.items():
        by_layout = {layout: times[f"{name} {layout}"] for layout in layouts}
        best, other = sorted(by_layout, key=lambda layout: by_layout[layout].median)
        with torch.inference_mode():
            peak = _peak_bytes(candidates[f"{name} {best}"])
        results[name] = Measured(by_layout[best], best, by_layout[other], variant.file_bytes, peak)
    return results


def _runner(
    network: nn.Module, x: torch.Tensor, memory_format: torch.memory_format
) -> Callable[[], object]:
    mine = to_memory_format(copy.deepcopy(network), memory_format)
    arguments = task_of(mine).arguments(x.contiguous(memory_format=memory_format))
    return lambda: mine(*arguments)


def _peak_bytes(run: Callable[[], object]) -> int | None:
    """How far resident memory rises during a call: activations and scratch, not the weights.

    Linux tells the high-water mark and lets it be reset; nobody else does.
    """
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        ctypes.CDLL(None).malloc_trim(0)  # or memory that is free already would be used unseen
        clear.write_text("5", encoding="ascii")
        before = _status_bytes(status, "VmRSS")
        run()
        return max(0, _status_bytes(status, "VmHWM") - before)
    except (OSError, AttributeError, StopIteration):
        return None


def _status_bytes(status: Path, field: str) -> int:
    lines = status.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024
