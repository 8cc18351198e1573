"""A network that grows along orthogonal directions, beside networks that are as large from the start.

    python experiments/growing.py --work FOLDER [--data digits] [--size 16] [--seeds 3]

SVD-evolutive-CNN (Dejaegher, 2021) lets a layer grow where its singular values are high: it gets
channels whose weights are orthogonal to those it has. Here a small convolutional network looks at each
layer's singular values after every epoch of the first half: where the smallest is more than a share of
the largest, the layer gets a quarter more channels. Nothing that the network computes changes then, as
the weights that read a new channel begin at zero. Beside it, for as many epochs: a network that has the
widths which came out from the start, and one of as many parameters that is equally wide everywhere.
Every finished run is a line of results.jsonl and is not repeated.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pieces import Cells, spread
from torch import Tensor, nn

from seclcompress.data import Presentation, opening
from seclcompress.optim import cosine
from seclcompress.timing import describe_machine

SHARES = (0.1, 0.3, 0.5)  # how high the smallest singular value must be, of the largest
FIRST = 4
LAYERS = 3
LR = 0.05
BATCH = 64
Rows = tuple[Tensor, Tensor]


def network_of(widths: Sequence[int], classes: int) -> nn.Sequential:
    """Convolutions with batch norm, each of which halves the picture, and a Linear behind their mean."""
    modules: list[nn.Module] = []
    inputs = 3
    for width in widths:
        modules += [
            nn.Conv2d(inputs, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        inputs = width
    modules[-1] = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*modules, nn.Flatten(), nn.Linear(inputs, classes))


def widths_of(network: nn.Module) -> list[int]:
    """The channels that each convolution makes."""
    return [one.out_channels for one in network.modules() if isinstance(one, nn.Conv2d)]


def parameters_of(widths: Sequence[int], classes: int) -> int:
    """The parameters of a network of these widths."""
    return sum(one.numel() for one in network_of(widths, classes).parameters())


@torch.no_grad()
def more_directions(weight: Tensor, count: int) -> Tensor:
    """Filters orthogonal to a layer's and to each other, as long as the layer's are in the mean.

    Args:
        weight: The layer's filters, shape (out, in, k, k).
        count: How many; fewer come out where no direction is left.
    """
    rows = weight.flatten(1)
    count = min(count, rows.shape[1] - rows.shape[0])
    if count <= 0:
        return weight[:0]
    drawn = torch.randn(count, rows.shape[1])
    basis = torch.linalg.qr(torch.cat((rows, drawn)).T).Q  # one column for each row, in order
    new = basis[:, rows.shape[0] :].T * rows.norm(dim=1).mean()
    return new.reshape(count, *weight.shape[1:])


@torch.no_grad()
def grown(network: nn.Sequential, share: float, classes: int) -> nn.Sequential:
    """The network with more channels where its singular values are high; the same if none are.

    Args:
        network: The network, which stays as it is.
        share: How high a layer's smallest singular value must be, of its largest.
        classes: The number of classes.
    """
    layers = [one for one in network if isinstance(one, nn.Conv2d)]
    new = []
    for layer in layers:
        values = torch.linalg.svdvals(layer.weight.flatten(1))
        full = values[-1] > share * values[0]
        wanted = math.ceil(layer.out_channels / 4) if full else 0
        new.append(more_directions(layer.weight, wanted))
    if not any(len(one) for one in new):
        return network
    wide = network_of(
        [one.out_channels + len(n) for one, n in zip(layers, new, strict=True)], classes
    )
    directions = iter(new)
    for old, large in zip(network, wide, strict=True):
        if isinstance(old, nn.Conv2d | nn.Linear):
            large.weight.zero_()
            had = old.weight.shape
            large.weight[: had[0], : had[1]] = old.weight
            if isinstance(old, nn.Conv2d):
                large.weight[had[0] :, : had[1]] = next(directions)
            else:
                large.bias.copy_(old.bias)
        elif isinstance(old, nn.BatchNorm2d):
            wider = large.state_dict()
            for name, value in old.state_dict().items():
                if value.ndim:
                    wider[name][: len(value)] = value
    return wide


def train(
    network: nn.Sequential, rows: Rows, epochs: int, seed: int, classes: int, share: float | None
) -> tuple[nn.Sequential, float]:
    """Trains a network by momentum under a cosine; returns it, perhaps grown, and the seconds taken."""
    images, targets = rows
    generator = torch.Generator().manual_seed(seed)
    count = math.ceil(len(images) / BATCH)
    began = time.perf_counter()
    for epoch in range(epochs):
        if share is not None and 0 < epoch <= epochs // 2:
            network = grown(network, share, classes)
        # What momentum remembers is lost once an epoch, in all networks alike.
        optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=0.9, weight_decay=1e-4)
        network.train()
        for step, chosen in enumerate(
            torch.randperm(len(images), generator=generator).split(BATCH)
        ):
            gone = (epoch * count + step) / (epochs * count)
            optimizer.param_groups[0]["lr"] = LR * cosine(gone)
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[chosen]), targets[chosen]).backward()
            optimizer.step()
    return network, time.perf_counter() - began


@torch.no_grad()
def accuracy(network: nn.Module, rows: Rows) -> float:
    """Accuracy in percent."""
    network.eval()
    right = [
        (network(x).argmax(1) == y) for x, y in zip(*(r.split(500) for r in rows), strict=True)
    ]
    return 100 * float(torch.cat(right).double().mean())


def compare(
    train_rows: Rows, test_rows: Rows, classes: int, epochs: int, share: float, seed: int
) -> dict[str, Any]:
    """A network that grows, and two that are as large from the start."""
    torch.manual_seed(seed)
    network = network_of([FIRST] * LAYERS, classes)
    network, took = train(network, train_rows, epochs, seed, classes, share)
    widths = widths_of(network)
    has = parameters_of(widths, classes)
    even = next(
        width - 1
        for width in range(FIRST, 10_000)
        if parameters_of([width] * LAYERS, classes) > has
    )
    found = {"widths": widths, "parameters": has, "even": even}
    found |= {"grown": accuracy(network, test_rows), "grown seconds": took}
    for name, wide in (("as wide", widths), ("evenly wide", [even] * LAYERS)):
        torch.manual_seed(seed)
        fixed = network_of(wide, classes)
        fixed, took = train(fixed, train_rows, epochs, seed, classes, None)
        found |= {name: accuracy(fixed, test_rows), f"{name} seconds": took}
    return found


def rows_of(name: str, size: int, images: int) -> tuple[Rows, Rows, int]:
    """The training and test images of a data set, and its number of classes."""
    data = opening.load_data(name, (3, size, size))
    shown = Presentation(data.input_size, data.preprocessing)
    found = []
    for part in (data.train, data.test):
        order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:images]
        (batch,) = part.read([order], shown)
        found.append((batch.images.contiguous(), batch.targets))
    return found[0], found[1], len(data.classes)


def table(cells: Cells) -> Iterator[str]:
    """The table of what is finished."""
    names = ("grown", "as wide", "evenly wide")
    yield f"| data | share | widths, by seed | {' | '.join(f'{name}, % | s' for name in names)} |"
    yield "|" + "---|" * (3 + 2 * len(names))
    alike: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for named, found in cells.finished:
        alike.setdefault((named["data"], named["share"]), []).append(found)
    for (data, share), found in alike.items():
        shown = [data, f"{share:g}", ", ".join("+".join(map(str, one["widths"])) for one in found)]
        for name in names:
            seconds = [one[f"{name} seconds"] for one in found]
            shown += [spread([one[name] for one in found]), f"{sum(seconds) / len(seconds):.1f}"]
        yield f"| {' | '.join(shown)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--images", type=int, default=8000, help="at most so many of each part")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    cells = Cells(chosen.work / "results.jsonl")
    kind = chosen.data.partition(":")[0]
    shown = {"data": kind, "size": chosen.size, "images": chosen.images, "epochs": chosen.epochs}
    train_rows, test_rows, classes = rows_of(chosen.data, chosen.size, chosen.images)
    for share in chosen.shares:
        for seed in range(chosen.seeds):
            work = partial(compare, train_rows, test_rows, classes, chosen.epochs, share, seed)
            cells.fill({**shown, "share": share, "seed": seed}, work)
    print(describe_machine())
    for line in table(cells):
        print(line)


if __name__ == "__main__":
    main()
