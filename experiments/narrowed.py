"""Students that are the teacher with fewer channels, and such that are rewritten as well."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from seclcompress import workflows
from seclcompress.errors import PlanError
from seclcompress.observer import Observer
from seclcompress.settings import PlanOptions, TrainingSettings
from seclcompress.settings.budget import Budget
from seclcompress.settings.slimming import SlimOptions

#: Before a family's name: the student starts from a recovery and not from random weights.
RECOVERED = "recovered/"
#: Behind `slim/`: how channels are chosen, and, after a plus, what the rest is rewritten as. Recovered
#: ones take over the layers of the narrowed network.
SLIM = "slim/"
WAYS = (
    "slim/global",
    "slim/uniform",
    "slim/svd",
    "slim/uniform+separable",
    "slim/uniform+acdc",
    "slim/svd+acdc",
    "slim/svd+separable",
    "recovered/slim/svd+separable",
    "recovered/slim/svd+acdc",
)
#: Ways that lose channels while they learn from the teacher, so that there is no student before it.
WHILE_TRAINED = {
    "slim/gates": SlimOptions(method="gates"),
    "slim/rounds": SlimOptions(rounds=4),
    "slim/svd rounds": SlimOptions(method="svd", rounds=4),
}
#: All networks that are the teacher with fewer channels: made when its weights are there.
SLIMMED = (*WAYS, *WHILE_TRAINED)
#: The teacher's kind of network with fewer channels, not rewritten, from random weights.
FULL = "full"


def make_student(
    way: str, teacher: Path, student: Path, size: int, data: str, seed: int, observer: Observer
) -> None:
    """Writes a student that has at most so many parameters, and nearly so many.

    Args:
        way: One of `WAYS`.
        teacher: The teacher's folder.
        student: The folder to write.
        size: The parameters to meet.
        data: The data set whose training images singular values are taken of, and recoveries learn from.
        seed: For the weights of a recovered student, and the order of its pictures.
        observer: Receives reports.
    """
    spread, _, family = way.removeprefix(RECOVERED).removeprefix(SLIM).partition("+")
    svd = spread == "svd"
    options = SlimOptions(method="svd") if svd else SlimOptions(spread=spread)  # type: ignore[arg-type]
    seen = data if svd else None
    if not family:
        workflows.slim(
            teacher,
            Budget(parameters=size),
            student,
            options=options,
            data=seen,
            observer=observer,
        )
        return
    rewritten = PlanOptions(substitution=family, keep=("*.shortcut",))
    with tempfile.TemporaryDirectory() as folder:
        low, high = size, figures(teacher, "original")["parameters"]
        best: Path | None = None
        for step in range(9):
            middle = (low + high) // 2
            narrowed = Path(folder) / str(step)
            try:
                workflows.slim(
                    teacher, Budget(parameters=middle), narrowed, options=options, data=seen
                )
                has = (
                    workflows.convert(narrowed, options=rewritten).count.columns["auto"].parameters
                )
            except PlanError:  # nothing to lose, or too narrow to be rewritten
                has = 0 if best is None else size + 1
            if has <= size:
                low, best = middle, narrowed
            else:
                high = middle
        assert best is not None
        if not way.startswith(RECOVERED):
            workflows.convert(best, student, options=rewritten, observer=observer)
            return
        fresh = Path(folder) / "fresh"
        # As everywhere here: stacks begin random, what is linear nearest to the weights.
        start: Any = "random" if family == "acdc" else "original"
        workflows.convert(best, fresh, options=rewritten, start=start, seed=seed, observer=observer)
        workflows.recover(
            fresh,
            teacher=best,
            data=data,
            output_dir=student,
            training=TrainingSettings(seed=seed),
            observer=observer,
        )


def figures(student: str | Path, column: str) -> dict[str, int]:
    """Parameters and Mult-Adds of a student as it will be trained."""
    totals = workflows.count(student, input_size=(3, 32, 32)).count.columns[column]
    return {"parameters": totals.parameters, "mult_adds": totals.mult_adds}
