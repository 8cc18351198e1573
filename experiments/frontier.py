"""Accuracy against parameters: every family, and narrower separable networks, at equal budgets.

    python experiments/frontier.py --data imagefolder:PATH --work FOLDER [--jobs 2] [--minutes 60]
    python experiments/frontier.py --report FOLDER/results.jsonl [--picture frontier.png]

A teacher is trained; every family's network of each size is distilled from it with the same losses,
images and steps; then the best families of each size again with other seeds. Each finished run is a
line of results.jsonl and is not repeated; an interrupted one is resumed. With `--minutes` training ends
in time, with exit code 3 if anything is left to do; a student that is being made is finished first. A
report may read several such files.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from by_size import TOLERANCE, Candidate, families, nearest
from frontier_report import report
from narrowed import FULL, RECOVERED, WAYS, WHILE_TRAINED, figures, make_student
from pieces import Log, make, read_lines

from seclcompress.data import Data
from seclcompress.errors import SeclcompressError
from seclcompress.settings import TrainingSettings
from seclcompress.settings.budget import Budget
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.timing import describe_machine

UNFINISHED = 3
INPUT_SIZE = (3, 32, 32)
RESULTS = "results.jsonl"
_decoded: dict[str, Data] = {}


@dataclass(frozen=True)
class Run:
    """One point of the picture."""

    candidate: Candidate
    size: int
    seed: int

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        family = self.candidate.family.replace("/", "-")
        return f"{family}-{self.size}-seed-{self.seed}"

    def result(self, **found: Any) -> dict[str, Any]:
        """A line of results.jsonl."""
        candidate = self.candidate
        return {
            "family": candidate.family,
            "size": self.size,
            "seed": self.seed,
            "parameters": candidate.parameters,
            "mult_adds": candidate.mult_adds,
            "options": candidate.words,
            **found,
        }


def train_teacher(network: str, settings: TrainingSettings, data: str, work: Path) -> None:
    """Trains the teacher, unless its folder is there."""
    from seclcompress.workflows.training import train

    decode_once(data)
    with (work / "teacher.log").open("a") as file:
        make(
            work / "teacher",
            train,
            Log(file),
            network=network,
            data=data,
            settings=settings,
            input_size=INPUT_SIZE,
        )


def perform(
    run: Run, settings: TrainingSettings, data: str, work: Path, until: float
) -> dict[str, Any] | None:
    """Converts and distils one student; returns its line, or None where time is over."""
    from seclcompress.workflows import converting, slim, training

    left = until - time.time()
    if left < 10:
        return None
    decode_once(data)
    teacher, folder, student = work / "teacher", work / run.name, work / f"{run.name}.student"
    began = time.monotonic()
    with (work / f"{run.name}.log").open("a") as file:
        log = Log(file)
        candidate = run.candidate
        recovers = candidate.family.startswith(RECOVERED)
        found: dict[str, Any] = {}
        if candidate.family in WAYS:
            try:
                if not student.exists():
                    make_student(candidate.family, teacher, student, run.size, data, run.seed, log)
            except SeclcompressError as error:
                return run.result(failed=str(error))
            found = figures(student, "auto" if "+" in candidate.family else "original")
        elif candidate.family not in (FULL, *WHILE_TRAINED) and not student.exists():
            source = candidate.network if candidate.family == "narrower" else teacher
            # The fit of a stack to weights takes minutes, and a recovery is as good without it.
            fits = recovers and "acdc" not in candidate.family
            new: dict[str, Any] = {"start": "original"} if fits else {}
            if source != teacher:
                new = {"num_classes": 10, "input_size": INPUT_SIZE}
            converting.convert(
                source, student, options=candidate.options, seed=run.seed, observer=log, **new
            )
        taught: dict[str, Any] = {
            "teacher": teacher,
            "data": data,
            "settings": settings.model_copy(update={"seed": run.seed}),
            "untrained_teacher": True,  # this script has trained it; tests do so for a moment only
            "time_limit": until - time.time(),
        }
        try:
            if candidate.family in WHILE_TRAINED:
                make(
                    folder,
                    slim,
                    log,
                    network=teacher,
                    budget=Budget(parameters=run.size),
                    options=WHILE_TRAINED[candidate.family],
                    **taught,
                )
                found = figures(folder, "original")
            else:
                make(
                    folder,
                    training.distill,
                    log,
                    student=candidate.network if candidate.family == FULL else student,
                    recovery=RecoverySettings()
                    if recovers and candidate.family not in WAYS
                    else None,
                    input_size=INPUT_SIZE if candidate.family == FULL else None,
                    **taught,
                )
        except training.InterruptedRunError as stopped:
            log.message(str(stopped))
            return None
        except SeclcompressError as error:  # such as a loss that is no longer finite
            return run.result(failed=str(error))
    history = read_lines(folder / "metrics.jsonl")
    last = history[-1]
    if recovers:
        config = json.loads((folder / "config.json").read_text())
        found["start"] = config["metrics"]["before_accuracy"]
    if "lr" in settings.model_fields_set:
        found["lr"] = settings.lr
    return run.result(
        **found,
        accuracy=last["accuracy"],
        best=max(record["accuracy"] for record in history),
        train_loss=last["train_loss"],
        test_loss=last["test_loss"],
        seconds=round(time.monotonic() - began, 1),
    )


def decode_once(name: str) -> None:
    """Decodes a folder's images, which all runs of this process and of its forks then share."""
    from seclcompress.data import opening

    if name in _decoded or not name.startswith("imagefolder:"):
        return
    data = opening.load_data(name, INPUT_SIZE)
    kept = {
        "open_train": functools.cache(data.open_train),
        "open_test": functools.cache(data.open_test),
    }
    _decoded[name] = replace(data, **kept)
    opening._folders = lambda *_: _decoded[name]
    for images in kept.values():
        images()


