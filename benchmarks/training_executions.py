r"""Which execution makes a training step of a layer quicker, multiplied out or by its factors?

    python benchmarks/training_executions.py [--families kronecker low_rank] [--channels 64 256 1024]

One convolution of N to N channels, a batch of images, forward and backward, each execution in turn.
`Mult-Adds` is how many times fewer Mult-Adds the factors have than the matrix, without its making;
`quicker` how many times quicker a step by factors is. Where the second is below 1 and the first above,
Mult-Adds mislead (`substitutions.shapes.quickest`).
"""

from __future__ import annotations

import argparse
import functools
import math

import torch
from torch import nn

from seclcompress import substitutions
from seclcompress.substitutions import CallSize, Site, StructuredLayer
from seclcompress.timing import alternate, describe_machine

#: Families with two executions, each with options of about a quarter of the matrix.
FAMILIES = {
    "acdc": {"depth": 4},
    "low_rank": {"ratio": 0.25},
    "monarch": {"ratio": 0.25},
    "shuffle": {},
    "butterfly": {},
    "kronecker": {"ratio": 0.25},
    "tensor_train": {"ratio": 0.25},
    "kronecker on=kernel": {"ratio": 0.125, "on": "kernel"},
    "tensor_train on=kernel": {"ratio": 0.125, "on": "kernel"},
    "low_rank on=kernel": {"ratio": 0.125, "on": "kernel"},
    "cp": {"ratio": 0.125},
    "tucker": {"ratio": 0.25},
}


def step(layer: StructuredLayer, execution: str, x: torch.Tensor) -> None:
    """A forward and a backward pass."""
    layer.execution = execution
    layer(x).sum().backward()


def measure(name: str, channels: int, side: int, batch: int, rounds: int) -> str:
    """A line of the table."""
    family = substitutions.get(name.split()[0])
    config = family.config(FAMILIES[name])
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    site = Site(conv, {CallSize((side, side), (side, side)): 1})
    reason = family.refuse(site, config)
    if reason is not None:
        return f"| {name} | {channels} | {side}² | {reason} | | | |"
    layer = family.build(site, config).train()
    cost = family.cost(site, config)
    if "fast" not in cost.mult_adds:
        return f"| {name} | {channels} | {side}² | one execution | | | |"
    x = torch.randn(batch, channels, side, side).to(memory_format=torch.channels_last)
    x.requires_grad_()
    times = alternate(
        {one: functools.partial(step, layer, one, x) for one in cost.mult_adds}, rounds=rounds
    )
    dense, fast = 1e3 * times["dense"].median, 1e3 * times["fast"].median
    fewer = cost.mult_adds["dense"] / cost.mult_adds["fast"]
    figures = f"{fewer:.2f} | {dense:.1f} | {fast:.1f} | {dense / fast:.2f}"
    return f"| {name} | {channels} | {side}² | {figures} |"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--positions", type=int, default=2**14, help="of all images, about")
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(describe_machine())
    print("| family | channels | maps | Mult-Adds | dense, ms | fast, ms | quicker |")
    print("|---|---|---|---|---|---|---|")
    for channels in chosen.channels:
        positions = max(chosen.side**2, chosen.positions * 64 // channels)
        batch = math.ceil(positions / chosen.side**2)
        for name in chosen.families:
            print(measure(name, channels, chosen.side, batch, chosen.rounds), flush=True)


if __name__ == "__main__":
    main()
