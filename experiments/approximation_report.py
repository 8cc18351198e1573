"""The tables and the picture of linear_approximation.py, from its finished cells."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fits import METHODS
from pieces import Cells
from research_log import CONSTANT, LINES

from seclcompress.timing import describe_machine

#: Parts of the N² numbers of a dense matrix.
_BUDGETS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
_EXACT = 1e-12


@dataclass
class Point:
    """One map of a curve, and what was found for all goals of a kind.

    Attributes:
        parameters: How many numbers it has.
        errors: The errors of each method, by goal.
        mses: The same as mean squared errors.
    """

    parameters: int
    errors: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    mses: list[float] = field(default_factory=list)

    def mean(self, method: str) -> float | None:
        """A method's mean error over the goals; None if it found nothing."""
        found = self.errors.get(method)
        return statistics.fmean(found.values()) if found else None

    @property
    def best(self) -> float:
        """The mean over the goals of the lowest error of any method."""
        goals = {goal for found in self.errors.values() for goal in found}
        return statistics.fmean(
            min(found[goal] for found in self.errors.values() if goal in found) for goal in goals
        )


#: Points by size and kind of goal, then by curve.
Results = dict[tuple[int, str], dict[str, list[Point]]]


def collect(cells: Cells) -> Results:
    """The points of all curves, sorted by parameters."""
    points: dict[tuple[int, str, str, str], Point] = {}
    longest: dict[tuple[str, ...], int] = {}
    for cell, _ in cells.finished:
        longest[_fit(cell)] = max(cell["steps"], longest.get(_fit(cell), 0))
    for cell, found in cells.finished:
        # A fit that was made again with more steps counts once.
        if "error" not in found or cell["steps"] < longest[_fit(cell)]:
            continue
        key = (cell["size"], cell["kind"], cell["curve"], json.dumps(cell["options"]))
        point = points.setdefault(key, Point(found["parameters"]))
        point.errors[cell["method"]][cell["goal"]] = found["error"]
        point.mses.append(found["mse"])
    results: Results = defaultdict(lambda: defaultdict(list))
    for (size, kind, curve, _), point in points.items():
        results[size, kind][curve].append(point)
    for curves in results.values():
        for there in curves.values():
            there.sort(key=lambda point: point.parameters)
    return results


def _fit(cell: dict[str, Any]) -> tuple[str, ...]:
    """What tells a fit from others, but for its number of steps."""
    return tuple(json.dumps(value) for name, value in sorted(cell.items()) if name != "steps")


def report(cells: Cells, picture: Path | None) -> None:
    """Prints the tables of all finished cells; draws the picture."""
    results = collect(cells)
    print(describe_machine())
    compared = {place: curves for place, curves in sorted(results.items()) if place[1] != "log"}
    for (size, kind), curves in compared.items():
        _print_budgets(size, kind, curves)
    for (size, kind), curves in compared.items():
        _print_methods(size, kind, curves)
    for (size, kind), curves in results.items():
        if kind == "log":
            _print_log(size, curves)
    if picture is not None and compared:
        draw(compared, picture)


def _print_budgets(size: int, kind: str, curves: dict[str, list[Point]]) -> None:
    print(
        f"\n**N = {size}, {kind}: what is left with at most so many numbers, and more than half**\n"
    )
    heads = [f"{budget * size**2:,.0f}" for budget in _BUDGETS]
    print("| map | " + " | ".join(heads) + " |\n|---|" + "---|" * len(heads))
    rows = {
        curve: [
            # A smaller map would say nothing of this budget.
            min(
                (p.best for p in points if 0.5 < p.parameters / (budget * size**2) <= 1),
                default=None,
            )
            for budget in _BUDGETS
        ]
        for curve, points in sorted(curves.items())
    }
    lowest = [
        min((row[column] for row in rows.values() if row[column] is not None), default=None)
        for column in range(len(_BUDGETS))
    ]
    for curve, row in rows.items():
        if any(error is not None for error in row):
            shown = [_error(e, bold=e == low) for e, low in zip(row, lowest, strict=True)]
            print(f"| {curve} | " + " | ".join(shown) + " |")
    print("| as many single entries | " + " | ".join(f"{1 - b:.3f}" for b in _BUDGETS) + " |")


