"""What makes a SECL network train best at a fixed budget? Every run of docs/training.md.

    python benchmarks/study.py --data imagefolder:PATH --work FOLDER [--jobs 2] [--only NAME ...]
    python benchmarks/study.py --work FOLDER --report    # the table, and the curves as a picture

Each run is a `convert` and a `distill` of the command line, in a folder of its own; one that is there
is not run again, one that was interrupted is resumed. The teacher is trained first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from seclcompress.timing import describe_machine

NETWORK = "wrn10_2"
TEACHER = ("--epochs", "9", "--input-size", "32")
BUDGET = ("--epochs", "10", "--train-images", "12000", "--batch-size", "128", "--lr", "0.1")
AT = ("--alpha", "0", "--beta", "1000")
BOTH = ("--alpha", "0.9", "--beta", "1000")
#: The diagonals as the paper's recipe has them; each question changes one thing about it.
PAPER_FACTORS = ("--factor-decay", "ratio", "--factor-lr", "1", "--factor-optimizer", "same")
ADAMW = ("--factor-optimizer", "adamw", "--factor-lr", "0.1")
WINNER = (*BOTH, *ADAMW)
SEPARABLE = ("--substitution", "separable")


@dataclass(frozen=True)
class Run:
    """One line of the table.

    Attributes:
        question: What it is about.
        name: Of the run and its folder.
        convert: Options of `convert`; None for a network that is not converted.
        training: Options of the training, which win over the budget's.
        student: A network to train as it is; by default the teacher's kind, converted.
    """

    question: str
    name: str
    convert: tuple[str, ...] | None = ("--depth", "12", "--option", "init=signs")
    training: tuple[str, ...] = ()
    student: str = NETWORK


def with_depth(depth: int) -> tuple[str, ...]:
    return ("--depth", str(depth), "--option", "init=signs")


RUNS = (
    Run("reference", "reference"),
    Run("first values", "paper", ("--depth", "12", "--option", "init=paper")),
    Run("losses", "none", training=("--alpha", "0", "--beta", "0")),
    Run("losses", "kd", training=("--alpha", "0.9", "--beta", "0")),
    Run("losses", "at-kd", training=BOTH),
    Run("step of the diagonals", "lr-3", training=("--factor-lr", "3")),
    Run("step of the diagonals", "adamw", training=ADAMW),
    Run("decay of the diagonals", "fixed", training=("--factor-decay", "fixed")),
    Run("decay of the diagonals", "product", training=("--factor-decay", "product")),
    Run("depth", "depth-4", with_depth(4)),
    Run("depth", "depth-8", with_depth(8)),
    Run("start", "original", (*with_depth(12), "--start", "original")),
    Run("together", "at-kd-adamw", training=WINNER),
    Run("other networks", "separable", SEPARABLE),
    Run("other networks", "separable-at-kd", SEPARABLE, BOTH),
    Run("other networks", "narrower", None, student="wrn10_0.58"),
    Run("other networks", "narrower-at-kd", None, BOTH, student="wrn10_0.58"),
    Run("another seed", "at-kd-adamw-seed-1", training=(*WINNER, "--seed", "1")),
    Run("another seed", "separable-at-kd-seed-1", SEPARABLE, (*BOTH, "--seed", "1")),
)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "seclcompress", *arguments]


def call(arguments: Sequence[str], log: Path, threads: int) -> None:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    with log.open("a") as file:
        file.write(" ".join(arguments[1:]) + "\n")
        file.flush()
        subprocess.run(arguments, stderr=file, stdout=file, check=True, env=environment)


def train_teacher(data: str, work: Path, threads: int) -> Path:
    teacher = work / "teacher"
    if not teacher.exists():
        resume = ["--resume"] if (work / "teacher.partial").exists() else []
        arguments = ["train", NETWORK, "--data", data, *TEACHER, "-o", str(teacher), *resume]
        call(command(*arguments), work / "teacher.log", threads)
    return teacher


def perform(run: Run, data: str, work: Path, threads: int) -> None:
    folder, log = work / run.name, work / f"{run.name}.log"
    if folder.exists():
        return
    student = run.student
    if run.convert is not None:
        student = str(work / f"{run.name}.student")
        if not Path(student).exists():
            kept = ("--keep", "*.shortcut")
            arguments = ["convert", str(work / "teacher"), *kept, *run.convert, "-o", student]
            call(command(*arguments), log, threads)
    options = dict(zip(BUDGET[::2], BUDGET[1::2], strict=True))
    options |= dict(zip(PAPER_FACTORS[::2], PAPER_FACTORS[1::2], strict=True))
    options |= dict(zip(AT[::2], AT[1::2], strict=True))
    options |= dict(zip(run.training[::2], run.training[1::2], strict=True))
    arguments = ["distill", student, "--teacher", str(work / "teacher"), "--data", data]
    arguments += [word for pair in options.items() for word in pair]
    arguments += ["-o", str(folder)]
    arguments += ["--resume"] if (work / f"{run.name}.partial").exists() else []
    call(command(*arguments), log, threads)


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
        train_teacher(arguments.data, arguments.work, cores)
        threads = max(1, cores // arguments.jobs)
        with ThreadPoolExecutor(arguments.jobs) as pool:
            every = [
                pool.submit(perform, run, arguments.data, arguments.work, threads) for run in runs
            ]
            for done in every:
                done.result()
    report(arguments.work, runs, arguments.picture)


if __name__ == "__main__":
    main()
