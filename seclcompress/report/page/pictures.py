"""The pictures of a page: layers by depth, curves of training, folders side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from seclcompress.count import Row
from seclcompress.report.page.drawing import COLOURS, figure, log_axis, styled, svg
from seclcompress.report.page.facts import Facts
from seclcompress.report.page.words import name, times
from seclcompress.train import Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Quantity = Literal["parameters", "mult_adds"]
TITLES: dict[Quantity, str] = {"parameters": "parameters", "mult_adds": "Mult-Adds"}

_WIDTH, _HEIGHT = 380.0, 280.0  # CSS pixels: a phone's width
_LAYER, _WIDEST = 14.0, 4000.0  # pixels for a layer, and for all
_MARKERS = {"kept": "s", "dense": "o", "fast": "^"}
_MEANING = {"kept": "kept", "dense": "rewritten, runs dense", "fast": "rewritten, runs fast"}


def fate(row: Row) -> str:
    """What becomes of a layer: `kept`, `dense` or `fast`."""
    return "kept" if row.substitution is None else row.execution


def layers_svg(
    rows: Sequence[Row], quantity: Quantity, prefix: str, *, converted: bool
) -> str | None:
    """Draws a quantity of every layer by depth, before and after, on a logarithmic axis.

    Args:
        rows: The layers in running order.
        quantity: What is drawn.
        prefix: For the ids of the picture.
        converted: Whether to draw the figures after the rewrite, too.

    Returns:
        An `<svg>` element; None if no layer has any.
    """
    shown = [row for row in rows if getattr(row.columns["original"], quantity) > 0]
    if not shown:
        return None
    before = [getattr(row.columns["original"], quantity) for row in shown]
    after = [getattr(row.columns["auto"], quantity) for row in shown] if converted else before
    with styled():
        wide = min(max(_WIDTH, 70 + _LAYER * len(shown)), _WIDEST)
        made, axes = figure(wide, _HEIGHT + 30)
        axes.set_yscale("log")
        axes.vlines(range(len(shown)), after, before, color=COLOURS["line"], linewidth=2.5)
        _points(axes, shown, before, after, converted)
        lowest, highest = min(filter(None, (*before, *after))), max(*before, *after)
        axes.set_ylim(lowest / 1.6, highest * 1.6)
        log_axis(axes.yaxis, lowest, highest, whole=True)
        axes.set_xlim(-0.7, len(shown) - 0.3)
        _name_groups(axes, shown, wide)
        hover = {}
        for place, row in enumerate(shown):
            span = axes.axvspan(place - 0.5, place + 0.5, facecolor="none", zorder=9)
            span.set_gid(f"layer{place}")
            hover[f"layer{place}"] = layer_words(row, converted=converted)
        axes.set_ylabel(f"{TITLES[quantity]} of the layer")
        label = (
            f"{TITLES[quantity]} of {len(shown)} layers by depth; the table below has every figure"
        )
        return svg(made, prefix, label, hover)


def _points(
    axes: Axes, rows: Sequence[Row], before: Sequence[int], after: Sequence[int], converted: bool
) -> None:
    if converted:
        changed = [place for place, row in enumerate(rows) if row.substitution is not None]
        axes.plot(
            changed,
            [before[place] for place in changed],
            "o",
            color=COLOURS["muted"],
            markerfacecolor=COLOURS["card"],
            ms=6,
            label="before",
        )
    for kind, marker in _MARKERS.items():
        places = [p for p, row in enumerate(rows) if kind == (fate(row) if converted else "kept")]
        if places:
            values = [after[place] for place in places]
            meaning = _MEANING[kind] if converted else "as it is"
            axes.plot(places, values, marker, color=COLOURS[kind], ms=6, label=meaning)
    columns = 3 if len(axes.get_legend_handles_labels()[0]) <= 3 else 2
    axes.figure.legend(loc="outside upper left", ncols=columns, handletextpad=0.1, columnspacing=1)


def _name_groups(axes: Axes, rows: Sequence[Row], wide: float) -> None:
    """Marks where the network's parts begin; of parts that are close together, the first."""
    parts = [row.name.partition(".")[0] for row in rows]
    begins = [p for p in range(len(parts)) if p == 0 or parts[p] != parts[p - 1]]
    apart = 15 * len(rows) / wide  # layers in 15 pixels
    ticks: list[int] = []
    for place in begins:
        if not ticks or place - ticks[-1] >= apart:
            ticks.append(place)
    axes.set_xticks(ticks, [name(parts[place], 14) for place in ticks], rotation=60, ha="right")
    axes.tick_params(axis="x", length=4)
    for label in axes.get_xticklabels():
        label.set_rotation_mode("anchor")
    axes.grid(visible=False, axis="x")


def layer_words(row: Row, *, converted: bool) -> str:
    """What a layer was and became, and why, in lines."""
    lines = [f"{name(row.name, 100) or 'the network'}: {name(row.layer, 120)}"]
    for quantity, title in TITLES.items():
        before = getattr(row.columns["original"], quantity)
        after = getattr(row.columns["auto"], quantity)
        changed = converted and row.substitution is not None
        became = f" → {after:,} ({times(before, after)} times fewer)" if changed else ""
        lines.append(f"{title} {before:,}{became}")
    if converted:
        kind = f"{row.substitution}, {row.execution}" if row.substitution else "kept"
        lines.append(f"{kind}: {name(row.reason, 300)}")
    return "\n".join(lines)


