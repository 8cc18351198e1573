"""Networks on tables that find their own widths, and one that grows: docs/slimming.md.

    python experiments/sparsifier_tables.py --work FOLDER [--folder WHERE_THE_FILES_ARE] [--seeds 3]

The journal's evaluation of its sparsifier networks on Add10, Airfoil, Poker and Census: a perceptron
that starts wide loses neurons under an L1 price on their gates; a fixed network as wide as what came out
is trained for as many epochs, and for as many seconds. On tables of values also the journal's growth by
blocks: a small network is trained, then another on what the first leaves, and so on; beside it one
network as wide as all of them. Every finished run is a line of results.jsonl and is not repeated.

`seclcompress train` takes images alone: a data set of vectors with a loss of its own would go through
every reader, transform and label of it for networks that hold no convolution. So the tables are trained
here, with the library's gates.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pieces import Cells, spread
from tables import TABLES, MissingFileError, Table, load
from torch import Tensor, nn

from seclcompress.graph import channel_groups
from seclcompress.observer import Observer
from seclcompress.optim import cosine
from seclcompress.settings.slimming import SlimOptions
from seclcompress.slim import figures_without
from seclcompress.timing import describe_machine
from seclcompress.train.shrinking import Shrinking

PRICES = (0.3, 1.0, 3.0, 10.0)
LR = 0.05
BATCH = 128
BLOCKS = 6
BLOCK = 8


def perceptron(table: Table, width: int, layers: int) -> nn.Sequential:
    """A network for vectors, which are images of one pixel so that its channels can be followed."""
    modules: list[nn.Module] = [nn.Flatten()]
    inputs = table.columns
    for _ in range(layers):
        modules += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*modules, nn.Linear(inputs, table.classes or 1))


def loss_of(table: Table, outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, or the mean squared error of values whose deviation is 1."""
    if table.classes is None:
        return nn.functional.mse_loss(outputs[:, 0], targets)
    return nn.functional.cross_entropy(outputs, targets)


@torch.no_grad()
def score(table: Table, run: Callable[[Tensor], Tensor]) -> float:
    """Of the test rows: accuracy in percent, or the share of the values' variance that is explained."""
    inputs, targets = table.test
    outputs = run(inputs[:, :, None, None])
    if table.classes is None:
        error = nn.functional.mse_loss(outputs[:, 0], targets)
        return 100 * (1 - float(error) / float(targets.var(unbiased=False)))
    return 100 * float((outputs.argmax(1) == targets).double().mean())