def _print_methods(size: int, kind: str, curves: dict[str, list[Point]]) -> None:
    print(
        f"\n**N = {size}, {kind}: mean error by method, over the maps that all methods fitted**\n"
    )
    print("| map | maps | " + " | ".join(METHODS) + " |\n|---|---|" + "---|" * len(METHODS))
    for curve, points in sorted(curves.items()):
        used = [method for method in METHODS if any(method in p.errors for p in points)]
        whole = [p for p in points if all(method in p.errors for method in used)]
        means = {
            method: statistics.fmean(filter_none(p.mean(method) for p in whole))
            for method in used
            if whole
        }
        shown = [_error(means.get(method)) for method in METHODS]
        print(f"| {curve} | {len(whole)} | " + " | ".join(shown) + " |")


def _print_log(size: int, curves: dict[str, list[Point]]) -> None:
    print(f"\n**N = {size}, the research log's problem: mean squared error on its 100 examples**\n")
    print("| map | parameters | log | here | log ÷ 1/36 | here ÷ 1/36 |\n|---|---|---|---|---|---|")
    for line in LINES:
        for point in curves.get(line.name, []):
            mean = statistics.fmean(point.mses)
            spread = statistics.stdev(point.mses) if len(point.mses) > 1 else 0.0
            print(
                f"| {line.name} | {point.parameters:,} | {line.error:.4f} ± {line.deviation:.4f} | "
                f"{mean:.4f} ± {spread:.4f} | {line.error / CONSTANT:.2f} | {mean / CONSTANT:.2f} |"
            )


def filter_none(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _error(error: float | None, *, bold: bool = False) -> str:
    if error is None:
        return "–"
    text = "0" if error < _EXACT else f"{error:.3f}"
    return f"**{text}**" if bold else text


def draw(compared: dict[tuple[int, str], dict[str, list[Point]]], picture: Path) -> None:
    """Draws error against parameters, a panel for each size and kind of goal."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    sizes = sorted({size for size, _ in compared})
    kinds = sorted({kind for _, kind in compared}, key=lambda kind: (kind != "random", kind))
    figure = Figure(
        figsize=(4.4 * len(sizes) + 2.4, 4.2 * len(kinds)), dpi=90, layout="constrained"
    )
    panels = figure.subplots(len(kinds), len(sizes), squeeze=False)
    curves = sorted({curve for there in compared.values() for curve in there})
    families = list(dict.fromkeys(curve.split()[0] for curve in curves))
    colours = mpl.colormaps["tab20"].colors  # type: ignore[attr-defined]
    colours = [*colours[::2], *colours[1::2]]
    looks = {}
    for curve in curves:
        family = curve.split()[0]
        among = [other for other in curves if other.split()[0] == family]
        looks[curve] = {
            "color": colours[families.index(family) % len(colours)],
            "linestyle": ["-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1))][among.index(curve) % 5],
            "marker": "osd^v"[among.index(curve) % 5],
        }
    handles = {}
    for row, kind in enumerate(kinds):
        for column, size in enumerate(sizes):
            axes = panels[row][column]
            there = compared.get((size, kind))
            if there is None:
                axes.set_axis_off()
                continue
            for curve, points in there.items():
                shown = [(p.parameters, p.best) for p in points if p.best > _EXACT]
                if shown:
                    [line] = axes.plot(*zip(*shown, strict=True), ms=3.5, lw=1.2, **looks[curve])
                    handles[curve] = line
            entries = [size**2 * share / 50 for share in range(1, 50)]
            [line] = axes.plot(
                entries, [1 - n / size**2 for n in entries], color="0.6", lw=3, alpha=0.5, zorder=0
            )
            handles["as many single entries"] = line
            axes.axvline(size**2, color="0.6", lw=0.8)
            axes.set(xscale="log", yscale="log", title=f"N = {size}, {kind}", ylim=(0.02, 1.3))
            shares = [0.02, 0.05, 0.1, 0.2, 0.5, 1]
            axes.set_yticks(shares, [f"{share:.0%}" for share in shares])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
    names = [*curves, "as many single entries"]
    names = [name for name in names if name in handles]
    figure.legend(
        [handles[name] for name in names],
        names,
        loc="outside right center",
        frameon=False,
        fontsize=8,
    )
    figure.supxlabel("parameters (the line at the right: a dense matrix)")
    figure.supylabel("energy that is left, ‖W − Ŵ‖² ÷ ‖W‖²")
    figure.savefig(picture)
