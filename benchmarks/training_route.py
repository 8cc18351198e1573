"""Measures `stack.FFT_FROM_LENGTH`, `FFT_MULT_ADD_COST` and `KERNEL_MULT_ADD_COST`.

    python benchmarks/training_route.py

For each length N, at depth 12: the time to make W (N×N) forward and backward by products with the DCT
matrix ÷ the time by torch's FFT; and the time of one Mult-Add of the paper's formula ÷ the time of one
of a matrix product, by torch's FFT and in the fused kernel.
"""

from __future__ import annotations

from unittest import mock

import torch

from seclcompress import kernel, stack
from seclcompress.stack import stack_mult_adds
from seclcompress.timing import alternate, describe_machine

DEPTH = 12


def measure(length: int) -> tuple[float, float, float, float]:
    """Products ÷ FFT, the two costs of a Mult-Add, and the largest spread of a timing."""
    torch.manual_seed(0)
    a, d = (torch.randint(0, 2, (2, DEPTH, length)) * 2.0 - 1).unbind(0)
    a, d = a.requires_grad_(), d.clone().requires_grad_()
    frozen = a.detach(), d.detach()
    left, right = torch.randn(2, length, length)
    positions = left.reshape(1, length, length, 1)

    def make(from_length: int) -> None:
        stack.FFT_FROM_LENGTH = from_length
        with mock.patch.object(kernel, "supports", return_value=False):
            stack.stack_matrix(a, d, length, length).sum().backward()

    times = alternate(
        {
            "products": lambda: make(10**9),
            "fft": lambda: make(1),
            "matmul": lambda: left @ right,
            "stack": lambda: stack.apply_stack(left, *frozen, length),
            "kernel": lambda: kernel.acdc_stack(positions, *frozen, length),
        }
    )
    macs = {"stack": stack_mult_adds(length, DEPTH), "kernel": stack_mult_adds(length, DEPTH)}
    dense = times["matmul"].median / length**3
    cost = {name: times[name].median / (length * count) / dense for name, count in macs.items()}
    spread = max(timing.spread / timing.median for timing in times.values())
    ratio = times["products"].median / times["fft"].median
    return ratio, cost["stack"], cost["kernel"], spread


def main() -> None:
    print(describe_machine())
    print("    N   products ÷ fft   fft MAC ÷ dense MAC   kernel MAC ÷ dense MAC   largest spread")
    for length in (64, 128, 192, 256, 384, 512, 768, 1024):
        ratio, fft, fused, spread = measure(length)
        print(f"{length:5d}   {ratio:10.2f} {fft:20.1f} {fused:22.1f} {spread:20.0%}")


if __name__ == "__main__":
    main()