def loss_svg(history: Sequence[Epoch], prefix: str, *, taught: bool) -> str:
    """Draws the losses of a run on a logarithmic axis.

    Args:
        history: The epochs.
        prefix: For the ids of the picture.
        taught: Whether the training loss holds the losses against a teacher.
    """
    part = "validation" if _held_out(history) else "test"
    titles = {
        "train_loss": "training, all losses" if taught else "training",
        f"{part}_loss": part,
    }
    with styled():
        made, axes = figure(_WIDTH, _HEIGHT)
        seen: list[float] = []
        colours = (COLOURS["dense"], COLOURS["fast"])
        for (key, title), colour, dash in zip(titles.items(), colours, ("-", "--"), strict=True):
            points = [(epoch.epoch, getattr(epoch, key)) for epoch in history]
            points = [(x, y) for x, y in points if y is not None and math.isfinite(y) and y > 0]
            seen += [y for _, y in points]
            axes.plot(*_columns(points), dash, color=colour, label=title, **_dots(len(points)))
        axes.set_yscale("log")
        if seen:
            log_axis(axes.yaxis, min(seen), max(seen), whole=False)
        _finish(axes, "loss (logarithmic)")
        return svg(made, prefix, f"Losses of {len(history)} epochs, on a logarithmic axis")


def accuracy_svg(history: Sequence[Epoch], levels: dict[str, float], prefix: str) -> str:
    """Draws the accuracy of a run on the images that judge it, with levels to compare it with.

    Where images were held out, that is their accuracy; what is known of the test images are points.

    Args:
        history: The epochs.
        levels: Accuracies in percent from before the run, by their titles.
        prefix: For the ids of the picture.
    """
    with styled():
        made, axes = figure(_WIDTH, _HEIGHT)
        held = _held_out(history)
        points = [(epoch.epoch, epoch.chosen_by) for epoch in history]
        part = "validation" if held else "test"
        axes.plot(*_columns(points), color=COLOURS["dense"], label=part, **_dots(len(points)))
        tests = [(one.epoch, one.accuracy) for one in history if held and one.accuracy is not None]
        if tests:
            axes.plot(*_columns(tests), "D", color=COLOURS["fast"], ms=4, label="test")
        for (title, level), dash in zip(levels.items(), ("--", ":"), strict=False):
            axes.axhline(level, color=COLOURS["muted"], linestyle=dash, linewidth=1.4, label=title)
        _finish(axes, "accuracy (%)")
        last = history[-1].chosen_by
        return svg(
            made, prefix, f"Accuracy by epoch; {last:.2f} % after the last of {len(history)}"
        )


def _held_out(history: Sequence[Epoch]) -> bool:
    """Whether the epochs were judged by validation images."""
    return any(epoch.validation_accuracy is not None for epoch in history)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _dots(number: int) -> dict[str, Any]:
    return {"marker": "o" if number < 30 else "", "ms": 3.5, "linewidth": 1.8}


def _finish(axes: Axes, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel="epoch", ylabel=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.figure.legend(loc="outside upper left", ncols=3, handlelength=1.8, columnspacing=1.2)


def comparison_svg(folders: Sequence[Facts], prefix: str) -> str | None:
    """Draws accuracy over parameters, with a numbered point for each folder.

    Args:
        folders: The folders; their numbers are their places, from 1.
        prefix: For the ids of the picture.

    Returns:
        An `<svg>` element; None if no folder has an accuracy.
    """
    known = [
        (number, facts, facts.accuracy)
        for number, facts in enumerate(folders, 1)
        if facts.accuracy is not None and facts.after.parameters > 0
    ]
    if not known:
        return None
    places = {(facts.after.parameters, accuracy) for _, facts, accuracy in known}
    teachers = {
        (facts.teacher_parameters or facts.before.parameters, facts.accuracy_before): _taught(facts)
        for _, facts, _ in known
        if facts.converted and facts.accuracy_before is not None
    }
    with styled():
        made, axes = figure(_WIDTH, _HEIGHT)
        axes.set_xscale("log")
        hover: dict[str, str] = {}
        for (parameters, level), who in teachers.items():
            if (parameters, level) in places or level is None:
                continue
            (ring,) = axes.plot(
                parameters, level, "o", ms=9, color=COLOURS["muted"], mfc=COLOURS["card"]
            )
            ring.set_gid(gid := f"teacher{len(hover)}")
            hover[gid] = f"{who}\n{parameters:,} parameters, {level:.2f} %"
            _mark(axes, parameters, level, "teacher")
        for number, facts, accuracy in known:
            colour = COLOURS["dense" if facts.converted else "kept"]
            (dot,) = axes.plot(facts.after.parameters, accuracy, "o", ms=9, color=colour)
            dot.set_gid(gid := f"folder{number}")
            hover[gid] = (
                f"{number}: {name(facts.folder, 100)}\n{facts.after.parameters:,} parameters, "
                f"{accuracy:.2f} %"
            )
            _mark(axes, facts.after.parameters, accuracy, str(number))
        every = [x for x, _ in (*places, *teachers)]
        axes.margins(x=0.12, y=0.15)
        log_axis(axes.xaxis, min(every), max(every), whole=True)
        axes.set(xlabel="parameters (logarithmic)", ylabel="accuracy (%)")
        return svg(made, prefix, f"Accuracy over parameters of {len(known)} folders", hover)


def _taught(facts: Facts) -> str:
    """Who taught a folder's network."""
    if facts.teacher is not None:
        return f"{name(facts.teacher, 100)}, the teacher of {name(facts.folder, 100)}"
    return (
        f"the teacher of {name(facts.folder, 100)}, which does not name it;\n"
        f"at the parameters of the original, {name(facts.network, 30)}"
    )


def _mark(axes: Axes, x: float, y: float, text: str) -> None:
    axes.annotate(text, (x, y), xytext=(7, 4), textcoords="offset points")
