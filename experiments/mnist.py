"""ACDC layers and no fully connected one on MNIST: docs/mnist.md.

    python experiments/mnist.py --work FOLDER [--data mnist --data-dir FOLDER [--download]]
    python experiments/mnist.py --work FOLDER --report --picture docs/mnist.png

The research log's experiment: the pixels of a digit go through 32 ACDC layers, and the first ten outputs
are the classes. With and without the extra riffle, with and without ReLUs between the layers, beside one
fully connected layer. By default the data are scikit-learn's digits, enlarged to 28×28, which need no
download. Each run has a folder of its own, is not repeated, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from pieces import Log, make

from seclcompress.settings import TrainingSettings
from seclcompress.timing import describe_machine

#: The networks by name, as `module:factory`.
NETWORKS = {
    "ReLU between the layers": "acdc_classifier:acdc(relu=True, extra_riffle=False, {sizes})",
    "ReLU, extra riffle": "acdc_classifier:acdc(relu=True, extra_riffle=True, {sizes})",
    "no ReLU": "acdc_classifier:acdc(relu=False, extra_riffle=False, {sizes})",
    "no ReLU, extra riffle": "acdc_classifier:acdc(relu=False, extra_riffle=True, {sizes})",
    "one fully connected layer": "acdc_classifier:linear(side={side})",
}


def settings(chosen: argparse.Namespace, seed: int) -> TrainingSettings:
    """As in the authors' mnist.py: Adam, a step of 0.001, batches of 64; nothing is decayed."""
    return TrainingSettings(
        epochs=chosen.epochs,
        batch_size=64,
        optimizer="adamw",
        lr=0.001,
        factor_optimizer="same",
        factor_decay=0,
        weight_decay=0,
        crop=False,
        flip=False,
        seed=seed,
        train_images=chosen.train_images,
        device=chosen.device,
    )


def folder(work: Path, name: str, seed: int) -> Path:
    words = "".join(letter if letter.isalnum() else " " for letter in name.lower()).split()
    return work / f"{'-'.join(words)}-{seed}"


def train_all(chosen: argparse.Namespace) -> None:
    from seclcompress.workflows.training import train

    for seed in range(chosen.seeds):
        for name, pattern in NETWORKS.items():
            sizes = f"side={chosen.side}, layers={chosen.layers}"
            make(
                folder(chosen.work, name, seed),
                train,
                Log(),
                network=pattern.format(sizes=sizes, side=chosen.side),
                data=chosen.data,
                data_dir=chosen.data_dir,
                download=chosen.download,
                input_size=(1, chosen.side, chosen.side),
                settings=settings(chosen, seed),
            )


def histories(work: Path, seeds: int) -> dict[str, list[list[dict[str, Any]]]]:
    """The epochs of each network's finished runs."""
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for name in NETWORKS:
        for seed in range(seeds):
            file = folder(work, name, seed) / "metrics.jsonl"
            if file.exists():
                lines = file.read_text(encoding="utf-8").splitlines()
                found.setdefault(name, []).append([json.loads(line) for line in lines])
    return found


def parameters(of: Path) -> int:
    config = json.loads((of / "config.json").read_text(encoding="utf-8"))
    from seclcompress import artefact

    network = artefact.load(of, factory_name=config["network"]["name"])
    return sum(parameter.numel() for parameter in network.parameters())


def report(work: Path, seeds: int, picture: Path | None) -> None:
    runs = histories(work, seeds)
    print(describe_machine())
    print("| network | parameters | runs | accuracy % | best epoch % | train loss | test loss |")
    print("|---|---|---|---|---|---|---|")
    for name, of_network in runs.items():
        last = [history[-1] for history in of_network]
        best = [max(record["accuracy"] for record in history) for history in of_network]
        numbers = parameters(
            next(filter(Path.exists, (folder(work, name, s) for s in range(seeds))))
        )
        print(
            f"| {name} | {numbers:,} | {len(last)} | {_spread([r['accuracy'] for r in last])} | "
            f"{_spread(best)} | {statistics.fmean(r['train_loss'] for r in last):.3f} | "
            f"{statistics.fmean(r['test_loss'] for r in last):.3f} |"
        )
    if picture is not None and runs:
        draw(runs, picture)


def _spread(values: list[float]) -> str:
    mean = statistics.fmean(values)
    return f"{mean:.2f} ± {statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"


def draw(runs: dict[str, list[list[dict[str, Any]]]], picture: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    for number, (name, of_network) in enumerate(runs.items()):
        for place, history in enumerate(of_network):
            axes.plot(
                [record["epoch"] for record in history],
                [100 - record["accuracy"] for record in history],
                color=f"C{number}",
                linewidth=1.2,
                label=name if place == 0 else None,
            )
    axes.set(xlabel="epoch", ylabel="error on the test images (%)", yscale="log")
    axes.set_yticks([2, 3, 5, 10, 20, 50, 90], ["2", "3", "5", "10", "20", "50", "90"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--download", action="store_true")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--train-images", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    if not chosen.report:
        chosen.work.mkdir(parents=True, exist_ok=True)
        train_all(chosen)
    report(chosen.work, chosen.seeds, chosen.picture)


if __name__ == "__main__":
    main()
