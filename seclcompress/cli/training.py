"""What `train` and `distill` share: options, the folder of work in progress, and the end of a run."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seclcompress import interrupt
from seclcompress.cli.console import err_console
from seclcompress.cli.settings import DISTILLATION
from seclcompress.errors import ArtefactError, SeclcompressError, TrainingError, UsageError

if TYPE_CHECKING:
    from torch import nn

    from seclcompress.artefact import ArtefactConfig
    from seclcompress.data import Data
    from seclcompress.preprocessing import Preprocessing
    from seclcompress.processes import Processes
    from seclcompress.settings.training import TrainingSettings
    from seclcompress.train import Trainer


class Execution(str, Enum):
    """`--execution`."""

    auto = "auto"
    dense = "dense"
    fast = "fast"


class InterruptedRunError(SeclcompressError):
    """Ctrl-C in a run that can be resumed."""

    exit_code = interrupt.EXIT_CODE


DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="NAME",
        help="digits, cifar10, cifar100, mnist, fashionmnist, imagefolder:PATH or imagenet:PATH.",
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where torchvision's data sets lie.  [default: ~/.cache/seclcompress/data]",
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help="Settings by name (secl-cifar, secl-imagenet, quick) or from a TOML file; options on the "
        "command line win.",
    ),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on with the interrupted run into this output folder.")
]
TimeLimitOption = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        metavar="SECONDS",
        min=0,
        help="Save and stop after so long, with exit code 130; --resume goes on.",
    ),
]
OutputDirOption = Annotated[Path, typer.Option("--output-dir", "-o", help="The folder to write.")]


def partial_folder(output_dir: Path) -> Path:
    """Where a run keeps its checkpoint until the output folder can be written whole."""
    whole = output_dir.absolute() if output_dir.name in ("", "..") else output_dir
    return whole.with_name(whole.name + ".partial")


def check_output(output_dir: Path, *, resume: bool, overwrite: bool) -> None:
    """Makes sure, before the work, that its result may be written and no earlier run is lost.

    Raises:
        ArtefactError: If something is in the way.
    """
    from seclcompress.files import check_free

    check_free(output_dir, overwrite)
    partial = partial_folder(output_dir)
    if not resume and partial.exists():
        if not overwrite:
            raise ArtefactError(
                f"An interrupted run into {output_dir} is in {partial}. Go on with it by --resume, "
                "or give it up with --overwrite."
            )
        check_free(partial, overwrite)


def check_device(device: str) -> None:
    """Makes sure that torch has this device.

    Raises:
        UsageError: If it has not.
    """
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"--device {device}: {reason}") from error


def say(words: str) -> None:
    """Prints to stderr, once for all processes."""
    from seclcompress.processes import rank

    if rank() == 0:
        err_console.print(words)


def open_data(
    name: str,
    input_size: tuple[int, ...],
    preprocessing: Preprocessing | None,
    settings: TrainingSettings,
    *,
    data_dir: Path | None,
    download: bool,
) -> Data:
    """The data; a line says so while they are opened and, when first asked for, decoded."""
    from seclcompress.data import DEFAULT_ROOT, load_data
    from seclcompress.data.folders import Reading

    status = err_console.status("")

    def progress(done: int, total: int) -> None:
        status.update(f"Decoding {name}: {done:,} of {total:,} images")
        if done < total:
            status.start()
        else:
            status.stop()

    with err_console.status(f"Opening {name} …"):
        return load_data(
            name,
            input_size,
            preprocessing=preprocessing,
            root=data_dir or DEFAULT_ROOT,
            download=download,
            train_images=settings.train_images,
            reading=Reading(settings.cache_images, settings.bad_images == "skip", progress),
        )


def original_parameters(network: nn.Module, config: ArtefactConfig | None) -> int:
    """Parameters of the network that a converted one was made from; its own for any other."""
    mine = sum(parameter.numel() for parameter in network.parameters())
    layers = config.plan.layers if config and config.plan else []
    return mine + sum(layer.original.parameters - layer.cost.parameters for layer in layers)


def left_out(teacher: object) -> set[str]:
    """The settings that a run without a teacher has no use for."""
    return set(DISTILLATION) if teacher is None else set()


def show(settings: TrainingSettings, data: Data, processes: Processes, leave_out: set[str]) -> None:
    """Prints the settings of a run before it begins."""
    from seclcompress.training_report import settings_table

    if not processes.first:
        return
    together = settings.batch_size * settings.accumulate * processes.size
    err_console.print(settings_table(settings, err_console.width, leave_out))
    err_console.print(
        f"{settings.batch_size} images a batch × {settings.accumulate} accumulated × "
        f"{processes.size} processes = {together} images a step; {len(data.train):,} training "
        f"images, {len(data.test):,} test images."
    )


def run(
    network: nn.Module,
    data: Data,
    settings: TrainingSettings,
    output_dir: Path,
    config: ArtefactConfig,
    *,
    processes: Processes,
    teacher: nn.Module | None,
    original: int,
    new_layers: bool,
    recipe: str | None,
    resume: bool,
    overwrite: bool,
    time_limit: float | None,
) -> dict[str, Any]:
    """Trains, shows how it goes, and writes the output folder whole.

    Args:
        network: What to train.
        data: On what.
        settings: How.
        output_dir: The folder to write.
        config: Of that folder; what the run reached is added.
        processes: Which of how many this is; the first one writes.
        teacher: Whom to learn from.
        original: Parameters of the network that this one was made from.
        new_layers: Whether the network has untrained ones, made by `convert`.
        recipe: The recipe that the settings came from, for the record.
        resume: Whether to go on with an interrupted run.
        overwrite: Whether an earlier folder of ours may be replaced.
        time_limit: Seconds after which to save and stop.

    Returns:
        The last epoch's record.

    Raises:
        InterruptedRunError: On Ctrl-C or at the time limit, with words on how to go on.
        SeclcompressError: Whatever goes wrong; what was finished is kept.
    """
    import torch

    from seclcompress import artefact
    from seclcompress.checkpoint import has_checkpoint
    from seclcompress.cli.progress import EVENTS, observe
    from seclcompress.files import check_free, remove_ours
    from seclcompress.networks.weights import check_finite
    from seclcompress.train import BEST, METRICS, Stopped, Trainer
    from seclcompress.training_report import curves_png, training_table

    partial = partial_folder(output_dir)
    settings = settings.resolved(crop=data.crop, flip=data.flip)
    show(settings, data, processes, left_out(teacher))
    with observe(err_console, processes, partial if settings.tensorboard else None) as observer:
        trainer = Trainer(
            network,
            data,
            settings,
            partial,
            teacher=teacher,
            original_parameters=original,
            new_layers=new_layers,
            observer=observer,
            processes=processes,
        )
        if not resume and processes.first and partial.exists():
            check_free(partial, overwrite)
            remove_ours(partial)  # only now: all else about this run is known to be well
        if trainer.factor_decay is not None:
            say(f"Weight decay of the structured factors: {trainer.factor_decay:.3g}.")
        processes.wait()
        if resume and not has_checkpoint(partial):
            say("There is no checkpoint to go on from: starting from the beginning.")
        elif resume:
            trainer.resume()
            say(f"Going on after epoch {len(trainer.history)}, step {trainer.progress.step}.")
        try:
            with _stopping_softly(trainer, time_limit):
                history = trainer.run()
        except Stopped:
            raise InterruptedRunError(
                f"Stopped. {len(trainer.history)} of {settings.epochs} epochs and "
                f"{trainer.progress.step} steps are saved in {partial}; the same command with "
                "--resume goes on."
            ) from None
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"Out of memory on {processes.device} with {settings.batch_size} images a batch: try a "
                f"smaller --batch-size with a larger --accumulate, or --amp bf16. ({error})"
            ) from error
    before = trainer.progress.before
    last = history[-1]
    if not processes.first:
        return last
    best = max(history, key=lambda record: float(record["accuracy"]))
    seconds = sum(record["seconds"] for record in history)
    finished = config.model_copy(
        update={
            "metrics": {
                **config.metrics,
                **{
                    f"{name.replace('student before', 'before')}_accuracy": value
                    for name, value in before.items()
                },
                "accuracy": last["accuracy"],
                "test_loss": last["test_loss"],
                "best_accuracy": best["accuracy"],
                "best_epoch": best["epoch"],
                "training_seconds": round(seconds, 3),
            },
            "training": {
                "data": data.name,
                "recipe": recipe,
                "processes": processes.size,
                **json.loads(settings.model_dump_json(exclude=left_out(teacher))),
                "factor_decay_applied": trainer.factor_decay,
            },
            "classes": data.classes,
            "preprocessing": data.preprocessing,
        }
    )
    check_finite(network.state_dict(), "The trained network")
    files = {name: (partial / name).read_bytes() for name in (BEST, METRICS)}
    files["curves.png"] = curves_png(history, before)
    files.update({file.name: file.read_bytes() for file in sorted(partial.glob(f"{EVENTS}*"))})
    artefact.save(output_dir, network.cpu(), finished, extra=files, overwrite=overwrite)
    left = remove_ours(partial)
    if left:
        say(f"Left in {partial}, as seclcompress did not write it: {', '.join(left)}.")
    err_console.print(training_table(history, before))
    return last


@contextlib.contextmanager
def _stopping_softly(trainer: Trainer, time_limit: float | None) -> Iterator[None]:
    """Ctrl-C, SIGTERM and the time limit let the step end and the state be saved.

    A second Ctrl-C does not wait.
    """
    if interrupt.has_arrived():  # and was swallowed on the way here: a run takes hours
        raise KeyboardInterrupt
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: Any) -> None:
        del frame
        trainer.stop()
        if number == signal.SIGINT:
            say("Stopping after this step; Ctrl-C again does not wait.")
            signal.signal(signal.SIGINT, before)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if time_limit is not None and hasattr(signal, "SIGALRM"):
        numbers.append(signal.SIGALRM)
    try:
        earlier = {number: signal.signal(number, stop) for number in numbers}
    except ValueError:  # not the main thread, where Python takes no signals
        yield
        return
    if time_limit is not None and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, max(time_limit, 1e-3))
    try:
        yield
    finally:
        if time_limit is not None and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in earlier.items():
            signal.signal(number, handler)
