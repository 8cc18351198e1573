"""The curve of plans: a table, CSV, and a picture."""

from __future__ import annotations

import csv
import io
from typing import Any

from rich.table import Table

from seclcompress.budget import Curve, Point
from seclcompress.report.png import drawn
from seclcompress.settings.budget import WORDS

_NARROW = 60  # characters; a narrower terminal gets fewer columns
#: What a loss is the share of, by what it is known from.
LOST = {
    "weights": "trained weights' energy lost (%)",
    "shapes": "parameters saved (%; no weights were given)",
    "output": "outputs' energy lost (%)",
    "recovered": "outputs' variance lost once recovered (%)",
    "fisher": "lost (%; 100: what the mean layer is worth, by Fisher information)",
}


def curve_table(curve: Curve, width: int) -> Table:
    """Makes a table of the points.

    Args:
        curve: The curve.
        width: The width of the terminal in characters.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("parameters", justify="right")
    table.add_column("Mult-Adds", justify="right")
    if curve.runtime is not None:
        table.add_column("ms", justify="right")
    table.add_column("lost", justify="right")
    if width >= _NARROW:
        table.add_column("layers", overflow="fold")
    for point in curve.points:
        cells = list(figures_of(point).values())
        table.add_row(*cells, *([layers_of(point)] if width >= _NARROW else []))
    return table


def figures_of(point: Point) -> dict[str, str]:
    """A point's figures by the names of their columns."""
    found = {"parameters": f"{point.parameters:,}", "Mult-Adds": f"{point.mult_adds:,}"}
    if point.milliseconds is not None:
        found["ms"] = f"{point.milliseconds:.2f}"
    return {**found, "lost": f"{100 * point.loss:.2f} %"}


def layers_of(point: Point) -> str:
    """How many layers become what, in words."""
    return ", ".join(f"{count} {name}" for name, count in point.families.items()) or "all kept"


def curve_words(curve: Curve) -> str:
    """What the curve's losses are."""
    what = {
        "weights": "what the fitted layers miss of the trained weights' energy",
        "shapes": "the share of their parameters that is saved, as no weights were given",
        "output": "what the fitted layers miss of the outputs' energy on "
        f"{curve.images} images of {curve.data}",
        "recovered": "what each layer misses of its outputs' variance, recovered alone on "
        f"{curve.images} images of {curve.data}",
        "fisher": "what the fitted layers miss of what the mean layer's outputs are worth to the loss "
        f"(Fisher information, {curve.images} images of {curve.data})",
    }[curve.source]
    timed, option = "", f"--budget {_option(curve)}=…"
    if curve.runtime is not None:
        option += f" --runtime {curve.runtime}"
        timed = (
            f"Milliseconds are those of whole networks for one image in {curve.runtime} on this "
            "machine. "
        )
    return (
        f"{timed}Lost is {what}, on average over the {curve.layers} layers that may change. It does not "
        f"say how well a network trains. seclcompress plan {option} -o FILE writes the plan of a point."
    )


def _option(curve: Curve) -> str:
    return "ms" if curve.runtime is not None else curve.quantity.replace("_", "-")


def axis_of(curve: Curve) -> str:
    """The quantity of a curve in words."""
    if curve.runtime is not None:
        return f"ms an image in {curve.runtime}"
    return WORDS[curve.quantity]


def curve_csv(curve: Curve) -> str:
    """The points as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    times = ["milliseconds", "predicted"] if curve.runtime is not None else []
    writer.writerow(["limit", "parameters", "mult_adds", *times, "loss", "layers"])
    for point in curve.points:
        figures = [point.limit, point.parameters, point.mult_adds]
        taken = [f"{getattr(point, name):.4f}" for name in times]
        writer.writerow([*figures, *taken, f"{point.loss:.6f}", layers_of(point)])
    return text.getvalue()


def draw_curve(axes: Any, curve: Curve, colour: str) -> None:
    """Draws the points on matplotlib's axes, the limited quantity on a logarithmic one."""
    amounts = [point.amount(curve.quantity) for point in curve.points]
    losses = [100 * point.loss for point in curve.points]
    axes.plot(amounts, losses, color=colour)
    for number, (x, y) in enumerate(zip(amounts, losses, strict=True)):
        axes.plot([x], [y], marker="o", markersize=4, color=colour, gid=f"point-{number}")
    axes.set(xscale="log", xlabel=axis_of(curve), ylabel=LOST[curve.source])


def curve_png(curve: Curve) -> bytes:
    """Draws the curve as a PNG file; equal curves give equal files."""
    with drawn((7, 4.5)) as (figure, written):
        axes = figure.subplots()
        draw_curve(axes, curve, "C0")
        axes.set_title(f"{curve.label}: the best plans", fontsize=10)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return written.getvalue()
