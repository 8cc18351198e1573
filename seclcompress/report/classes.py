"""The accuracy of each class: figures, and a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from seclcompress.train import Answers

#: Of more classes than these, the worst are shown; `--json` has all.
LISTED = 30


@dataclass(frozen=True)
class ClassAccuracy:
    """How a network answers for the test images of one class.

    Attributes:
        name: The name of the class.
        images: Its test images.
        right: Those of them that were answered right.
        accuracy: `right` ÷ `images` in percent, the recall of the class; None without images.
        taken_for: The most frequent wrong answer, of equally frequent ones the first class; None if all
            answers are right.
        taken: The images with that answer.
    """

    name: str
    images: int
    right: int
    accuracy: float | None
    taken_for: str | None
    taken: int


def class_accuracies(answers: Answers) -> list[ClassAccuracy]:
    """The accuracy of each class, in the order of the classes."""
    answered: list[dict[int, int]] = [{} for _ in answers.classes]
    for (truth, answer), number in answers.counts.items():
        answered[truth][answer] = number
    found = []
    for truth, (title, counts) in enumerate(zip(answers.classes, answered, strict=True)):
        images, right = sum(counts.values()), counts.pop(truth, 0)
        worst = max(sorted(counts), key=counts.__getitem__, default=None)
        found.append(
            ClassAccuracy(
                title,
                images,
                right,
                100 * right / images if images else None,
                None if worst is None else answers.classes[worst],
                0 if worst is None else counts[worst],
            )
        )
    return found


def listed(classes: Sequence[ClassAccuracy]) -> list[ClassAccuracy]:
    """The classes that are shown: those with images, or of more than `LISTED` of them the worst."""
    seen = [one for one in classes if one.images]
    if len(seen) <= LISTED:
        return seen
    return sorted(seen, key=lambda one: one.right / one.images)[:LISTED]


def classes_table(classes: Sequence[ClassAccuracy]) -> Table:
    """Makes a table with a line for each class that is shown (see `listed`).

    Args:
        classes: All classes.
    """
    shown = listed(classes)
    seen = sum(one.images > 0 for one in classes)
    worst = f" (the worst {len(shown)} of {seen})" if len(shown) < seen else ""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(f"class{worst}", overflow="fold")
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("most often taken for", overflow="fold")
    for one in shown:
        taken = "–" if one.taken_for is None else f"{one.taken_for} ({one.taken:,})"
        # Names are a stranger's: as text, brackets in them are no markup.
        table.add_row(
            Text(one.name), f"{one.accuracy:.2f} %", f"{one.right:,} of {one.images:,}", Text(taken)
        )
    return table
