"""Times the fused kernel and torch's own dense layers in turn.

    python benchmarks/kernel.py --threads 1 2
    python benchmarks/kernel.py --sizes 320 640 --positions 49 --layers 4
    python benchmarks/kernel.py --weight --sizes 1024

A ratio is dense time / fused time: above 1 the kernel is faster. Each process takes the median of its
runs; the table shows the median over the processes, and the least and the greatest ratio. A length
without an FFT plan is raised to the next one that has a plan; the dense layer keeps the given length.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from own_process import in_process, median_and_range

from seclcompress import kernel
from seclcompress.kernel import by_native
from seclcompress.timing import alternate, describe_machine

TARGETS = {  # (N, layers) -> ratio aimed at with 784 positions
    **{(256, 12): 0.6, (512, 12): 1.1, (1024, 12): 2.0, (2048, 12): 3.5, (4096, 12): 6.0},
    **{(256, 4): 2.0, (512, 4): 3.2, (1024, 4): 5.5, (2048, 4): 10.0, (4096, 4): 17.0},
}


class Line(NamedTuple):
    """The name of a case, the median seconds of both candidates, and the target of their ratio."""

    name: str
    dense: float
    fused: float
    target: float | None


def next_length(n: int) -> int:
    """The next length for which the kernel has an FFT plan."""
    while not kernel.supports(n, torch.float32, "cpu"):
        n += 1
    return n


def in_turns(functions: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Medians of functions timed warm and in turn, for as many rounds as fit, but at least 7."""
    once = sum(timing.median for timing in alternate(functions, rounds=2, warm_ups=2).values())
    rounds = max(7, min(99, round(seconds / once / 2)))
    return {name: timing.median for name, timing in alternate(functions, rounds=rounds).items()}


def bench_layer(n: int, layers: int, positions: int, channels_last: bool, seconds: float) -> Line:
    """Times a stack and Conv2d(n, n, 1) on one image with this number of positions."""
    side = math.isqrt(positions)
    x = torch.randn(1, n, side, positions // side)
    conv = torch.nn.Conv2d(n, n, 1)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
        conv = conv.to(memory_format=torch.channels_last)
    length = next_length(n)
    a, d = (1 + 0.1 * torch.randn(2, layers, length)).unbind()
    bias = torch.zeros(n)
    with torch.inference_mode():
        times = in_turns(
            {"dense": lambda: conv(x), "fused": lambda: kernel.acdc_stack(x, a, d, n, bias)},
            seconds,
        )
    padded = "" if length == n else f" (as {length})"
    layout = " NHWC" if channels_last else ""
    name = f"N={n}{padded} L={layers} positions={positions}{layout}"
    target = TARGETS.get((n, layers)) if positions == 784 and not channels_last else None
    return Line(name, times["dense"], times["fused"], target)


def bench_weight(n: int, layers: int, seconds: float) -> list[Line]:
    """Times making W, and W with its gradient, and as many products of N×N matrices as layers."""
    length = next_length(n)
    a, d = (1 + 0.1 * torch.randn(2, layers, length)).unbind()
    a, d = a.clone().requires_grad_(), d.clone().requires_grad_()
    factor, outer = torch.randn(length, length), torch.randn(n, n)

    @torch.no_grad()
    def products() -> None:
        product = factor
        for _ in range(layers):
            product = factor @ product

    @torch.no_grad()
    def weight() -> None:
        kernel.acdc_matrix(a, d, n, n)

    def weight_and_gradient() -> None:
        torch.autograd.grad(kernel.acdc_matrix(a, d, n, n), (a, d), outer)

    times = in_turns(
        {"products": products, "weight": weight, "gradient": weight_and_gradient}, seconds
    )
    known = n == 1024 and layers == 12
    case, dense = f"N={n} L={layers}", times["products"]
    return [
        Line(f"W, {case}", dense, times["weight"], 20.0 if known else None),
        Line(f"W and its gradient, {case}", dense, times["gradient"], 10.0 if known else None),
    ]


def bench_all(arguments: argparse.Namespace, threads: int) -> Iterator[Line]:
    """Times every case of the command line on this number of threads, in this process."""
    torch.set_num_threads(threads)
    by_native.instruction_set = arguments.instruction_set
    for n in arguments.sizes:
        for layers in arguments.layers:
            if arguments.weight:
                yield from bench_weight(n, layers, arguments.seconds)
                continue
            for positions in arguments.positions:
                yield bench_layer(n, layers, positions, arguments.channels_last, arguments.seconds)


def report(lines: list[Line]) -> None:
    """Prints one case, from the lines that the processes have measured."""
    name, _, _, target = lines[0]
    dense, fused = (statistics.median(line[i] for line in lines) * 1e3 for i in (1, 2))
    ratio = median_and_range(line.dense / line.fused for line in lines)
    aim = "" if target is None else f"  target {target:4.1f}"
    print(
        f"{name:38s} dense {dense:7.2f} ms  fused {fused:6.2f} ms  ratio {ratio:24s}{aim}".rstrip()
    )


def main() -> None:
    """Reads the command line and prints one line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096])
    parser.add_argument("--layers", type=int, nargs="+", default=[12, 4])
    parser.add_argument("--positions", type=int, nargs="+", default=[784])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--weight", action="store_true", help="time making W instead")
    parser.add_argument("--instruction-set", choices=["avx512", "avx2", "baseline"])
    parser.add_argument("--seconds", type=float, default=0.5, help="least time for each line")
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--lines", type=int, metavar="THREADS", help="as JSON, in this process")
    arguments = parser.parse_args()
    if not kernel.available():
        parser.exit(
            1, "The compiled kernel is not there: install a C++ compiler, then pip install .\n"
        )
    if arguments.lines is not None:
        print(json.dumps(list(bench_all(arguments, arguments.lines))))
        return
    used = arguments.instruction_set or by_native.instruction_sets()[0]
    print(f"{describe_machine()}, kernel {used}, float32")
    print(f"Medians of {arguments.processes} processes, from the least to the most.")
    for threads in arguments.threads:
        print(f"{threads} thread{'s' if threads > 1 else ''}", flush=True)
        same = [*sys.argv[1:], "--lines", str(threads)]
        measured = [in_process(__file__, *same) for _ in range(arguments.processes)]
        for lines in zip(*measured, strict=True):
            report([Line(*line) for line in lines])


if __name__ == "__main__":
    main()
