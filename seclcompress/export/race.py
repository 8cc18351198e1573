"""Timing the same networks in several runtimes, in turn, each with as many threads."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from seclcompress import export
from seclcompress.export.content import Content
from seclcompress.export.contract import Format, Job, Runner
from seclcompress.export.plain import example, runner_of
from seclcompress.export.prepare import Prepared
from seclcompress.export.verify import run_in_batches
from seclcompress.inference import to_memory_format
from seclcompress.timing import REST, Timing, alternate


@dataclass(frozen=True)
class Runtimes:
    """Timings of networks in several runtimes.

    Attributes:
        versions: The runtimes with their versions, by name.
        timings: Seconds a batch, by runtime and column.
    """

    versions: Mapping[str, str]
    timings: Mapping[str, Mapping[str, Timing]]


def formats_of(runtimes: Sequence[str]) -> dict[str, Format]:
    """The formats whose files runtimes run, by the runtimes' names.

    Raises:
        UsageError: If a runtime is unknown, or not installed.
    """
    formats = {name: export.of_runtime(name) for name in runtimes}
    for name, format in formats.items():
        format.check(f"--runtime {name}")
    return formats


def race(
    networks: Mapping[str, nn.Module],
    runtimes: Sequence[str],
    input_size: tuple[int, ...],
    *,
    batch: int,
    rounds: int,
    tell: Callable[[str], object] = str,
) -> Runtimes:
    """Times networks in runtimes.

    torch runs each network in its faster memory layout. Other runtimes get files, and choose their
    layouts themselves; one that has no fast execution gets the networks of torch's own layers alone.

    Args:
        networks: Networks ready for inference (`inference.for_inference`) by column. Those of torch's
            own layers run in every runtime, others where layers can run fast.
        runtimes: Names of runtimes, of formats with files that run.
        input_size: (channels, *spatial).
        batch: Images per batch.
        rounds: Rounds of timing.
        tell: Is called with what is done.

    Raises:
        UsageError: If a runtime is unknown, or not installed.
        ExportError: If a network cannot be exported.
    """
    formats = formats_of(runtimes)
    images = example(next(iter(networks.values())), input_size, batch).float().numpy()
    runners: dict[tuple[str, str, str], Runner] = {}
    with tempfile.TemporaryDirectory() as folder:
        for runtime, format in formats.items():
            for column, network in networks.items():
                if runtime == "torch":
                    runners |= _in_torch(column, network, len(input_size) + 1)
                elif _is_plain(network) or "fast" in format.executions():
                    tell(f"Exporting {column} for {runtime} …")
                    path = Path(folder) / f"{runtime}_{column}{format.suffix}"
                    runners[runtime, column, ""] = as_file(format, network, path, input_size)
        tell("Timing all in turn …")
        keys = {" ".join(key): key for key in runners}
        candidates = {name: _call(runners[key], images) for name, key in keys.items()}
        times = alternate(candidates, rounds=rounds, warm_ups=2, rest=REST)
    found: dict[str, dict[str, Timing]] = {runtime: {} for runtime in runtimes}
    for name, timing in times.items():
        runtime, column, _ = keys[name]
        before = found[runtime].get(column)
        if before is None or timing.median < before.median:
            found[runtime][column] = timing
    return Runtimes({name: format.version() for name, format in formats.items()}, found)


def _is_plain(network: nn.Module) -> bool:
    return not any(
        type(m).__module__.startswith("seclcompress.substitutions") for m in network.modules()
    )


def _in_torch(
    column: str, network: nn.Module, dimensions: int
) -> dict[tuple[str, str, str], Runner]:
    last = {4: torch.channels_last, 5: torch.channels_last_3d}[dimensions]
    layouts = {"contiguous": torch.contiguous_format, "channels_last": last}
    found: dict[tuple[str, str, str], Runner] = {}
    for name, layout in layouts.items():
        found["torch", column, name] = runner_of(
            to_memory_format(copy.deepcopy(network), layout), layout
        )
    return found


def as_file(format: Format, network: nn.Module, path: Path, input_size: tuple[int, ...]) -> Runner:
    """Writes a network of torch's own layers as a file and loads that into its runtime.

    Args:
        format: The file's format.
        network: The network, in eval mode.
        path: The file's place; its name becomes the network's.
        input_size: (channels, *spatial), or what else the network takes behind the batch.

    Raises:
        ExportError: If the network cannot be written in this format.
        ArtefactError: If the runtime cannot load what was written.
    """
    numbers = sum(p.numel() for p in network.parameters())
    about = Content(network=path.stem, input_size=input_size, parameters=numbers)
    job = Job(Prepared(network), about)
    written = format.write(job)
    written.put(path)
    content = written.content
    run = format.runner(path, replace(job, content=content), threads=torch.get_num_threads())
    return lambda images: run_in_batches(run, images, content.batch)


def _call(runner: Runner, images: object) -> Callable[[], object]:
    return lambda: runner(images)  # type: ignore[arg-type]
