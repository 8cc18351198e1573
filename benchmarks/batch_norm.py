"""How exact torch's batch norm is in training on a CPU, and how long it takes, in both memory layouts.

    python benchmarks/batch_norm.py [--threads 1 2] [--rounds 9]

Errors are those of float32 against float64: of the mean over images and positions, and of the gradient
of the norm's weight, each the largest over the channels, relative to the largest of its values.
"""

from __future__ import annotations

import argparse
import functools

import torch
from torch import Tensor, nn

from seclcompress.timing import alternate, describe_machine

#: Images, channels and side of the maps, from a small network to ImageNet's first norm.
SIZES = ((128, 16, 32), (128, 64, 32), (64, 256, 14), (64, 64, 112))
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def step(norm: nn.BatchNorm2d, x: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
    """A step forward and backward: the mean that was estimated, and the gradient of the weight."""
    norm.zero_grad()
    norm.reset_running_stats()
    norm(x).backward(outer)
    assert norm.running_mean is not None
    assert norm.weight.grad is not None
    return norm.running_mean, norm.weight.grad


def error(found: Tensor, exact: Tensor) -> float:
    """The largest error relative to the largest value."""
    return float((found.double() - exact).abs().max() / exact.abs().max())


def main() -> None:
    """Reads the command line and prints a line for each size and layout."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    for threads in given.threads:
        torch.set_num_threads(threads)
        print(describe_machine())
        for images, channels, side in SIZES:
            torch.manual_seed(0)
            # Maps behind ReLU: of one sign, as sums of rounding errors like them least.
            x = torch.randn(images, channels, side, side).relu_()
            outer = torch.randn_like(x).add_(0.1)
            mean, slope = step(nn.BatchNorm2d(channels).double(), x.double(), outer.double())
            calls = {}
            for name, layout in LAYOUTS.items():
                norm = nn.BatchNorm2d(channels)
                laid = [one.contiguous(memory_format=layout) for one in (x, outer)]
                calls[name] = functools.partial(step, norm, *laid)
            times = alternate(calls, rounds=given.rounds)
            for name, call in calls.items():
                found, gradient = call()
                print(
                    f"{images}×{channels}×{side}×{side}  {name:14s} error of the mean "
                    f"{error(found, mean):.0e}, of the gradient {error(gradient, slope):.0e}  "
                    f"{times[name].median * 1e3:8.1f} ms ± {times[name].spread * 1e3:.1f}"
                )


if __name__ == "__main__":
    main()