def planned(network: str, sizes: list[int], only: list[str] | None) -> tuple[list[Run], list[str]]:
    """The first runs, size by size, and sentences on families that cannot meet a size."""
    runs, left_out = [], []
    for size in sizes:
        for family in only or families():
            candidate = nearest(family, network, size)
            if abs(candidate.parameters - size) <= TOLERANCE * size:
                runs.append(Run(candidate, size, 0))
            else:
                words = f"{family} cannot have {size:,}: the nearest has {candidate.parameters:,}"
                left_out.append(f"{words} ({candidate.words})" if candidate.words else words)
    return runs, left_out


def again(runs: list[Run], results: list[dict[str, Any]], seeds: int, best: int) -> list[Run]:
    """The same runs with other seeds, of the families that were best at each size."""
    found = {(one["family"], one["size"]): one for one in results if one["seed"] == 0}
    more = []
    for size in dict.fromkeys(run.size for run in runs):
        here = [run for run in runs if run.size == size]
        ranked = sorted(
            here, key=lambda run: -found[run.candidate.family, size].get("accuracy", -1.0)
        )
        # The narrower network is the comparison, so it always counts among the best.
        narrower = [run for run in ranked[best:] if run.candidate.family == "narrower"]
        for run in (*ranked[:best], *narrower):
            more += [Run(run.candidate, size, seed) for seed in range(1, seeds)]
    return more


def carry_out(
    runs: list[Run],
    settings: TrainingSettings,
    chosen: argparse.Namespace,
    until: float,
    pool: ProcessPoolExecutor,
) -> bool:
    """Performs the runs that have no line yet; returns whether all have one."""
    path = chosen.work / RESULTS
    done = {(one["family"], one["size"], one["seed"]) for one in read_lines(path)}
    left = [run for run in runs if (run.candidate.family, run.size, run.seed) not in done]
    futures = [pool.submit(perform, run, settings, chosen.data, chosen.work, until) for run in left]
    finished = 0
    for future in as_completed(futures):
        line = future.result()
        if line is not None:
            finished += 1
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{finished}/{len(left)}", json.dumps(line), flush=True)
    return finished == len(left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--network", default="wrn10_2")
    parser.add_argument("--sizes", type=int, nargs="+", default=[15000, 27000, 49000])
    parser.add_argument("--families", nargs="+")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--best", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--teacher-epochs", type=int, default=9)
    parser.add_argument("--train-images", type=int, default=12000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, help="The students'; by default that of distill.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", default="off")
    parser.add_argument("--report", type=Path, nargs="+", metavar="RESULTS")
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    if chosen.report:
        report([one for path in chosen.report for one in read_lines(path)], [], chosen.picture)
        return
    if chosen.data is None or chosen.work is None:
        parser.error("--data and --work are needed, but for --report")
    until = time.time() + 60 * chosen.minutes
    chosen.work.mkdir(parents=True, exist_ok=True)
    shared = {name: getattr(chosen, name) for name in ("batch_size", "device", "amp")}
    shared["cache_images"] = "always"
    mine = TrainingSettings(**shared, epochs=chosen.teacher_epochs)
    rate = {} if chosen.lr is None else {"lr": chosen.lr}
    budget = TrainingSettings(
        **shared, **rate, epochs=chosen.epochs, train_images=chosen.train_images
    )
    threads = max(1, (os.cpu_count() or 1) // chosen.jobs)
    # Forks share the decoded images. OpenMP threads do not survive a fork, so none are started here.
    torch.set_num_threads(1)
    decode_once(chosen.data)
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(
        chosen.jobs, fork, initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        teacher = pool.submit(train_teacher, chosen.network, mine, chosen.data, chosen.work)
        runs, left_out = planned(chosen.network, chosen.sizes, chosen.families)
        teacher.result()
        complete = carry_out(runs, budget, chosen, until, pool)
        if complete:
            more = again(runs, read_lines(chosen.work / RESULTS), chosen.seeds, chosen.best)
            complete = carry_out(more, budget, chosen, until, pool)
    print(describe_machine())
    print(f"Settings: {changed_settings(budget)}")
    report(read_lines(chosen.work / RESULTS), left_out, chosen.picture)
    sys.exit(0 if complete else UNFINISHED)


def changed_settings(settings: TrainingSettings) -> str:
    """The settings that differ from the defaults."""
    changed = settings.model_dump(exclude_defaults=True)
    return ", ".join(f"{name}={value}" for name, value in changed.items())


if __name__ == "__main__":
    main()
