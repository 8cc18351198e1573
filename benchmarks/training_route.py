"""What `stack.FFT_FROM_LENGTH` and `stack.FFT_MULT_ADD_COST` rest on.

    python benchmarks/training_route.py

For each length N: making W (N×N, depth 12) forward and backward by products with the DCT matrix and by
FFT; and what one Mult-Add of the paper's formula takes, in Mult-Adds of a matrix product that take as
long.
"""

from __future__ import annotations

import torch

from seclcompress import stack
from seclcompress.cost import acdc_mult_adds
from seclcompress.timing import alternate, describe_machine

DEPTH = 12


def measure(length: int) -> tuple[float, float, float]:
    torch.manual_seed(0)
    a, d = (torch.randint(0, 2, (2, DEPTH, length)) * 2.0 - 1).unbind(0)
    a, d = a.requires_grad_(), d.clone().requires_grad_()
    left, right = torch.randn(2, length, length)

    def make(from_length: int) -> None:
        stack.FFT_FROM_LENGTH = from_length
        stack.dense_matrix(a, d, length, length).sum().backward()

    def by_products() -> None:
        make(10**9)

    def by_fft() -> None:
        make(1)

    times = alternate(
        {
            "products": by_products,
            "fft": by_fft,
            "matmul": lambda: left @ right,
            "stack": lambda: stack.apply_stack(left, a.detach(), d.detach(), length),
        }
    )
    per_fast = times["stack"].median / (length * acdc_mult_adds(length, DEPTH))
    per_dense = times["matmul"].median / length**3
    spread = max(timing.spread / timing.median for timing in times.values())
    return times["products"].median / times["fft"].median, per_fast / per_dense, spread


def main() -> None:
    print(describe_machine())
    print(
        "    N   products ÷ fft (above 1: fft is quicker)   fast MAC ÷ dense MAC   largest spread"
    )
    for length in (64, 128, 192, 256, 384, 512, 768, 1024):
        ratio, cost, spread = measure(length)
        print(f"{length:5d}   {ratio:10.2f} {cost:38.1f} {spread:20.0%}")


if __name__ == "__main__":
    main()
