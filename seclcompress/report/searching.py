"""What became of the students of a search: a table, CSV, and the sentence to repeat."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table
from rich.text import Text

#: What became of a student: it was the best of its size; another was; it cannot be made or trained.
BEST, BEHIND, LEFT_OUT = "best", "behind", "left out"
_NARROW = 64  # characters; a narrower terminal gets a line for each round


@dataclass(frozen=True)
class Round:
    """What a student reached in a round.

    Attributes:
        epochs: Those that it was distilled for; 0 after its recovery.
        validation_accuracy: In percent of the held-out images, which decide.
        accuracy: In percent of the test images.
        seconds: How long the round took.
    """

    epochs: int
    validation_accuracy: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Contender:
    """A student of a search.

    Attributes:
        name: The family, several with a plus between them, or `slim`.
        budget: What it was made for.
        state: One of the states above.
        parameters: What it has; None if it cannot be made.
        mult_adds: Likewise, per image.
        rounds: What it reached, in their order.
        folder: Where it lies, after its last round; None if nowhere.
        reason: Why it was left out; empty otherwise.
    """

    name: str
    budget: str
    state: str
    parameters: int | None = None
    mult_adds: int | None = None
    rounds: tuple[Round, ...] = field(default=())
    folder: str | None = None
    reason: str = ""

    @property
    def last(self) -> Round | None:
        """Its last round; None if it had none."""
        return self.rounds[-1] if self.rounds else None


def ranked(contenders: Sequence[Contender]) -> list[Contender]:
    """The students of one size, the best first: by the rounds they came to, then held-out accuracy."""
    return sorted(contenders, key=_rank)


def _rank(one: Contender) -> tuple[bool, int, float, int]:
    last = one.last
    if last is None:
        return True, 0, 0.0, one.parameters or 0
    # After the same epochs. One that cannot be recovered has no round of 0 epochs.
    return False, -last.epochs, -last.validation_accuracy, one.parameters or 0


def search_table(contenders: Sequence[Contender], width: int) -> Table:
    """Makes a table of all students, size by size, the best of each size first.

    Args:
        contenders: The students.
        width: The width of the terminal in characters.
    """
    epochs = sorted({each.epochs for one in contenders for each in one.rounds})
    table = Table(box=None, pad_edge=False)
    table.add_column("student", overflow="fold")
    table.add_column("parameters", justify="right")
    if width >= _NARROW:
        table.add_column("Mult-Adds", justify="right")
        for number in epochs:
            table.add_column(_title(number), justify="right")
    else:
        table.add_column("held out %", justify="right")
    for budget in dict.fromkeys(one.budget for one in contenders):
        for one in ranked([each for each in contenders if each.budget == budget]):
            table.add_row(*_row(one, epochs, width))
    return table


def _title(epochs: int) -> str:
    return "recovered %" if epochs == 0 else f"{epochs} epoch{'' if epochs == 1 else 's'} %"


def _row(one: Contender, epochs: Sequence[int], width: int) -> list[Text]:
    style = "bold" if one.state == BEST else "dim" if one.state == LEFT_OUT else ""
    name = one.name if one.state != LEFT_OUT else f"{one.name}: {one.reason}"
    cells = [name, _number(one.parameters)]
    reached = {each.epochs: f"{each.validation_accuracy:.2f}" for each in one.rounds}
    if width >= _NARROW:
        cells += [_number(one.mult_adds), *(reached.get(number, "–") for number in epochs)]
    else:
        cells.append("–" if one.last is None else reached[one.last.epochs])
    return [Text(cell, style=style) for cell in cells]


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def search_csv(contenders: Sequence[Contender]) -> str:
    """All students and their rounds as CSV, a line a round; those without one have a line as well."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = ("epochs", "validation_accuracy", "accuracy", "seconds")
    writer.writerow(["student", "budget", "state", "parameters", "mult_adds", *figures, "reason"])
    for one in contenders:
        about = [one.name, one.budget, one.state, one.parameters, one.mult_adds]
        for each in one.rounds:
            reached = [getattr(each, name) for name in figures]
            writer.writerow([*about, *reached, one.reason])
        if not one.rounds:
            writer.writerow([*about, *[""] * len(figures), one.reason])
    return text.getvalue()


def search_words(best: Contender, label: str, parameters: int, teacher: float) -> str:
    """The sentence to repeat.

    Args:
        best: The student that was chosen.
        label: The network's name.
        parameters: What the network has.
        teacher: Its accuracy in percent of the test images.
    """
    assert best.last is not None
    assert best.parameters is not None
    lost = teacher - best.last.accuracy
    change = f"{abs(lost):.2f} points {'less' if lost >= 0 else 'more'} than"
    return (
        f"{best.name}: {best.parameters:,} parameters instead of {parameters:,}, "
        f"{parameters / best.parameters:.1f} times fewer, and {best.last.accuracy:.2f} % of the test "
        f"images right, {change} {label} ({teacher:.2f} %)."
    )
