"""Figures of a folder in the form in which the page's template shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from seclcompress.count import Row
from seclcompress.report.classes import class_accuracies, listed
from seclcompress.report.page.commands import spelled
from seclcompress.report.page.facts import Facts, Timed
from seclcompress.report.page.pictures import fate
from seclcompress.report.page.words import name, times
from seclcompress.report.tables import column_titles
from seclcompress.report.training import duration
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import Answers

_FLOAT32 = 4  # bytes
#: A table of confusions is shown up to this many classes; of more, the worst are listed.
MOST_CLASSES = 20


@dataclass(frozen=True)
class Tile:
    """A figure before and after.

    Attributes:
        title: What it is.
        now: The figure of the folder's network.
        before: The original's, if there was a change.
        ratio: What became of it, in words.
    """

    title: str
    now: str
    before: str = ""
    ratio: str = ""


def tiles(facts: Facts) -> list[Tile]:
    """The figures that a reader looks for first."""
    before, after = facts.before, facts.after
    made = [
        _tile("parameters", before.parameters, after.parameters, facts.converted, "smaller"),
        _tile("Mult-Adds an image", before.mult_adds, after.mult_adds, facts.converted, "fewer"),
    ]
    sizes = [_FLOAT32 * totals.parameters for totals in (before, after)]
    ratio = f"{times(*sizes)} × smaller" if facts.converted else ""
    made.append(
        Tile(
            "parameters in float32",
            in_bytes(sizes[1]),
            in_bytes(sizes[0]) if facts.converted else "",
            ratio,
        )
    )
    accuracy, teacher = facts.accuracy, facts.accuracy_before
    if accuracy is not None:
        on = f"accuracy on {name(facts.accuracy_on or 'unknown data', 40)}"
        if teacher is None:
            made.append(Tile(on, f"{accuracy:.2f} %"))
        elif facts.taught_by_another:
            made.append(Tile(on, f"{accuracy:.2f} %", ratio=f"its teacher: {teacher:.2f} %"))
        else:
            points = f"{accuracy - teacher:+.2f}".replace("-", "−")
            points = "no change" if points[1:] == "0.00" else f"{points} points"
            made.append(Tile(on, f"{accuracy:.2f} %", f"{teacher:.2f} %", points))
    return made


def _tile(title: str, before: int, after: int, converted: bool, word: str) -> Tile:
    if not converted:
        return Tile(title, f"{after:,}")
    return Tile(title, f"{after:,}", f"{before:,}", f"{times(before, after)} × {word}")


def in_bytes(size: int) -> str:
    """A size for people: `1.25 MB`."""
    for unit, letters in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.2f} {letters}"
    return f"{size:,} B"


def comparison_row(facts: Facts, number: int) -> dict[str, str]:
    """A folder in a row of the table that compares several."""
    families = ", ".join(facts.plan.families) if facts.converted else "not converted"
    teacher = facts.accuracy_before
    return {
        "no.": str(number),
        "folder": name(facts.folder, 100),
        "network": name(facts.network),
        "family": name(families),
        "parameters": f"{facts.after.parameters:,}",
        "times smaller": times(facts.before.parameters, facts.after.parameters),
        "Mult-Adds": f"{facts.after.mult_adds:,}",
        "accuracy": "–" if facts.accuracy is None else f"{facts.accuracy:.2f} %",
        "teacher": "–" if teacher is None else f"{teacher:.2f} %{_named(facts)}",
        "data": name(facts.accuracy_on or "–", 40),
    }


def _named(facts: Facts) -> str:
    """The teacher's name in brackets, where the folder says it."""
    return "" if facts.teacher is None else f" ({name(facts.teacher)})"


def variants(facts: Facts) -> list[dict[str, str]]:
    """A row for each way to have the network, with figures and how much they have shrunk."""
    titles = column_titles(facts.plan.families)
    rows = []
    for column, title in titles.items():
        totals = facts.count.column(column)
        rows.append(
            {
                "variant": title,
                "parameters": f"{totals.parameters:,}",
                "times smaller": times(facts.before.parameters, totals.parameters),
                "Mult-Adds": f"{totals.mult_adds:,}",
                "times fewer": times(facts.before.mult_adds, totals.mult_adds),
                "in float32": in_bytes(_FLOAT32 * totals.parameters),
            }
        )
    return rows


def layer_rows(facts: Facts) -> list[dict[str, str]]:
    """A row for each layer: what it becomes, figures before and after, and why."""
    return [_layer_row(row, converted=facts.converted) for row in facts.count.rows]


def _layer_row(row: Row, *, converted: bool) -> dict[str, str]:
    changed = converted and row.substitution is not None
    shown = {
        "layer": name(row.name, 200) or "(the network)",
        "type": name(row.layer, 200),
        "kind": fate(row) if converted else "kept",
        "becomes": f"{row.substitution}, {row.execution}" if changed else "kept",
        "why": name(row.reason, 500),
    }
    for quantity in ("parameters", "mult_adds"):
        before, after = (getattr(row.columns[c], quantity) for c in ("original", "auto"))
        shown[quantity] = f"{before:,} → {after:,}" if changed else f"{before:,}"
    return shown


