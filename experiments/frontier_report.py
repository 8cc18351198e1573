"""The table and the picture of the accuracy frontier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

Result = dict[str, Any]


def report(results: Sequence[Result], left_out: Sequence[str], picture: Path | None) -> None:
    """Prints a table for each size, best first, and draws the picture.

    Args:
        results: Lines of results.jsonl.
        left_out: Sentences on families that cannot meet a size.
        picture: The picture's file; None for none.
    """
    for size in sorted({one["size"] for one in results}):
        here = [one for one in results if one["size"] == size]
        print(f"\nAbout {size:,} parameters:\n")
        print("| family | options | parameters | Mult-Adds | accuracy % | by seed | train loss |")
        print("|---|---|---|---|---|---|---|")
        for group in sorted(_by_family(here), key=lambda group: -_accuracy(group)):
            first = group[0]
            seeds = " / ".join(_percent(one) for one in group)
            loss = f"{first['train_loss']:.3f}" if "train_loss" in first else "–"
            options = first["options"]
            if "lr" in first:
                options = ", ".join(part for part in (options, f"lr={first['lr']:g}") if part)
            if "start" in first:
                options += f"{', ' if options else ''}from {first['start']:.1f} %"
            print(
                f"| {first['family']} | {options} | {first['parameters']:,} | "
                f"{first['mult_adds']:,} | {_accuracy(group):.2f} | {seeds} | {loss} |"
            )
    for sentence in left_out:
        print(f"\n{sentence}." if sentence == left_out[0] else f"{sentence}.")
    if picture is not None:
        draw(results, picture)


def _by_family(results: Sequence[Result]) -> list[list[Result]]:
    groups: dict[str, list[Result]] = {}
    for one in sorted(results, key=lambda one: one["seed"]):
        groups.setdefault(one["family"], []).append(one)
    return list(groups.values())


def _accuracy(group: Sequence[Result]) -> float:
    found = [one["accuracy"] for one in group if "accuracy" in one]
    return mean(found) if found else float("-inf")


def _percent(one: Result) -> str:
    return f"{one['accuracy']:.2f}" if "accuracy" in one else "failed"


def draw(results: Sequence[Result], picture: Path) -> None:
    """Draws accuracy against parameters: a line for each family, the narrower networks in black."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(9, 6), dpi=110, layout="constrained")
    axes = figure.subplots()
    lines = {}
    for family in sorted({one["family"] for one in results}):
        groups = [
            [one for one in results if (one["family"], one["size"]) == (family, size)]
            for size in sorted({one["size"] for one in results})
        ]
        groups = [group for group in groups if any("accuracy" in one for one in group)]
        if groups:
            lines[family] = (
                [group[0]["parameters"] for group in groups],
                [_accuracy(group) for group in groups],
            )
    markers = "osD^v<>PX*hp"
    best_first = sorted(lines.items(), key=lambda line: -mean(line[1][1]))
    for number, (family, (parameters, accuracies)) in enumerate(best_first):
        plain = family in ("narrower", "separable")
        axes.plot(
            parameters,
            accuracies,
            marker=markers[number % len(markers)],
            color="black" if plain else f"C{number % 10}",
            linestyle="--" if family == "narrower" else "-",
            linewidth=2.2 if plain else 1.2,
            label=family,
        )
    axes.set(xscale="log", xlabel="parameters", ylabel="accuracy on the test images (%)")
    axes.set_xticks(sorted({one["size"] for one in results}))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right", frameon=False, fontsize=9)
    figure.savefig(picture)
