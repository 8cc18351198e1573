"""Structured maps fitted to random and to trained matrices: docs/linear_approximation.md.

    python experiments/linear_approximation.py --work FOLDER --networks NAME FOLDER NAME=FILE
    python experiments/linear_approximation.py --work FOLDER --log      # the research log's table
    python experiments/linear_approximation.py --work FOLDER --report --picture FILE

Every registered family that is a linear map is fitted in several sizes, by Adam, by L-BFGS and by its
closed form. Each fit is kept in FOLDER/cells.jsonl and not repeated; one that would take too long is not
made, and another call may have more patience. The report reads what is there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from approximation_report import report
from candidates import Candidate, candidates
from fits import METHODS, TooLong, run
from goals import Goal, log_goal, network_goals, random_goal
from pieces import Cells, Log
from research_log import LINES, SIZE

Job = tuple[Candidate, Goal, str]


def cell(job: Job, steps: int) -> dict[str, Any]:
    """What names a fit in the file."""
    candidate, goal, method = job
    return {
        "size": goal.size,
        "kind": goal.kind,
        "goal": goal.name,
        "curve": candidate.curve,
        "family": candidate.family,
        "options": dict(candidate.options),
        "method": method,
        "steps": steps,
    }


def comparison(
    sizes: list[int], matrices: int, networks: list[str], layers: int, *, quick: bool = False
) -> list[Job]:
    """All maps, with all goals, by all methods; `quick` takes the first map of each curve."""
    jobs = []
    for size in sizes:
        goals = [random_goal(size, seed) for seed in range(matrices)]
        for network in networks:
            goals += network_goals(network, size, layers)
        there = candidates(size)
        if quick:
            there = list({one.curve: one for one in reversed(there)}.values())
        jobs += [
            (candidate, goal, method) for goal in goals for candidate in there for method in METHODS
        ]
    return jobs


def as_in_the_log(matrices: int) -> list[Job]:
    """The maps and goals of the research log, by L-BFGS; the log took conjugate gradients."""
    return [
        (
            Candidate(line.name, line.family, line.options, line.parameters),
            log_goal(SIZE, seed, bias=line.bias),
            "l-bfgs",
        )
        for line in LINES
        for seed in range(matrices)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 256])
    parser.add_argument("--matrices", type=int, default=3, help="random ones of each size")
    parser.add_argument(
        "--networks", nargs="*", default=["resnet18"], help="NAME, NAME=FILE, FOLDER"
    )
    parser.add_argument("--layers", type=int, default=1, help="of a network, of each size")
    parser.add_argument("--steps", type=int, default=300, help="gradients for a fit")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds for a fit")
    parser.add_argument("--log", action="store_true", help="the research log's table instead")
    parser.add_argument("--quick", action="store_true", help="small and short, to try it")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.sizes, chosen.matrices, chosen.steps = [8], 1, 20
    chosen.work.mkdir(parents=True, exist_ok=True)
    cells = Cells(chosen.work / "cells.jsonl")
    if not chosen.report:
        jobs = (
            as_in_the_log(chosen.matrices)
            if chosen.log
            else comparison(
                chosen.sizes, chosen.matrices, chosen.networks, chosen.layers, quick=chosen.quick
            )
        )
        torch.set_flush_denormal(True)  # products of many small factors would slow everything down
        fit_all(jobs, cells, chosen.steps, chosen.patience)
    report(cells, chosen.picture)


def fit_all(jobs: list[Job], cells: Cells, steps: int, patience: float) -> None:
    log = Log()
    for number, job in enumerate(jobs, 1):
        candidate, goal, method = job
        name = cell(job, steps)
        try:
            if not cells.fill(name, lambda: run(*job, steps=steps, patience=patience)):  # noqa: B023
                continue
        except TooLong as error:
            said = str(error)
        else:
            found = cells.get(name) or {}
            said = found.get("left_out") or f"{found['error']:.4f} in {found['seconds']:.1f} s"
        where = f"{goal.size} {goal.name}"
        log.message(f"{number}/{len(jobs)} {where}: {candidate.label}, {method}: {said}")


if __name__ == "__main__":
    main()