def run_rows(facts: Facts) -> list[tuple[str, str]]:
    """What there is to say of a training run, by title."""
    if not facts.history:
        return []
    last, best = facts.history[-1], max(facts.history, key=lambda epoch: epoch.chosen_by)
    rows = [("after the last epoch", _percent(last.accuracy))]
    if facts.teacher_accuracy is not None:
        rows.insert(0, ("teacher" + _named(facts), f"{facts.teacher_accuracy:.2f} %"))
    part = "test" if best.validation_accuracy is None else "validation"
    words = f"best epoch ({best.epoch}; chosen on the {part} images)"
    rows.append((words, _percent(best.accuracy)))
    if best.validation_accuracy is not None:
        rows.append(("its accuracy on the validation images", _percent(best.validation_accuracy)))
    seconds = sum(epoch.seconds for epoch in facts.history)
    return [*rows, (f"time for {len(facts.history)} epochs", duration(seconds))]


def _percent(accuracy: float | None) -> str:
    return "–" if accuracy is None else f"{accuracy:.2f} %"


@dataclass(frozen=True)
class ClassBar:
    """The accuracy of a class: its name, the share in percent, and the images."""

    name: str
    percent: float
    right: int
    images: int


def class_bars(answers: Answers) -> list[ClassBar]:
    """The accuracy of each class, in their order; of many classes, the worst."""
    return [
        ClassBar(name(one.name, 40), 100 * one.right / one.images, one.right, one.images)
        for one in listed(class_accuracies(answers))
    ]


@dataclass(frozen=True)
class Cell:
    """A cell of the table of confusions.

    Attributes:
        number: Images.
        share: Of the images of the class, in percent.
        right: Whether the answer is the class.
    """

    number: int
    share: float
    right: bool


def confusions(answers: Answers) -> list[tuple[str, list[Cell]]] | None:
    """A row for each class with the answers to its images; None for too many classes."""
    classes = range(len(answers.classes))
    if len(classes) > MOST_CLASSES:
        return None
    rows = []
    for truth in classes:
        numbers = [answers.counts.get((truth, answer), 0) for answer in classes]
        whole = max(1, sum(numbers))
        cells = [Cell(n, 100 * n / whole, truth == answer) for answer, n in enumerate(numbers)]
        rows.append((name(answers.classes[truth], 40), cells))
    return rows


def worst_confusions(answers: Answers) -> list[tuple[str, str, int]]:
    """The most frequent wrong answers: the class, the answer, images."""
    wrong = [(pair, n) for pair, n in answers.counts.items() if pair[0] != pair[1]]
    wrong.sort(key=lambda item: (-item[1], item[0]))
    names = [name(title, 40) for title in answers.classes]
    return [(names[truth], names[answer], n) for (truth, answer), n in wrong[:10]]


def size_rows(facts: Facts) -> list[dict[str, str]]:
    """A row for each file of weights, beside the original's parameters."""
    whole = _FLOAT32 * facts.before.parameters
    rows = [
        {
            "file": "(the original's parameters)",
            "format": "computed",
            "dtype": "float32",
            "size": f"{whole:,}",
            "times smaller": "1.0",
        }
    ]
    for file in facts.files:
        dtypes = ", ".join(f"{name(d, 20)} ({n:,} values)" for d, n in file.values.items())
        rows.append(
            {
                "file": name(file.name, 100),
                "format": file.format,
                "dtype": dtypes or "–",
                "size": f"{file.size:,}",
                "times smaller": times(whole, file.size),
            }
        )
    return rows


def time_rows(timed: Timed) -> list[dict[str, str]]:
    """A row for each variant that was timed."""
    titles = column_titles(timed.plan.families)
    original = timed.measured["original"].timing.median
    return [
        {
            "variant": titles.get(column, column),
            "ms an image": f"{1e3 * measured.timing.median:.2f}",
            "middle half": f"± {50 * measured.timing.spread / measured.timing.median:.0f} %",
            "times faster": f"{original / measured.timing.median:.2f}",
            "layout": measured.layout,
            "weights file": in_bytes(measured.file_bytes),
        }
        for column, measured in timed.measured.items()
    ]


def settings_rows(training: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Name, value and whether it differs from the default, for every setting of a run."""
    fields = TrainingSettings.model_fields
    rows = []
    for key, value in _opened(training):
        shown = name(_value(value), 300)
        changed = key in fields and shown != name(_value(fields[key].default), 300)
        rows.append((name(key), shown, changed))
    return rows


def _opened(training: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values, those of a record within (a recovery's) one by one, its lists by their length."""
    for key, value in training.items():
        if not isinstance(value, Mapping) or key in TrainingSettings.model_fields:
            yield key, value
            continue
        for inner, one in value.items():
            long = isinstance(one, (list, tuple, Mapping))
            yield f"{key}.{inner}", f"{len(one)} in config.json" if long else one


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    try:
        return "–" if value in (None, [], (), {}) else spelled(value)
    except (TypeError, ValueError):  # a stranger's value of another kind
        return str(value)
