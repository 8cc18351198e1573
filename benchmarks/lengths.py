"""Compares padding N to a length with small prime factors and transforming the length itself.

    python benchmarks/lengths.py --threads 2

For channel counts of torchvision's networks that have a large prime factor, a stack of 12 layers runs
on 196 positions: by torch.fft at the count itself, by torch.fft at the next length with small factors,
and by the fused kernel at that length. Above 1, padding is faster.
"""

from __future__ import annotations

import argparse

import torch

from seclcompress import kernel
from seclcompress.kernel import by_fft
from seclcompress.timing import alternate, describe_machine
from seclcompress.transforms import next_fast_length

#: Channel counts of densenet, efficientnet, mnasnet, regnet and shufflenet.
CHANNELS = (88, 116, 176, 232, 352, 464, 528, 696, 888, 1392, 2208, 2904)
LAYERS, POSITIONS = 12, 196


def compare(channels: int, rounds: int) -> None:
    """Prints the line of one channel count."""
    padded = next_fast_length(channels)
    x = torch.randn(1, channels, POSITIONS)
    exact, longer = ((1 + 0.1 * torch.randn(2, LAYERS, n)).unbind() for n in (channels, padded))
    with torch.inference_mode():
        times = alternate(
            {
                "itself": lambda: by_fft.forward(x, *exact, channels, None, None, False),
                "padded": lambda: by_fft.forward(x, *longer, channels, None, None, False),
                "fused": lambda: kernel.acdc_stack(x, *longer, channels),
            },
            rounds=rounds,
        )
    itself, by_torch, fused = (times[name].median for name in ("itself", "padded", "fused"))
    print(
        f"{channels:5d}  {padded:5d}  {1e3 * itself:12.2f} ms  {1e3 * by_torch:7.2f} ms"
        f"  {1e3 * fused:7.2f} ms  {itself / by_torch:17.2f}  {itself / fused:16.1f}",
        flush=True,
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(describe_machine())
    print(
        "    c      N    torch.fft at c     at N   fused at N   padding, torch.fft   padding, fused"
    )
    for channels in CHANNELS:
        compare(channels, chosen.rounds)


if __name__ == "__main__":
    main()
