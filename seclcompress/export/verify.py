"""Running what was written, and comparing it with the network that it was made from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from seclcompress.errors import ExportError
from seclcompress.export.content import Content
from seclcompress.export.contract import Array, Format, Job, Runner
from seclcompress.export.plain import runner_of
from seclcompress.timing import alternate

#: The largest difference of outputs that passes, relative to the largest output, by dtype. That of int8
#: only catches what is broken: how good a quantised network is, its accuracy says.
TOLERANCE = {"float32": 1e-3, "float16": 5e-2, "int8": 0.5}
_FASTEST_ROUND = 0.02  # seconds


@dataclass(frozen=True)
class Verified:
    """What was found when a file was run.

    Attributes:
        runtime: The runtime and its version.
        images: The number of images that both have seen.
        largest_difference: The largest difference of an output.
        relative_difference: That, divided by the largest output of the network.
        agreement: The share of images of which the largest score is the same one's, in percent.
        load_seconds: How long the runtime took to load the file.
        image_seconds: How long it takes for one image, the median.
        unfolded_seconds: The same where the runtime computes no constants at load; None where it is not
            known.
    """

    runtime: str
    images: int
    largest_difference: float
    relative_difference: float
    agreement: float
    load_seconds: float
    image_seconds: float
    unfolded_seconds: float | None = None


def verify(
    path: Path,
    format: Format,
    job: Job,
    original: nn.Module,
    images: Sequence[Tensor],
    *,
    tolerance: float,
    tell: Callable[[int, int], object] = lambda *_: None,
) -> Verified:
    """Runs a file on images and compares it with the network.

    Args:
        path: The file.
        format: Its format.
        job: What was asked for.
        original: The network before the export, in eval mode.
        images: Batches of images.
        tolerance: The largest relative difference that passes.
        tell: Called with the number of batches that were compared, and that of all.

    Returns:
        What was found.

    Raises:
        ExportError: If an output differs by more, or is not finite.
    """
    threads = torch.get_num_threads()
    began = time.perf_counter()
    run = format.runner(path, job, threads=threads)
    loaded = time.perf_counter() - began
    expect = runner_of(original)
    largest, scale, same, seen = 0.0, 0.0, 0, 0
    for number, some in enumerate(images, 1):
        shown = some.float().numpy()
        expected, found = expect(shown), run_in_batches(run, shown, job.content.batch)
        if [one.shape for one in expected] != [one.shape for one in found]:
            raise ExportError(
                f"The {format.name} file returns {_shapes(found)}, the network {_shapes(expected)}. "
                "Nothing was written."
            )
        for one, other in zip(expected, found, strict=True):
            largest = max(largest, float(np.nan_to_num(np.abs(one - other), nan=np.inf).max()))
            scale = max(scale, float(np.abs(one).max()))
        best = [one.reshape(len(shown), -1).argmax(1) for one in (expected[0], found[0])]
        same, seen = same + int((best[0] == best[1]).sum()), seen + len(shown)
        tell(number, len(images))
    relative = largest / max(scale, 1e-12)
    if not relative <= tolerance:
        raise ExportError(
            f"The {format.name} file computes something else in {format.version()}: the largest "
            f"difference of an output is {largest:.3g}, {relative:.2g} of the largest output "
            f"({scale:.3g}); {tolerance:g} would pass (--tolerance). Nothing was written."
        )
    one_image = images[0][:1].float().numpy()
    timing = alternate({"file": lambda: run(one_image)}, rounds=5, min_seconds=_FASTEST_ROUND)
    unfolded = None
    if job.content.weights == "factors":
        slow = format.load(path, threads=threads, fold=False)
        began = time.perf_counter()
        slow(one_image)
        unfolded = time.perf_counter() - began
    return Verified(
        format.version(),
        seen,
        largest,
        relative,
        100 * same / seen,
        loaded,
        timing["file"].median,
        unfolded,
    )


def run_in_batches(run: Runner, images: Array, batch: int | None) -> list[Array]:
    """Runs a file on images, as many at a time as it takes."""
    if batch is None or len(images) == batch:
        return run(images)
    parts = [run(images[place : place + batch]) for place in range(0, len(images), batch)]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def _shapes(outputs: Sequence[Array]) -> str:
    return ", ".join("×".join(map(str, one.shape)) for one in outputs) or "nothing"


def verified_words(found: Verified, content: Content) -> list[str]:
    """What was found, in sentences; a warning where a runtime has to fold constants."""
    lines = [
        f"Compared on {found.images} images in {found.runtime}: largest difference "
        f"{found.largest_difference:.2g} ({found.relative_difference:.2g} of the largest output), "
        f"top-1 agrees on {found.agreement:.1f} %.",
        f"It loads in {found.load_seconds:.2f} s, and takes {1000 * found.image_seconds:.1f} ms for an "
        "image.",
    ]
    if found.unfolded_seconds is not None and content.weights == "factors":
        lines.append(
            "The weights are made when the file is loaded. A runtime that does not fold constants would "
            f"make them for every image: {1000 * found.unfolded_seconds:,.0f} ms here."
        )
    return lines
