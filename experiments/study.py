"""Compares ways to train a SECL network at a fixed budget: every run of docs/training.md.

    python experiments/study.py --data imagefolder:PATH --work FOLDER [--jobs 2] [--only NAME ...]
    python experiments/study.py --work FOLDER --report    # the table, and the curves as a picture

Each run is a conversion and a distillation, in a folder of its own. A run whose folder exists is not
repeated, and an interrupted one is resumed. The teacher is trained first. Runs side by side are
processes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pieces import Log, make

from seclcompress.settings import PlanOptions, TrainingSettings
from seclcompress.timing import describe_machine

Settings = dict[str, Any]

NETWORK, SIZE = "wrn10_2", (3, 32, 32)
TEACHER: Settings = {"epochs": 9}
BUDGET: Settings = {"epochs": 10, "train_images": 12000, "batch_size": 128, "lr": 0.1}
AT: Settings = {"alpha": 0, "beta": 1000}
BOTH: Settings = {"alpha": 0.9, "beta": 1000}
#: The diagonals' settings in the paper's recipe. Each run changes one thing about the reference.
PAPER_FACTORS: Settings = {"factor_decay": "ratio", "factor_lr": 1, "factor_optimizer": "same"}
ADAMW: Settings = {"factor_optimizer": "adamw", "factor_lr": 0.1}
WINNER = {**BOTH, **ADAMW}


def with_depth(depth: int, init: str = "signs") -> PlanOptions:
    return PlanOptions(config={"depth": depth, "init": init}, keep=("*.shortcut",))


REFERENCE = with_depth(12)
SEPARABLE = PlanOptions(substitution="separable", keep=("*.shortcut",))


@dataclass(frozen=True)
class Run:
    """One line of the table.

    Attributes:
        question: The question that the run answers.
        name: The name of the run and of its folder.
        plan: How the teacher is converted; None for a network that is not converted.
        training: Training settings, which override those of the budget.
        start: The new layers' first values.
        student: A network to train as it is, if none is converted.
    """

    question: str
    name: str
    plan: PlanOptions | None = REFERENCE
    training: Settings = field(default_factory=dict)
    start: str = "random"
    student: str = ""


RUNS = (
    Run("reference", "reference"),
    Run("first values", "paper", with_depth(12, "paper")),
    Run("losses", "none", training={"alpha": 0, "beta": 0}),
    Run("losses", "kd", training={"alpha": 0.9, "beta": 0}),
    Run("losses", "at-kd", training=BOTH),
    Run("step of the diagonals", "lr-3", training={"factor_lr": 3}),
    Run("step of the diagonals", "adamw", training=ADAMW),
    Run("decay of the diagonals", "fixed", training={"factor_decay": "fixed"}),
    Run("decay of the diagonals", "product", training={"factor_decay": "product"}),
    Run("depth", "depth-4", with_depth(4)),
    Run("depth", "depth-8", with_depth(8)),
    Run("start", "original", start="original"),
    Run("together", "at-kd-adamw", training=WINNER),
    Run("other networks", "separable", SEPARABLE),
    Run("other networks", "separable-at-kd", SEPARABLE, BOTH),
    Run("other networks", "narrower", None, student="wrn10_0.58"),
    Run("other networks", "narrower-at-kd", None, BOTH, student="wrn10_0.58"),
    Run("another seed", "at-kd-adamw-seed-1", training={**WINNER, "seed": 1}),
    Run("another seed", "separable-at-kd-seed-1", SEPARABLE, {**BOTH, "seed": 1}),
)


def settings(run: Run) -> TrainingSettings:
    return TrainingSettings(**{**BUDGET, **PAPER_FACTORS, **AT, **run.training})


def train_teacher(
    network: str, settings: TrainingSettings, data: str, work: Path, threads: int
) -> None:
    import torch

    from seclcompress.workflows.training import train

    torch.set_num_threads(threads)
    with (work / "teacher.log").open("a") as file:
        make(
            work / "teacher",
            train,
            Log(file),
            network=network,
            data=data,
            settings=settings,
            input_size=SIZE,
        )


def perform(run: Run, settings: TrainingSettings, data: str, work: Path, threads: int) -> None:
    import torch

    from seclcompress.workflows import converting, training

    torch.set_num_threads(threads)
    teacher, folder = work / "teacher", work / run.name
    if folder.exists():
        return
    with (work / f"{run.name}.log").open("a") as file:
        log, student = Log(file), run.student or work / f"{run.name}.student"
        if run.plan is not None and not Path(student).exists():
            converting.convert(teacher, student, options=run.plan, start=run.start, observer=log)
        make(
            folder,
            training.distill,
            log,
            student=student,
            teacher=teacher,
            data=data,
            settings=settings,
            untrained_teacher=True,  # this script has trained it; tests do so for a moment only
        )


def report(work: Path, runs: Sequence[Run], picture: Path | None) -> None:
    print(describe_machine())
    print("| question | run | parameters | accuracy % | best % | train loss | test loss |")
    print("|---|---|---|---|---|---|---|")
    curves = {}
    for run in runs:
        folder = work / run.name
        if not folder.exists():
            print(f"| {run.question} | {run.name} | not run | | | | |")
            continue
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        history = [json.loads(line) for line in lines]
        curves[run.name] = (run.question, history)
        last = history[-1]
        best = max(record["accuracy"] for record in history)
        print(
            f"| {run.question} | {run.name} | {parameters(folder):,} | {last['accuracy']:.2f} | "
            f"{best:.2f} | {last['train_loss']:.3f} | {last['test_loss']:.3f} |"
        )
    if picture is not None and curves:
        draw(curves, picture)


def parameters(folder: Path) -> int:
    from seclcompress import artefact

    network = artefact.load(folder)
    return sum(parameter.numel() for parameter in network.parameters())


def draw(curves: dict[str, tuple[str, list[dict[str, float]]]], picture: Path) -> None:
    from matplotlib.figure import Figure

    questions = list(dict.fromkeys(q for q, _ in curves.values() if q != "reference"))
    figure = Figure(figsize=(11, 6.5), dpi=110, layout="constrained")
    panels = list(figure.subplots(2, -(-len(questions) // 2), sharex=True, sharey=True).flat)
    reference = curves.get("reference")
    for axes, question in zip(panels, questions, strict=False):
        if reference is not None:
            axes.plot(*points(reference[1]), color="0.3", linewidth=2, label="reference")
        for name, (asked, history) in curves.items():
            if asked == question:
                axes.plot(*points(history), marker="o", ms=3, label=name)
        axes.set(title=question)
        axes.legend(frameon=False, fontsize=8, loc="best")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(questions) :]:
        axes.set_axis_off()
    figure.supxlabel("epoch")
    figure.supylabel("accuracy on the test images (%)")
    figure.savefig(picture)


def points(history: list[dict[str, float]]) -> tuple[list[float], list[float]]:
    return [record["epoch"] for record in history], [record["accuracy"] for record in history]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    runs = [run for run in RUNS if not arguments.only or run.name in arguments.only]
    if not arguments.report:
        if arguments.data is None:
            parser.error("--data is needed, but for --report")
        arguments.work.mkdir(parents=True, exist_ok=True)
        cores = os.cpu_count() or 1
        threads = max(1, cores // arguments.jobs)
        # Processes that are started from here read these when they import torch.
        os.environ |= {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        where = (arguments.data, arguments.work)
        with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
            teacher = TrainingSettings(**TEACHER)
            pool.submit(train_teacher, NETWORK, teacher, *where, cores).result()
            every = [pool.submit(perform, run, settings(run), *where, threads) for run in runs]
            for done in every:
                done.result()
    report(arguments.work, runs, arguments.picture)


if __name__ == "__main__":
    main()
