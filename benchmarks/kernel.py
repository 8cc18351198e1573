"""Times the fused kernel against torch's own dense layers, in turns.

    python benchmarks/kernel.py --threads 1 2
    python benchmarks/kernel.py --sizes 320 640 --positions 49 --layers 4
    python benchmarks/kernel.py --weight --sizes 1024

A ratio is dense time / fused time: above 1 the kernel is faster. Each number is the median of its
runs; ± is the width of the middle half of the runs. Lengths without a plan are raised to the
next one that has one, and the dense layer keeps the length asked for.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import torch

from seclcompress import kernel
from seclcompress.kernel import by_native
from seclcompress.timing import Timing, alternate, describe_machine

TARGETS = {  # (N, layers) -> ratio aimed at with 784 positions
    **{(256, 12): 0.6, (512, 12): 1.1, (1024, 12): 2.0, (2048, 12): 3.5, (4096, 12): 6.0},
    **{(256, 4): 2.0, (512, 4): 3.2, (1024, 4): 5.5, (2048, 4): 10.0, (4096, 4): 17.0},
}


def next_length(n: int) -> int:
    """The next length that the kernel has a plan for."""
    while not kernel.supports(n, torch.float32, "cpu"):
        n += 1
    return n


def in_turns(functions: dict[str, Callable[[], object]], seconds: float) -> dict[str, Timing]:
    """Times functions warm and in turn, as many rounds as fit, but at least 7."""
    once = sum(timing.median for timing in alternate(functions, rounds=2, warm_ups=2).values())
    return alternate(functions, rounds=max(7, min(99, round(seconds / once))))


def report(name: str, dense: Timing, fused: Timing, target: float | None) -> None:
    """Prints one line."""
    aim = "" if target is None else f"  target {target:5.1f}"
    print(
        f"{name:42s} dense {dense.median * 1e3:8.2f} ms (± {dense.spread / dense.median:4.0%})"
        f"  fused {fused.median * 1e3:8.2f} ms (± {fused.spread / fused.median:4.0%})"
        f"  ratio {dense.median / fused.median:6.2f}{aim}",
        flush=True,
    )


def bench_layer(n: int, layers: int, positions: int, channels_last: bool, seconds: float) -> None:
    """A stack against Conv2d(n, n, 1) on one image of that many positions."""
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
    target = TARGETS.get((n, layers)) if positions == 784 and not channels_last else None
    report(
        f"N={n}{padded} L={layers} positions={positions}{layout}",
        times["dense"],
        times["fused"],
        target,
    )


def bench_weight(n: int, layers: int, seconds: float) -> None:
    """Making W, and W with its gradient, against `layers` dense n x n products."""
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
        kernel.dense_weight(a, d, n, n)

    def weight_and_gradient() -> None:
        torch.autograd.grad(kernel.dense_weight(a, d, n, n), (a, d), outer)

    times = in_turns(
        {"products": products, "weight": weight, "gradient": weight_and_gradient}, seconds
    )
    wanted = n == 1024 and layers == 12
    report(f"W, N={n} L={layers}", times["products"], times["weight"], 20.0 if wanted else None)
    report(
        f"W and its gradient, N={n} L={layers}",
        times["products"],
        times["gradient"],
        10.0 if wanted else None,
    )


def main() -> None:
    """Reads the command line and prints one line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096])
    parser.add_argument("--layers", type=int, nargs="+", default=[12, 4])
    parser.add_argument("--positions", type=int, nargs="+", default=[784])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--weight", action="store_true", help="time dense_weight instead")
    parser.add_argument("--instruction-set", choices=["avx512", "avx2", "baseline"])
    parser.add_argument("--seconds", type=float, default=0.5, help="least time for each line")
    arguments = parser.parse_args()
    if not kernel.available():
        parser.exit(
            1, "The compiled kernel is not there: install a C++ compiler, then pip install .\n"
        )
    by_native.instruction_set = arguments.instruction_set
    used = arguments.instruction_set or by_native.instruction_sets()[0]
    print(f"{describe_machine()}, kernel {used}, float32")
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        print(f"{threads} thread{'s' if threads > 1 else ''}")
        for n in arguments.sizes:
            for layers in arguments.layers:
                if arguments.weight:
                    bench_weight(n, layers, arguments.seconds)
                    continue
                for positions in arguments.positions:
                    bench_layer(n, layers, positions, arguments.channels_last, arguments.seconds)


if __name__ == "__main__":
    main()
