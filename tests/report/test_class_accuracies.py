"""The accuracy of each class: figures and the table of `evaluate --by-class`."""

from __future__ import annotations

import io

from rich.console import Console

from seclcompress.report.classes import LISTED, class_accuracies, classes_table, listed
from seclcompress.train import Answers


def shown(answers: Answers) -> str:
    written = io.StringIO()
    Console(width=80, file=written).print(classes_table(class_accuracies(answers)))
    return written.getvalue()


def test_every_class_is_counted_by_its_own_images() -> None:
    counts = {(0, 0): 3, (0, 1): 1, (1, 0): 2, (1, 2): 2, (1, 1): 1}
    cat, dog, eel = class_accuracies(Answers(("cat", "dog", "eel"), counts))
    assert (cat.images, cat.right, cat.accuracy) == (4, 3, 75.0)
    assert (cat.taken_for, cat.taken) == ("dog", 1)
    assert (dog.images, dog.right, dog.accuracy) == (5, 1, 20.0)
    assert (dog.taken_for, dog.taken) == ("cat", 2)  # of two equally frequent ones, the first class
    assert (eel.images, eel.accuracy, eel.taken_for) == (0, None, None)


def test_a_table_of_classes_with_images() -> None:
    text = shown(Answers(("[red]", "dog", "eel"), {(0, 0): 3, (0, 1): 1, (1, 1): 2}))
    rows = [line.split() for line in text.splitlines()]
    assert rows[1:] == [
        ["[red]", "75.00", "%", "3", "of", "4", "dog", "(1)"],
        ["dog", "100.00", "%", "2", "of", "2", "–"],
    ]


def test_of_many_classes_the_worst() -> None:
    number = LISTED + 10
    names = tuple(f"class {place}" for place in range(number))
    counts = {(place, place): place + 1 for place in range(number)}
    counts.update({(place, 0): number - place for place in range(1, number)})
    classes = class_accuracies(Answers(names, counts))
    assert len(classes) == number
    worst = listed(classes)
    assert [one.name for one in worst] == [f"class {place}" for place in range(1, LISTED + 1)]
    assert f"class (the worst {LISTED} of {number})" in shown(Answers(names, counts))
