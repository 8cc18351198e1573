"""Ways to lose channels, side by side: norms and singular values, at once and in rounds; gates; an edge.

    python experiments/slimming_ways.py --work FOLDER [--data digits] [--network wrn10_1] [--size 16]
    python experiments/slimming_ways.py --journal --work FOLDER

A network is trained; each way brings it to each size in the same number of epochs, with the same
images; `narrow from the start` is a random network that is narrowed before its first step. With
`--journal`: the journal's sparsifier network, one hidden layer of 500 neurons; what is left of it by the
price of a gate, beside a network that has as many neurons from the start. Every finished run is a line
of results.jsonl and is not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pieces import Cells, Log, make, spread

from seclcompress import artefact, workflows
from seclcompress.settings import TrainingSettings
from seclcompress.settings.slimming import SlimOptions
from seclcompress.timing import describe_machine

WAYS: dict[str, dict[str, Any]] = {
    "by norm, at once": {"rounds": 1},
    "by norm, in 4 rounds": {"rounds": 4},
    "svd, at once": {"method": "svd", "rounds": 1},
    "svd, in 4 rounds": {"method": "svd", "rounds": 4},
    "gates": {"method": "gates"},
    "sigmoid": {"method": "sigmoid"},
    "narrow from the start": {"rounds": 1},
}
SHARES = (0.5, 0.25, 0.1)  # of the parameters
PRICES = (1.0, 3.0, 10.0, 30.0, 100.0)


def settings_of(arguments: argparse.Namespace, seed: int, **more: Any) -> TrainingSettings:
    chosen = {"epochs": arguments.epochs, "batch_size": 64, "seed": seed}
    return TrainingSettings(**{**chosen, **more})


def trained(arguments: argparse.Namespace, seed: int, log: Log) -> Path:
    folder: Path = arguments.work / f"whole-{seed}"
    make(
        folder,
        workflows.train,
        log,
        network=arguments.network,
        data=arguments.data,
        settings=settings_of(arguments, seed, lr=0.05),
        input_size=size_of(arguments),
    )
    return folder


def size_of(arguments: argparse.Namespace) -> tuple[int, int, int] | None:
    return None if arguments.size is None else (3, arguments.size, arguments.size)


def compare(arguments: argparse.Namespace, cells: Cells, log: Log) -> None:
    """Every way, size and seed."""
    for seed in range(arguments.seeds):
        whole = trained(arguments, seed, log)
        parameters = workflows.count(whole).count.columns["original"].parameters
        for share in SHARES:
            for way, options in WAYS.items():
                named = {"way": way, "share": share, "seed": seed}
                if cells.get(named) is not None:
                    continue
                fresh = way == "narrow from the start"
                folder = arguments.work / f"{way.replace(' ', '-')}-{share}-{seed}"
                make(
                    folder,
                    workflows.slim,
                    log,
                    network=arguments.network if fresh else whole,
                    budget=f"parameters={int(share * parameters)}",
                    data=arguments.data,
                    options=SlimOptions(**options),
                    settings=settings_of(arguments, seed, **({"lr": 0.05} if fresh else {})),
                    input_size=size_of(arguments) if fresh else None,
                )
                has = workflows.count(folder).count.columns["original"].parameters
                accuracy = artefact.read_config(folder).metrics["accuracy"]
                whole_one = artefact.read_config(whole).metrics["accuracy"]
                found = {"parameters": has, "accuracy": accuracy, "whole": whole_one}
                cells.fill(named, partial(dict, found))


def journal(arguments: argparse.Namespace, cells: Cells, log: Log) -> None:
    """Every price and seed, and the network that has as many neurons from the start."""
    for seed in range(arguments.seeds):
        for price in PRICES:
            named = {"price": price, "seed": seed}
            if cells.get(named) is not None:
                continue
            folder = arguments.work / f"gates-{price:g}-{seed}"
            settings = settings_of(arguments, seed, lr=0.05)
            given = {"data": arguments.data, "settings": settings}
            make(
                folder,
                workflows.slim,
                log,
                network="mlp500_mnist",
                budget=None,
                options=SlimOptions(method="gates", price=price, least=0.0),
                **given,
            )
            config = artefact.read_config(folder)
            width = next((out for _, out in config.network.widths.values()), 500)
            fixed = arguments.work / f"fixed-{width}-{seed}"
            make(fixed, workflows.train, log, network=f"mlp{width}_mnist", **given)
            found = {
                "width": width,
                "accuracy": config.metrics["accuracy"],
                "fixed": artefact.read_config(fixed).metrics["accuracy"],
            }
            cells.fill(named, partial(dict, found))


def rows(cells: Cells, *, of_journal: bool) -> Iterator[str]:
    """The table of what is finished."""
    names = ("price",) if of_journal else ("share", "way")
    heads = ("neurons left", "accuracy %", "as many from the start, %")
    yield f"| {' | '.join((*names, *(heads if of_journal else ('parameters', 'accuracy %'))))} |"
    yield "|" + "---|" * (len(names) + (3 if of_journal else 2))
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for named, found in cells.finished:
        groups.setdefault(tuple(named[name] for name in names), []).append(found)
    for key, found in groups.items():
        first = "width" if of_journal else "parameters"
        shown = [*map(str, key), ", ".join(f"{one[first]:,}" for one in found)]
        shown.append(spread([one["accuracy"] for one in found]))
        if of_journal:
            shown.append(spread([one["fixed"] for one in found]))
        yield f"| {' | '.join(shown)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--network", default="wrn10_1")
    parser.add_argument("--size", type=int)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--journal", action="store_true")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    cells = Cells(arguments.work / ("journal.jsonl" if arguments.journal else "results.jsonl"))
    with (arguments.work / "log.txt").open("a") as file:
        (journal if arguments.journal else compare)(arguments, cells, Log(file))
    print(describe_machine())
    for line in rows(cells, of_journal=arguments.journal):
        print(line)


if __name__ == "__main__":
    main()
