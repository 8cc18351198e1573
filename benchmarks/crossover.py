"""Dense ÷ fast against N, as predicted by the paper's formula and as measured; draws the figure.

    python benchmarks/crossover.py [--threads 1] [--output docs/crossover.png]

Whole stack, N channels in and out, 784 positions, float32. Above 1, fast is faster.
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import torch
from torch import nn

from seclcompress import kernel
from seclcompress.stack import stack_mult_adds
from seclcompress.timing import alternate, describe_machine

SIZES = (64, 96, 128, 192, 256, 320, 384, 512, 640, 768, 1024, 1280, 1536, 2048)
DEPTHS = (2, 4, 8, 12)


def measured(n: int, depth: int) -> float:
    """Seconds of the dense layer ÷ seconds of the stack."""
    torch.manual_seed(0)
    x, conv = torch.randn(1, n, 28, 28), nn.Conv2d(n, n, 1, bias=False)
    a, d = torch.randint(0, 2, (2, depth, n)) * 2.0 - 1
    with torch.inference_mode():
        times = alternate(
            {"dense": lambda: conv(x), "fast": lambda: kernel.acdc_stack(x, a, d, n)},
            rounds=9,
            min_seconds=0.005,
        )
    return times["dense"].median / times["fast"].median


def break_even(ratios: dict[int, float]) -> str:
    """The length at which the ratio crosses 1, interpolated on a straight line between two lengths."""
    lengths = sorted(ratios)
    for low, high in pairwise(lengths):
        if ratios[low] < 1 <= ratios[high]:
            share = (1 - ratios[low]) / (ratios[high] - ratios[low])
            return f"{low + share * (high - low):.0f}"
    return f"below {lengths[0]}" if ratios[lengths[0]] >= 1 else f"above {lengths[-1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", help="a PNG to draw (needs matplotlib)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(describe_machine())
    curves: dict[int, dict[str, dict[int, float]]] = {}
    for depth in DEPTHS:
        predicted = {n: n * n / stack_mult_adds(n, depth) for n in SIZES}
        found = {n: measured(n, depth) for n in SIZES}
        curves[depth] = {"formula": predicted, "measured": found}
        print(
            f"L={depth:2d}  break-even  formula {break_even(predicted)}, measured {break_even(found)}"
        )
        print("      " + "  ".join(f"{n}: {predicted[n]:.2f}|{found[n]:.2f}" for n in SIZES))
    if arguments.output:
        draw(curves, arguments.output)


def draw(curves: dict[int, dict[str, dict[int, float]]], path: str) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for index, (depth, lines) in enumerate(curves.items()):
        for style, (name, points) in zip(("--", "-"), lines.items(), strict=True):
            label = f"L = {depth}" if name == "measured" else None
            axes.plot(list(points), list(points.values()), style, color=f"C{index}", label=label)
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="N (channels)", ylabel="dense ÷ fast")
    axes.set_xticks(
        [64, 128, 256, 512, 1024, 2048], labels=["64", "128", "256", "512", "1024", "2048"]
    )
    axes.set_title("Seconds (solid) and the paper's Mult-Adds (dashed): above 1, fast is better")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
