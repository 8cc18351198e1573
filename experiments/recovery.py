"""How much of its teacher's accuracy a student has back after `recover`, by family and by setting.

    python experiments/recovery.py --teacher FOLDER --data imagefolder:PATH --work FOLDER
    python experiments/recovery.py --report FOLDER/families.jsonl FOLDER/settings.jsonl

Each finished line stands in families.jsonl, settings.jsonl or distilled.jsonl and is not repeated. A
student starts from the original's weights (`convert --start original`) unless its line says otherwise.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from pieces import Cells, Log

from seclcompress import artefact
from seclcompress.settings.planning import PlanOptions
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.training import TrainingSettings
from seclcompress.timing import describe_machine
from seclcompress.workflows.converting import convert
from seclcompress.workflows.recovering import recover
from seclcompress.workflows.training import distill

#: Families with their options; `start` is that of the conversion.
FAMILIES: tuple[dict[str, Any], ...] = (
    {"family": "separable"},
    {"family": "low_rank"},
    {"family": "monarch"},
    {"family": "acdc", "depth": 12},
    {"family": "acdc", "depth": 4},
    {"family": "acdc", "depth": 1},
    {"family": "separable", "start": "random"},
    {"family": "acdc", "depth": 12, "start": "random"},
)
#: Settings beside the defaults, each measured on the students below; other seeds draw other pictures.
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"seed": 1},
    {"seed": 2},
    {"batch_norm": "never"},
    {"batch_norm": "end"},
    {"kept": False},
    {"inputs": "student"},
    {"inputs": "teacher"},
    {"iterations": 50},
    {"iterations": 800},
    {"ridge": 0.001},
    {"ridge": 0.1},
    {"positions": 64},
    {"pictures": 100},
    {"pictures": 2000},
)
#: The students on which settings are compared.
COMPARED: tuple[dict[str, Any], ...] = (
    {"family": "acdc", "depth": 12, "start": "random"},
    {"family": "separable"},
)

_OF_THE_RUN = ("epochs", "from", "lr")
#: Students of the families above that are distilled, after a recovery or from random weights.
DISTILLED: tuple[dict[str, Any], ...] = tuple(
    {**family, "from": start, "epochs": epochs, **({} if lr is None else {"lr": lr})}
    for family in ({"family": "acdc", "depth": 12}, {"family": "separable"})
    for start, epochs, lr in (
        ("random", 4, None),
        ("recovered", 2, None),
        ("recovered", 2, 0.01),
        ("recovered", 2, 0.003),
        ("recovered", 2, 0.001),
        ("recovered", 4, 0.01),
    )
)


def measure(
    cell: dict[str, Any], settings: dict[str, Any], chosen: argparse.Namespace, log: Log
) -> dict[str, Any]:
    """Converts the teacher, recovers the student, and gives its figures."""
    options = {name: value for name, value in cell.items() if name not in ("family", "start")}
    name = "-".join(f"{k}={v}" for k, v in {**cell, **settings}.items())
    student, folder = chosen.work / f"{name}.student", chosen.work / name
    planned = PlanOptions(substitution=cell["family"], config=options)
    began = time.monotonic()
    start = cell.get("start", "original")
    convert(chosen.teacher, student, options=planned, start=start, overwrite=True, observer=log)
    converting = time.monotonic() - began
    found = recover(
        student,
        teacher=chosen.teacher,
        data=chosen.data,
        output_dir=folder,
        settings=RecoverySettings(**{k: v for k, v in settings.items() if k != "seed"}),
        training=TrainingSettings(seed=settings.get("seed", 0)),
        overwrite=True,
        observer=log,
    )
    network = artefact.load(folder)
    new = [layer for layer in found.layers if layer.rewritten]
    return {
        **found.metrics,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "converting_seconds": round(converting, 1),
        "error_before": sum(layer.before for layer in new) / len(new),
        "error_after": sum(layer.after for layer in new) / len(new),
        "machine": f"{describe_machine()}, {torch.get_num_threads()} thread(s)",
    }


def measure_distilled(cell: dict[str, Any], chosen: argparse.Namespace, log: Log) -> dict[str, Any]:
    """Distils a student after a recovery, or from random weights, and gives its figures."""
    family = {name: value for name, value in cell.items() if name not in _OF_THE_RUN}
    name = "-".join(f"{k}={v}" for k, v in family.items())
    student = chosen.work / name  # what `measure` has recovered
    if cell["from"] == "random":
        student = chosen.work / f"{name}.random"
        options = {key: value for key, value in family.items() if key != "family"}
        planned = PlanOptions(substitution=cell["family"], config=options)
        convert(chosen.teacher, student, options=planned, overwrite=True, observer=log)
    folder = chosen.work / f"{name}-{cell['from']}-{cell['epochs']}-{cell.get('lr', 'default')}"
    settings = TrainingSettings(
        epochs=cell["epochs"],
        train_images=8000,
        batch_size=128,
        cache_images="always",
        **({"lr": cell["lr"]} if "lr" in cell else {}),
    )
    found = distill(
        student,
        teacher=chosen.teacher,
        data=chosen.data,
        output_dir=folder,
        settings=settings,
        overwrite=True,
        observer=log,
    )
    seconds = sum(record["seconds"] for record in found.history)
    return {"accuracy": found.metrics["accuracy"], "seconds": seconds}


def report_distilled(file: Path) -> list[str]:
    """The lines of distilled students as a Markdown table."""
    lines = [
        "",
        "| student | from | epochs | lr | accuracy % | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for cell, found in Cells(file).finished:
        family = {k: v for k, v in cell.items() if k not in _OF_THE_RUN}
        words = ", ".join(v if k == "family" else f"{k}={v}" for k, v in family.items())
        lines.append(
            f"| {words} | {cell['from']} | {cell['epochs']} | {cell.get('lr', TrainingSettings().lr)} | "
            f"{found['accuracy']:.2f} | {found['seconds']:.0f} |"
        )
    return lines


def report(files: list[Path]) -> str:
    """The lines of such files as Markdown tables, and the machines that they were measured on."""
    lines, machines = [], set()
    for file in files:
        if "distilled" in file.name:
            lines += report_distilled(file)
            continue
        lines += [
            "",
            "| student | parameters | start % | recovered % | mean error of new layers | seconds |",
            "|---|---|---|---|---|---|",
        ]
        for cell, found in Cells(file).finished:
            words = ", ".join(v if k == "family" else f"{k}={v}" for k, v in cell.items())
            errors = f"{100 * found['error_before']:.0f} → {100 * found['error_after']:.0f} %"
            lines.append(
                f"| {words} | {found['parameters']:,} | {found['start_accuracy']:.2f} | "
                f"{found['accuracy']:.2f} | {errors} | {found['recovery_seconds']:.0f} |"
            )
            machines.add(f"{found['machine']}; teacher {found['teacher_accuracy']:.2f} %")
    return "\n".join([*lines, "", *sorted(machines)])


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--only", choices=["families", "settings", "distilled"])
    parser.add_argument("--family", help="the lines of this family alone")
    parser.add_argument("--report", type=Path, nargs="+")
    chosen = parser.parse_args()
    if chosen.report:
        print(report(chosen.report))
        return
    if not (chosen.teacher and chosen.data and chosen.work):
        parser.error("--teacher, --data and --work are needed, or --report")
    chosen.work.mkdir(parents=True, exist_ok=True)
    log, files = Log(), []
    parts: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
        "families": [(cell, {}) for cell in FAMILIES],
        "settings": [(cell, settings) for cell in COMPARED for settings in SETTINGS],
    }
    for part, cells in parts.items():
        if chosen.only not in (None, part):
            continue
        files.append(chosen.work / f"{part}.jsonl")
        done = Cells(files[-1])
        for cell, settings in cells:
            if chosen.family not in (None, cell["family"]):
                continue
            done.fill(
                {**cell, **settings},
                lambda cell=cell, settings=settings: measure(cell, settings, chosen, log),
            )
    if chosen.only in (None, "distilled"):
        files.append(chosen.work / "distilled.jsonl")
        done = Cells(files[-1])
        for cell in DISTILLED:
            if chosen.family in (None, cell["family"]):
                done.fill(cell, lambda cell=cell: measure_distilled(cell, chosen, log))
    print(report(files))


if __name__ == "__main__":
    main()
