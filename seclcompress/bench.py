"""Timing a rewrite: up to five variants of a whole network, alternately in one run."""

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

#: The memory layouts to compare, by the number of dimensions of a batch.
LAYOUTS = {
    4: {"NCHW": torch.contiguous_format, "NHWC": CHANNELS_LAST[4]},
    5: {"NCDHW": torch.contiguous_format, "NDHWC": CHANNELS_LAST[5]},
}


@dataclass(frozen=True)
class Variant:
    """One variant of a network.

    Attributes:
        networks: The network in eval mode, ready to run, by memory layout. The executions may be chosen
            for the layout.
        file_bytes: Size of the weights file, which stores structured layers as factors.
    """

    networks: Mapping[str, nn.Module]
    file_bytes: int


@dataclass(frozen=True)
class Measured:
    """The measurements of one variant.

    Attributes:
        timing: Seconds per batch in the faster layout.
        layout: The faster layout.
        other: Seconds per batch in the other layout.
        file_bytes: Size of the weights file.
        peak_bytes: Peak memory for activations and scratch, without the weights; None where the system
            does not report it.
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
    """Makes networks that are ready to run, one for each column of the reports.

    Args:
        original: The original network.
        separable: The network rewritten as plain separable; None if nothing was rewritten.
        structured: The network rewritten as planned, by memory layout. Layouts with equal plans may
            share one network. Empty if nothing was rewritten.
        input_size: (channels, *spatial) of images or clips.
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
    """Times all variants alternately in both layouts; then measures each variant's peak memory.

    Args:
        networks: The result of `variants`, including `original`.
        input_size: (channels, *spatial) of images or clips.
        batch: Images per batch.
        rounds: Number of rounds; each times every variant twice, in forward and in reverse order.
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
    """The rise of resident memory during a call: activations and scratch, without the weights.

    Linux alone reports the high-water mark and allows a reset; elsewhere the result is None.
    """
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else the call could reuse freed memory unseen
        clear.write_text("5", encoding="ascii")
        before = _status_bytes(status, "VmRSS")
        run()
        return max(0, _status_bytes(status, "VmHWM") - before)
    except (OSError, AttributeError, StopIteration):
        return None


def _status_bytes(status: Path, field: str) -> int:
    lines = status.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024
