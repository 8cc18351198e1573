"""Carries out a training run: starts or resumes it, stops it when asked, and saves its result."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch

from seclcompress import artefact, extras, interrupt
from seclcompress.checkpoint import has_checkpoint
from seclcompress.data import Data
from seclcompress.errors import SeclcompressError, UnsuitableSettingsError
from seclcompress.files import remove_ours
from seclcompress.networks.weights import check_finite
from seclcompress.observer import Observer, Several
from seclcompress.processes import Processes
from seclcompress.report.training import curves_png
from seclcompress.settings.training import INCIDENTAL, TrainingSettings
from seclcompress.trackers import EVENTS, Run, Tracking
from seclcompress.train import BEST, METRICS, Stopped, Trainer
from seclcompress.train.record import VALIDATION, best_of, has_best, saved_of
from seclcompress.workflows.cards import card_of_run
from seclcompress.workflows.frozen import tell_frozen
from seclcompress.workflows.jobs import Job, narrowed
from seclcompress.workflows.opening import tell_left_out
from seclcompress.workflows.output import Output

#: A function that receives the function that asks a run to stop; it returns a context manager, which is
#: open while the run lasts.
Stopping: TypeAlias = Callable[[Callable[[], None]], contextlib.AbstractContextManager[object]]


class InterruptedRunError(SeclcompressError):
    """A run stopped as asked or at its time limit; it can be resumed."""

    exit_code = interrupt.EXIT_CODE


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run.

    Attributes:
        history: One record per epoch, as in metrics.jsonl.
        before: Accuracies in percent from before the first step, by name; empty without a teacher.
        metrics: The metrics in the folder's config.json, such as `accuracy` in percent.
        folder: The folder of the trained network.
        left_out: The images that could not be read and were left out, each with its path and the reason.
        settings: All settings that the run used, by name; as in the folder's config.json.
    """

    history: list[dict[str, Any]]
    before: dict[str, float]
    metrics: dict[str, float]
    folder: Path
    left_out: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def carry_out(
    job: Job,
    output: Output,
    processes: Processes,
    *,
    time_limit: float | None,
    stopping: Stopping,
    tracked_in: Path | None,
    observer: Observer,
) -> TrainingResult:
    """Trains a network and writes the output folder.

    Args:
        job: The inputs of the run.
        output: The destination of the result.
        processes: This process and the number of processes; process 0 writes.
        time_limit: Seconds after which to save and stop; None for no limit.
        stopping: Receives the function that asks the run to stop; see `Stopping`.
        tracked_in: The folder for files that trackers share between runs; None for the one around the
            output.
        observer: Receives reports of what happens.

    Returns:
        The result, the same in all processes.

    Raises:
        InterruptedRunError: If the run was stopped; the message says how to resume it.
        SeclcompressError: If anything else goes wrong; checkpoints are kept.
    """
    data, settings = job.data, job.settings.resolved(crop=job.data.crop, flip=job.data.flip)
    observer.run_begins(settings, job.unused)
    tell_frozen(job.network, observer)
    observer.message(_batches(data, settings, processes))
    with _tracking(job, output, settings, tracked_in, processes, observer) as tracking:
        trainer = Trainer(
            job.network,
            data,
            settings,
            output.partial,
            teacher=job.teacher,
            view=job.view,
            untrained_teacher=job.untrained_teacher,
            original_parameters=job.original_parameters,
            outputs=job.outputs,
            teacher_outputs=job.teacher_outputs,
            new_layers=job.new_layers,
            shrinking=job.shrinking,
            observer=Several(observer, tracking),
            processes=processes,
        )
        if processes.first:
            output.give_up_earlier()  # last, when nothing else can refuse this run
            if job.start is not None:
                job.start.keep(output.partial)
        if trainer.factor_decay is not None:
            observer.message(f"Weight decay of the structured factors: {trainer.factor_decay:.3g}.")
        processes.wait()
        if output.resume:
            observer.message(_go_on(trainer, output))
        _run(trainer, output, time_limit, stopping)
        if job.shrinking is not None:
            job = narrowed(job, job.shrinking.finish())
        history, before = trainer.history, trainer.progress.before
        metrics = {**job.config.metrics, **_metrics(history, before, settings)}
        tracking.finish(metrics)
    chosen = json.loads(trainer.settings.model_dump_json(exclude=set(job.unused)))
    if processes.first:
        _save(job, trainer, output, chosen, metrics, observer.message)
        left = remove_ours(output.partial)
        if left:
            observer.message(
                f"Left in {output.partial}, as seclcompress did not write it: {', '.join(left)}."
            )
        if job.shrinking is None and "before" in before:
            words = worse(before["before"], metrics["accuracy"], len(data.test), settings.lr)
            if words is not None:
                observer.message(words)
        tell_left_out(data)
    left_out = tuple(data.unreadable.reasons)
    return TrainingResult(history, before, metrics, output.folder, left_out, chosen)


def _batches(data: Data, settings: TrainingSettings, processes: Processes) -> str:
    together = settings.batch_size * settings.accumulate * processes.size
    held = data.validation
    validation = "" if held is None else f", {len(held):,} validation images"
    sharing = "1 process" if processes.size == 1 else f"{processes.size} processes"
    return (
        f"{settings.batch_size} images a batch × {settings.accumulate} accumulated × "
        f"{sharing} = {together} images a step; {len(data.train):,} training "
        f"images, {len(data.test):,} test images{validation}."
    )


