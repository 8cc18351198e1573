r"""The most accurate network of 100,000 parameters, beside today's defaults and a narrower network.

    python benchmarks/best_100k.py --data imagefolder:PATH --work FOLDER [--device cuda] [--minutes 60]
    python benchmarks/best_100k.py --data imagefolder:PATH --work FOLDER --epochs 6 --teacher-epochs 7 \
      --train-images 12000 --minutes 60
    python benchmarks/best_100k.py --report FOLDER/results.jsonl

A teacher is trained, and every student of at most 100,000 parameters learns from it with as many images
and epochs. Those with `recipe` take over their teacher's layers first (`distill --recover`) and are
trained by `--recipe cifar-100k`; the others begin random and are trained by the defaults. Finished runs
are lines of results.jsonl and are not repeated; an interrupted one is resumed. With `--minutes` training
ends in time, with exit code 3 if anything is left to do; a plan or a recovery that has begun is finished
first. A work folder has one teacher, and students of one kind of run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seclcompress import artefact, workflows
from seclcompress.errors import SeclcompressError
from seclcompress.recipes import make_settings
from seclcompress.settings import PlanOptions
from seclcompress.settings.budget import Budget
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.training import TrainingSettings
from seclcompress.timing import describe_machine
from seclcompress.workflows.training import InterruptedRunError

# Long work in pieces is what experiments do; there are its helpers.
sys.path.append(str(Path(__file__).parents[1] / "experiments"))
from pieces import Log, check_same, make, read_lines

RECIPE = "cifar-100k"
INPUT_SIZE = (3, 32, 32)
RESULTS = "results.jsonl"
UNFINISHED = 3
#: What all runs of a work folder have in common.
OF_THE_FOLDER = ("data", "network", "teacher_epochs", "epochs", "train_images")
#: Less time than this is not worth beginning anything.
SECONDS = 5
#: Plain separable and narrower; any other name is that of a family.
NARROWER = "narrower"
#: What a plan by recovered layers chooses among; whole kernels have more Mult-Adds.
MIXED = "separable+low_rank+kronecker+tensor_train"


@dataclass(frozen=True)
class Student:
    """A line of the table.

    Attributes:
        family: The family whose layers are planned for the budget, several with + between them, or
            `NARROWER`.
        by_recipe: Whether it is recovered and trained by the recipe; otherwise by the defaults.
    """

    family: str
    by_recipe: bool = False

    @property
    def name(self) -> str:
        """As the table says it."""
        return f"{self.family}, {'recipe' if self.by_recipe else 'defaults'}"

    def folder(self, work: Path, what: str, size: int, seed: int) -> Path:
        """The folder of one of its stages."""
        return work / f"{self.name.replace(', ', '-')}-{size}-seed-{seed}.{what}"


STUDENTS = (
    Student(MIXED, by_recipe=True),
    Student("separable", by_recipe=True),
    Student("acdc", by_recipe=True),
    Student("separable"),
    Student("acdc"),
    Student(NARROWER),
)


def narrower(network: str, size: int, classes: int) -> str:
    """The widest network of this kind whose plain separable form has at most so many parameters."""
    stem, _, width = network.rpartition("_")
    for step in range(60, 0, -1):
        name = f"{stem}_{float(width) * step / 40:g}"
        if _separable(name, classes) <= size:
            return name
    raise SystemExit(f"No {stem} is so narrow that its separable form has {size:,} parameters.")


def _separable(name: str, classes: int) -> int:
    options = PlanOptions(substitution="separable", keep=("*.shortcut",))
    counted = workflows.count(name, options=options, input_size=INPUT_SIZE, num_classes=classes)
    return counted.count.columns["auto"].parameters


def convert(student: Student, chosen: argparse.Namespace, seed: int) -> Path:
    """Writes the student that is to be trained, unless it is there."""
    folder = student.folder(chosen.work, "student", chosen.size, seed)
    if folder.exists():
        return folder
    teacher = chosen.work / "teacher"
    classes = artefact.read_config(teacher).network.num_classes
    assert classes is not None  # as many as the data has
    if student.family == NARROWER:
        workflows.convert(
            narrower(chosen.network, chosen.size, classes),
            folder,
            options=PlanOptions(substitution="separable", keep=("*.shortcut",)),
            input_size=INPUT_SIZE,
            num_classes=classes,
            seed=seed,
        )
        return folder
    families, budget = tuple(student.family.split("+")), Budget(parameters=chosen.size)
    if len(families) > 1:  # only what is measured on images compares families
        planned = workflows.plan(teacher, budget, families=families, data=chosen.data)
    else:  # by shapes: with the teacher's weights, every candidate of a stack would be fitted to them
        planned = workflows.plan(
            chosen.network, budget, families=families, input_size=INPUT_SIZE, num_classes=classes
        )
    # A stack's fit takes minutes, and its recovery is as good from random values.
    fitted = student.by_recipe and student.family != "acdc"
    workflows.convert(
        teacher,
        folder,
        plan=planned.plan,
        start="original" if fitted else "random",
        seed=seed,
    )
    return folder


def perform(student: Student, seed: int, chosen: argparse.Namespace, until: float) -> bool:
    """Makes and trains one student, and adds its line; returns whether it is finished."""
    about = {"student": student.name, "size": chosen.size, "seed": seed}
    path = chosen.work / RESULTS
    if any(about.items() <= line.items() for line in read_lines(path)):
        return True
    if until - time.time() < SECONDS:
        return False
    print(student.name, flush=True)
    made = convert(student, chosen, seed)
    folder = student.folder(chosen.work, "trained", chosen.size, seed)
    began = time.monotonic()
    given = {**settings_of(chosen), "epochs": chosen.epochs, "seed": seed}
    if chosen.train_images is not None:
        given["train_images"] = chosen.train_images
    given = {name: value for name, value in given.items() if value is not None}
    recipe = RECIPE if student.by_recipe else None
    finished = in_pieces(
        folder,
        workflows.distill,
        until,
        student=made,
        teacher=chosen.work / "teacher",
        data=chosen.data,
        settings=make_settings(recipe, given),
        recipe=recipe,
        recovery=RecoverySettings() if student.by_recipe else None,
        untrained_teacher=True,  # this script has trained it; tests do so for a moment only
    )
    if not finished:
        return False
    history = read_lines(folder / "metrics.jsonl")
    column = workflows.count(made).count.columns["auto"]
    line = {
        **about,
        "network": chosen.network,
        "parameters": column.parameters,
        "mult_adds": column.mult_adds,
        "epochs": len(history),
        "images": chosen.train_images,
        "accuracy": history[-1]["accuracy"],
        "machine": describe_machine(),
        "seconds": round(time.monotonic() - began, 1),  # of the last piece
    }
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    return True


def in_pieces(folder: Path, run: Any, until: float, **arguments: Any) -> bool:
    """Makes a folder by a run, or goes on with it; returns whether it is finished in time."""
    if folder.exists():
        return True
    left = until - time.time()
    if left < SECONDS:
        return False
    try:
        make(folder, run, Log(), time_limit=left, **arguments)
    except InterruptedRunError as stopped:
        print(stopped)
        return False
    return True


def settings_of(chosen: argparse.Namespace) -> dict[str, Any]:
    """The settings of teacher and students alike."""
    return {"device": chosen.device, "amp": chosen.amp, "cache_images": "always"}


def report(lines: list[dict[str, Any]]) -> None:
    """Prints the table, best first."""
    print("| student | parameters | Mult-Adds | epochs | accuracy % | by seed |")
    print("|---|---|---|---|---|---|")
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for line in sorted(lines, key=lambda line: line["seed"]):
        groups.setdefault((line["student"], line["size"]), []).append(line)

    def mean(group: list[dict[str, Any]]) -> float:
        return float(sum(line["accuracy"] for line in group)) / len(group)

    for (name, _), group in sorted(groups.items(), key=lambda item: -mean(item[1])):
        first, seeds = group[0], " / ".join(f"{line['accuracy']:.2f}" for line in group)
        print(
            f"| {name} | {first['parameters']:,} | {first['mult_adds']:,} | {first['epochs']} | "
            f"{mean(group):.2f} | {seeds} |"
        )


def main() -> None:
    """Reads the command line and goes on with what is left to do."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--network", default="wrn16_2", help="the teacher, and what is rewritten")
    parser.add_argument("--size", type=int, default=100_000, help="the most parameters")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--students", nargs="+", choices=[one.name for one in STUDENTS])
    parser.add_argument("--epochs", type=int, help="of a student; by default as the settings say")
    parser.add_argument("--teacher-epochs", type=int, default=200)
    parser.add_argument("--train-images", type=int, help="of the students; by default all")
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", default="off", choices=["off", "bf16", "fp16"])
    parser.add_argument("--report", type=Path, metavar="RESULTS")
    chosen = parser.parse_args()
    if chosen.report:
        report(read_lines(chosen.report))
        return
    if chosen.data is None or chosen.work is None:
        parser.error("--data and --work are needed, but for --report")
    chosen.work.mkdir(parents=True, exist_ok=True)
    check_same(chosen.work, {name: getattr(chosen, name) for name in OF_THE_FOLDER})
    until = time.time() + 60 * chosen.minutes
    print(f"{describe_machine()}, {torch.get_num_threads()} threads", flush=True)
    wanted = [one for one in STUDENTS if chosen.students is None or one.name in chosen.students]
    try:
        finished = in_pieces(
            chosen.work / "teacher",
            workflows.train,
            until,
            network=chosen.network,
            data=chosen.data,
            settings=TrainingSettings(**settings_of(chosen), epochs=chosen.teacher_epochs),
            input_size=INPUT_SIZE,
        ) and all(
            perform(student, seed, chosen, until)
            for seed in range(chosen.seeds)
            for student in wanted
        )
    except SeclcompressError as error:
        sys.exit(str(error))
    report(read_lines(chosen.work / RESULTS))
    if not finished:
        sys.exit(UNFINISHED)


if __name__ == "__main__":
    main()
