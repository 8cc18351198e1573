"""Is a plan for a budget better than the same choice for all layers, after the same training?

    python experiments/plans.py --data imagefolder:PATH --work FOLDER [--networks wrn10_2 wrn10_1]
    python experiments/plans.py --data imagefolder:PATH --work FOLDER --epochs 0 --uniform acdc:depth=4
    python experiments/plans.py --report FOLDER/plans.jsonl

Each network's teacher is trained. Every layer is rewritten by one family and its options, and then as
the program of `plan` chooses for as many parameters, by each measure of what layers lose. Every student
takes over its teacher's layers and is distilled with the same images and steps, or only the first with
`--epochs 0`. A finished one is a line of plans.jsonl and is not repeated. With `--minutes` nothing is
begun after that time; exit code 3 says that something is left to do.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from pathlib import Path
from typing import Any

import torch
from pieces import Cells, Log, check_same, make

from seclcompress import artefact, substitutions, workflows
from seclcompress.plan import Plan
from seclcompress.settings import PlanOptions, TrainingSettings
from seclcompress.settings.budget import Budget
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.sensitivity import SensitivityOptions
from seclcompress.timing import describe_machine

UNFINISHED = 3
INPUT_SIZE = (3, 32, 32)
RESULTS = "plans.jsonl"
UNIFORM = "uniform"
#: What all runs of a work folder have in common.
OF_THE_FOLDER = ("data", "epochs", "teacher_epochs", "train_images", "pictures")
#: Kept by all students: they are small.
KEEP = ("*.shortcut",)
#: It recovers as well from random values (docs/recovery.md); other families start from the nearest.
STACK = "acdc"
#: How plans know what a layer loses.
MEASURES = ("energy", "output", "recovered", "fisher")


def cells(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """What names each line: uniform networks first, then the plans of as many parameters."""
    found = []
    for network in chosen.networks:
        for uniform in chosen.uniform:
            family = uniform.partition(":")[0]
            ways = [(UNIFORM, family, "")]
            sizes = len(list(substitutions.get(family).Config.ladder()))
            for measure in chosen.measures:
                if sizes > 1:  # else nothing is chosen
                    ways += [(measure, family, chosen.limits[0])]
                names = [f"{family}+{others}" for others in chosen.beside]
                ways += [(measure, name, limits) for name in names for limits in chosen.limits]
            for seed in range(chosen.seeds):
                for way, names, limits in ways:
                    line = {"network": network, "uniform": uniform, "plan": way, "families": names}
                    found.append({**line, "limits": limits, "seed": seed})
    return found


def alike(uniform: str) -> PlanOptions:
    """The options of a uniform network, as `acdc:depth=12`."""
    family, _, words = uniform.partition(":")
    options = dict(one.split("=") for one in words.split(",") if one)
    return PlanOptions(substitution=family, config=options, keep=KEEP)


def planned(cell: dict[str, Any], teacher: Path, data: str, log: Log) -> Plan:
    """The plan of a line's student."""
    uniform = workflows.convert(teacher, options=alike(cell["uniform"]))
    if cell["plan"] == UNIFORM:
        return uniform.plan
    on_images, column = cell["plan"] != "energy", uniform.count.columns["auto"]
    return workflows.plan(
        teacher,
        Budget(**{name: getattr(column, name) for name in cell["limits"].split("+")}),
        families=tuple(cell["families"].split("+")),
        options=PlanOptions(keep=KEEP),
        data=data if on_images else None,
        sensitivity=SensitivityOptions(sensitivity=cell["plan"]),
        observer=log,
    ).plan


def train(
    cell: dict[str, Any],
    folder: Path,
    student: Path,
    teacher: Path,
    chosen: argparse.Namespace,
    log: Log,
) -> None:
    """Recovers a student and distils it, into a folder."""
    recovery = RecoverySettings(pictures=chosen.pictures)
    images = {"train_images": chosen.train_images, "cache_images": "always", "seed": cell["seed"]}
    with_data = {"student": student, "teacher": teacher, "data": chosen.data}
    if not chosen.epochs:
        if not folder.exists():
            settings = TrainingSettings(**images)
            workflows.recover(
                **with_data, output_dir=folder, settings=recovery, training=settings, observer=log
            )
        return
    make(
        folder,
        workflows.distill,
        log,
        **with_data,
        settings=TrainingSettings(epochs=chosen.epochs, **images),
        recovery=recovery,
        untrained_teacher=True,  # this script has trained it; tests do so for a moment only
    )