def train(
    table: Table,
    network: nn.Module,
    epochs: int,
    seed: int,
    *,
    seconds: float = math.inf,
    shrinking: Shrinking | None = None,
    targets: Tensor | None = None,
) -> float:
    """Trains a network by momentum under a cosine; returns the seconds that it took.

    Args:
        table: The table.
        network: The network.
        epochs: Epochs.
        seed: Seed of the order of rows.
        seconds: Train for as many seconds instead, and the cosine falls by the clock.
        shrinking: Which neurons it loses meanwhile.
        targets: Other targets than the table's.
    """
    inputs, given = table.train
    wanted = given if targets is None else targets
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=0.9, weight_decay=1e-4)
    count = math.ceil(len(inputs) / BATCH)
    steps, step, started = epochs * count, 0, time.perf_counter()
    while True:
        for rows in torch.randperm(len(inputs), generator=generator).split(BATCH):
            gone = time.perf_counter() - started
            share = step / steps if seconds == math.inf else gone / seconds
            if share >= 1:
                return gone
            rate = LR * cosine(share)
            for group in optimizer.param_groups:
                group["lr"] = rate
            if shrinking is not None:
                lost = shrinking.due(step, steps, Observer())
                if lost:
                    shrinking.lose(lost, [optimizer], {}, Observer())
            optimizer.zero_grad()
            loss_of(table, network(inputs[rows][:, :, None, None]), wanted[rows]).backward()
            # The journal's networks diverge without: values have no bounds.
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            if shrinking is not None:
                shrinking.press(rate, 1 + step // count)
            step += 1


def sparsified(table: Table, price: float, chosen: argparse.Namespace, seed: int) -> dict[str, Any]:
    """A wide network under a price, and a fixed one as wide as what came out.

    Hidden layers may have different widths in the end; the fixed network has their mean in each.
    """
    torch.manual_seed(seed)
    network = perceptron(table, chosen.width, chosen.layers)
    size = (table.columns, 1, 1)
    groups = channel_groups(network, size).groups
    options = SlimOptions(method="gates", price=price, least=0.0)
    measure = figures_without(perceptron(table, chosen.width, chosen.layers), size, groups)
    shrinking = Shrinking(network, groups, measure, options, None, LR)
    took = train(table, network, chosen.epochs, seed, shrinking=shrinking)
    shrinking.finish()
    widths = [each.out_features for each in network if isinstance(each, nn.Linear)][:-1]
    found: dict[str, Any] = {"widths": widths, "score": score(table, network), "seconds": took}
    width = max(1, round(statistics.fmean(widths)))
    for name, seconds in (("as many epochs", math.inf), ("as many seconds", took)):
        torch.manual_seed(seed)
        fixed = perceptron(table, width, chosen.layers)
        train(table, fixed, chosen.epochs, seed, seconds=seconds)
        found[name] = score(table, fixed)
    return found


def grown(table: Table, chosen: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Blocks on residuals: the score after each, and of one network as wide for the epochs of one."""
    blocks: list[nn.Module] = []
    scores: list[float] = []

    def together(inputs: Tensor) -> Tensor:
        outputs: Tensor = torch.stack([block(inputs) for block in blocks]).sum(0)
        return outputs

    inputs, targets = table.train
    for number in range(BLOCKS):
        torch.manual_seed(1000 * seed + number)
        block = perceptron(table, BLOCK, 1)
        left = targets
        if blocks:
            with torch.no_grad():
                left = targets - together(inputs[:, :, None, None])[:, 0]
        train(table, block, chosen.epochs, seed, targets=left)
        blocks.append(block)
        scores.append(score(table, together))
    torch.manual_seed(seed)
    fixed = perceptron(table, BLOCK * BLOCKS, 1)
    train(table, fixed, chosen.epochs, seed)
    return {"after each block": scores, "as wide at once": score(table, fixed)}


def run(chosen: argparse.Namespace, cells: Cells) -> None:
    """Every table that is there, price and seed."""
    for name in chosen.tables:
        try:
            table = load(name, chosen.folder)
        except MissingFileError as missing:
            print(f"{name} is left out: {missing}", flush=True)
            continue
        for seed in range(chosen.seeds):
            for price in chosen.prices:
                named = {"table": name, "layers": chosen.layers, "price": price, "seed": seed}
                cells.fill(named, partial(sparsified, table, price, chosen, seed))
            if table.classes is None:
                cells.fill(
                    {"table": name, "way": "blocks", "seed": seed},
                    partial(grown, table, chosen, seed),
                )


def rows(cells: Cells) -> Iterator[str]:
    """The two tables of what is finished."""
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for named, found in cells.finished:
        key = (named["table"], named.get("layers"), named.get("price"))
        alike.setdefault(key, []).append(found)
    heads = "neurons left, by seed | sparsified | fixed, epochs | fixed, seconds"
    yield f"| table | layers | price | {heads} |"
    yield "|---|---|---|---|---|---|---|"
    for (name, layers, price), found in alike.items():
        if price is not None:
            widths = ", ".join("+".join(map(str, one["widths"])) for one in found)
            columns = ("score", "as many epochs", "as many seconds")
            shown = [spread([one[column] for one in found]) for column in columns]
            yield f"| {name} | {layers} | {price:g} | {widths} | {' | '.join(shown)} |"
    yield ""
    yield f"| table | after 1, 2, … {BLOCKS} blocks of {BLOCK}, mean | {BLOCK * BLOCKS} at once |"
    yield "|---|---|---|"
    for (name, _, price), found in alike.items():
        if price is None:
            scores = zip(*(one["after each block"] for one in found), strict=True)
            after = ", ".join(f"{statistics.fmean(each):.2f}" for each in scores)
            yield f"| {name} | {after} | {spread([one['as wide at once'] for one in found])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="where Airfoil, Poker and Census are")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--prices", type=float, nargs="+", default=PRICES)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    cells = Cells(chosen.work / "results.jsonl")
    run(chosen, cells)
    print(describe_machine())
    for line in rows(cells):
        print(line)


if __name__ == "__main__":
    main()