def worse(before: float, after: float, images: int, lr: float) -> str | None:
    """What to say of a run after which a network has fewer images right than before.

    Args:
        before: Accuracy before the run in percent.
        after: Accuracy after it in percent.
        images: The number of images that both were measured on.
        lr: The learning rate.

    Returns:
        Two sentences; None where the difference is less than twice its standard error, as if both were
        measured on different images.
    """
    shares = (before / 100, after / 100)
    error = 100 * math.sqrt(sum(share * (1 - share) for share in shares) / images)
    if before - after <= 2 * error:
        return None
    return (
        f"This run made the network worse: {before:.2f} % of the test images were right before it, and "
        f"{after:.2f} % are now. A lower --lr than {lr:g} may keep what it had."
    )


def _tracking(
    job: Job,
    output: Output,
    settings: TrainingSettings,
    beside: Path | None,
    processes: Processes,
    observer: Observer,
) -> Tracking:
    """What tells the trackers of a run, in process 0; it does nothing where none is asked for."""
    beside = output.partial.absolute().parent if beside is None else beside.absolute()
    here = output.folder.absolute()
    name = str(here.relative_to(beside)) if here.is_relative_to(beside) else here.name
    chosen = json.loads(settings.model_dump_json(exclude={*job.unused, *INCIDENTAL}))
    about = {
        "network": job.source.network.name,
        "data": job.data.name,
        "recipe": job.recipe,
        "parameters": sum(parameter.numel() for parameter in job.network.parameters()),
        **{name: job.config.training.get(name) for name in ("teacher_folder", "teacher_network")},
        **chosen,
    }
    run = Run(name, about, output.partial, beside)
    names = settings.trackers if processes.first else ()
    return Tracking(names, run, InterruptedRunError, observer.message)


def _go_on(trainer: Trainer, output: Output) -> str:
    if not has_checkpoint(output.partial):
        return "There is no checkpoint to go on from: starting from the beginning."
    trainer.resume()
    return f"Going on after epoch {len(trainer.history)}, step {trainer.progress.step}."


def _run(trainer: Trainer, output: Output, time_limit: float | None, stopping: Stopping) -> None:
    settings = trainer.settings
    try:
        with stopping(trainer.stop):
            trainer.run(time_limit)
    except Stopped:
        raise InterruptedRunError(
            f"{len(trainer.history)} of {settings.epochs} epochs and "
            f"{trainer.progress.step} steps are saved in {output.partial}; the same command with "
            "--resume goes on."
        ) from None
    except torch.OutOfMemoryError as error:
        raise out_of_memory(error, settings, trainer.processes.device) from error


def out_of_memory(
    error: torch.OutOfMemoryError, settings: TrainingSettings, device: str
) -> UnsuitableSettingsError:
    """The error to raise where a device has too little memory for a step.

    Args:
        error: torch's error.
        settings: The training settings.
        device: The device.
    """
    return UnsuitableSettingsError(
        f"Out of memory on {device} with {settings.batch_size} images a batch: try a smaller "
        f"--batch-size with a larger --accumulate, or --amp bf16. ({error})"
    )


def _metrics(
    history: list[dict[str, Any]], before: dict[str, float], settings: TrainingSettings
) -> dict[str, float]:
    saved = saved_of(history, settings.patience)
    best = best_of(history) if has_best(history) else None
    named = {f"{name}_accuracy": value for name, value in before.items()}
    return {
        **named,
        "accuracy": saved["accuracy"],
        "test_loss": saved["test_loss"],
        **{name: saved[name] for name in VALIDATION if name in saved},
        **(
            {} if best is None else {"best_accuracy": best["accuracy"], "best_epoch": best["epoch"]}
        ),
        **({} if settings.patience is None else {"epochs": len(history)}),
        "training_seconds": round(sum(record["seconds"] for record in history), 3),
    }


def _save(
    job: Job,
    trainer: Trainer,
    output: Output,
    settings: dict[str, Any],
    metrics: dict[str, float],
    tell: Callable[[str], object],
) -> None:
    """Writes the output folder: the network, its configuration, and the files of the run."""
    network, data, partial = job.network, job.data, output.partial
    config = job.config.model_copy(
        update={
            "metrics": metrics,
            "training": {
                "data": data.name,
                "recipe": job.recipe,
                "processes": trainer.processes.size,
                **job.config.training,
                **settings,
                "test_images": len(data.test),
                "factor_decay_applied": trainer.factor_decay,
            },
            "classes": data.classes,
            "preprocessing": data.preprocessing,
        }
    )
    check_finite(network.state_dict(), "The trained network")
    written = (BEST, METRICS) if has_best(trainer.history) else (METRICS,)
    files = {name: (partial / name).read_bytes() for name in written}
    if extras.missing("matplotlib"):  # it is no reason to lose a run
        tell(f"No curves.png, which matplotlib draws: {extras.command('pictures')}.")
    else:
        files["curves.png"] = curves_png(trainer.history, trainer.progress.before)
    files.update({file.name: file.read_bytes() for file in sorted(partial.glob(f"{EVENTS}*"))})
    files.update(card_of_run(job.source, config, tell))
    artefact.save(output.folder, network.cpu(), config, extra=files, overwrite=output.overwrite)