def perform(cell: dict[str, Any], teacher: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Plans, converts, recovers and distils a student, and gives its figures."""
    name = "-".join(str(value).replace(":", "-") for value in cell.values())
    student, folder = chosen.work / f"{name}.student", chosen.work / name
    began = time.monotonic()
    with (chosen.work / f"{name}.log").open("a") as file:
        log = Log(file)
        if not student.exists():
            plan = planned(cell, teacher, chosen.data, log)
            log.message(f"Planned in {time.monotonic() - began:.0f} s.")
            start = "random" if cell["families"] == STACK else "original"
            given = {"plan": plan, "start": start, "seed": cell["seed"]}
            workflows.convert(teacher, student, **given, observer=log)
        train(cell, folder, student, teacher, chosen, log)
    config = artefact.read_config(folder)
    metrics, plan = config.metrics, config.plan
    assert plan is not None
    column = workflows.count(folder).count.columns["auto"]
    return {
        "parameters": column.parameters,
        "mult_adds": column.mult_adds,
        "layers": [
            f"{layer.substitution} {layer.config.get('depth', layer.config.get('ratio', ''))}".strip()
            if layer.action == "rewrite"
            else "kept"
            for layer in plan.layers
            if layer.action == "rewrite" or not layer.on_demand
        ],
        "recovered": metrics["before_accuracy" if chosen.epochs else "accuracy"],
        "accuracy": metrics["accuracy"] if chosen.epochs else None,
        "teacher": metrics["teacher_accuracy"],
        "machine": f"{describe_machine()}, {torch.get_num_threads()} thread(s)",
    }


def report(file: Path) -> str:
    """The lines as a Markdown table for each network and budget, best first."""
    groups: dict[tuple[str, str], list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for cell, found in Cells(file).finished:
        groups.setdefault((cell["network"], cell["uniform"]), []).append((cell, found))
    lines = []
    for (network, uniform), found in groups.items():
        teacher = found[0][1]["teacher"]
        lines += [
            "",
            f"{network}, teacher {teacher:.2f} %; as many parameters as {uniform} everywhere:",
            "",
            "| chosen by | families | limited | seed | layers | parameters | Mult-Adds | recovered % | "
            "distilled % |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for cell, one in sorted(
            found, key=lambda pair: -(pair[1]["accuracy"] or pair[1]["recovered"])
        ):
            distilled = "" if one["accuracy"] is None else f"{one['accuracy']:.2f}"
            words = [*(cell[name] for name in ("plan", "families", "limits", "seed"))]
            words += [", ".join(one["layers"]), f"{one['parameters']:,}", f"{one['mult_adds']:,}"]
            words += [f"{one['recovered']:.2f}", distilled]
            lines.append(f"| {' | '.join(map(str, words))} |")
    return "\n".join(lines)


def main() -> None:
    """Reads the command line and goes on with what is left to do."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--networks", nargs="+", default=["wrn10_2", "wrn10_1", "wrn16_1"])
    parser.add_argument("--uniform", nargs="+", default=["acdc:depth=12", "acdc:depth=4"])
    parser.add_argument(
        "--beside",
        nargs="*",
        default=["separable"],
        help="families that further plans may choose among beside the uniform network's, with +",
    )
    parser.add_argument(
        "--limits",
        nargs="+",
        default=["parameters"],
        help="of what a plan may have no more than the uniform network: parameters, mult_adds, or "
        "both with +; the first for the family alone",
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--measures", nargs="*", choices=MEASURES, default=MEASURES)
    parser.add_argument("--epochs", type=int, default=4, help="of distillation; 0 for none")
    parser.add_argument("--teacher-epochs", type=int, default=6)
    parser.add_argument("--train-images", type=int, default=8000)
    parser.add_argument("--pictures", type=int, default=500, help="of the recoveries")
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--report", type=Path, metavar="RESULTS")
    chosen = parser.parse_args()
    if chosen.report:
        print(report(chosen.report))
        return
    if chosen.data is None or chosen.work is None:
        parser.error("--data and --work are needed, but for --report")
    chosen.work.mkdir(parents=True, exist_ok=True)
    until = time.time() + 60 * chosen.minutes
    check_same(chosen.work, {name: getattr(chosen, name) for name in OF_THE_FOLDER})
    done = Cells(chosen.work / RESULTS)
    for cell in cells(chosen):
        if done.get(cell) is not None:
            continue
        if time.time() > until:
            sys.exit(UNFINISHED)
        teacher = chosen.work / f"{cell['network']}.teacher"
        with (chosen.work / f"{cell['network']}.teacher.log").open("a") as file:
            make(
                teacher,
                workflows.train,
                Log(file),
                network=cell["network"],
                data=chosen.data,
                settings=TrainingSettings(epochs=chosen.teacher_epochs, cache_images="always"),
                input_size=INPUT_SIZE,
            )
        done.fill(cell, functools.partial(perform, cell, teacher, chosen))
        print(cell, done.get(cell), flush=True)
    print(report(chosen.work / RESULTS))


if __name__ == "__main__":
    main()
