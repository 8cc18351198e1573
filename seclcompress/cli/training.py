"""What `train` and `distill` share: options, the folder of work in progress, and the end of a run."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seclcompress.cli.app import err_console
from seclcompress.errors import ArtefactError, SeclcompressError, UsageError

if TYPE_CHECKING:
    from torch import nn

    from seclcompress.artefact import ArtefactConfig
    from seclcompress.data import Data
    from seclcompress.train import Settings


class Optimizer(str, Enum):
    """`--optimizer`."""

    sgd = "sgd"
    adamw = "adamw"


class Schedule(str, Enum):
    """`--lr-scheduler`."""

    cosine = "cosine"
    step = "step"


class Execution(str, Enum):
    """`--execution`."""

    auto = "auto"
    dense = "dense"
    fast = "fast"


class InterruptedRunError(SeclcompressError):
    """Ctrl-C in a run that can be resumed."""

    exit_code = 130


DataOption = Annotated[
    str,
    typer.Option("--data", metavar="NAME", help="digits, cifar10, cifar100, or imagefolder:PATH."),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where CIFAR lies.  [default: ~/.cache/seclcompress/data]"),
]
EpochsOption = Annotated[int, typer.Option("--epochs", min=1)]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", min=1)]
LrOption = Annotated[float, typer.Option("--lr", help="The highest learning rate.")]
WeightDecayOption = Annotated[float, typer.Option("--weight-decay", min=0.0)]
FactorDecayOption = Annotated[
    str,
    typer.Option(
        "--factor-decay",
        metavar="ratio|NUMBER",
        help="Weight decay of structured factors; ratio: --weight-decay × compressed ÷ original "
        "parameters.",
    ),
]
OptimizerOption = Annotated[Optimizer, typer.Option("--optimizer")]
MomentumOption = Annotated[float, typer.Option("--momentum", help="Of SGD.")]
ScheduleOption = Annotated[
    Schedule, typer.Option("--lr-scheduler", help="step: × 0.2 at 30, 60 and 80 % of the epochs.")
]
AmpOption = Annotated[bool, typer.Option("--amp", help="Compute in bfloat16 where that is safe.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")]
WorkersOption = Annotated[
    int, typer.Option("--workers", "-j", min=0, help="Processes that load images.")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on with the interrupted run into this output folder.")
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
        UsageError: If there is nothing to resume.
    """
    from seclcompress.files import check_free

    check_free(output_dir, overwrite)
    partial = partial_folder(output_dir)
    if resume and not partial.is_dir():
        raise UsageError(f"--resume: there is no interrupted run into {output_dir} (no {partial}).")
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


def factor_decay(text: str, weight_decay: float, network: nn.Module, original: int) -> float:
    """Reads `--factor-decay`.

    Args:
        text: `ratio` or a number.
        weight_decay: The network's own.
        network: The network to train.
        original: Parameters of the network it was made from.

    Raises:
        UsageError: If it is neither.
    """
    from seclcompress.optim import factor_decay_by_ratio

    if text == "ratio":
        mine = sum(parameter.numel() for parameter in network.parameters())
        return factor_decay_by_ratio(weight_decay, mine, original)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"--factor-decay {text}: it takes 'ratio' or a number of at least 0.")
    return value


def original_parameters(network: nn.Module, config: ArtefactConfig | None) -> int:
    """Parameters of the network that a converted one was made from; its own for any other."""
    mine = sum(parameter.numel() for parameter in network.parameters())
    layers = config.plan.layers if config and config.plan else []
    return mine + sum(layer.original.parameters - layer.cost.parameters for layer in layers)


def settings(**values: Any) -> Settings:
    """Checks the settings of a run.

    Raises:
        UsageError: If one is out of range.
    """
    from pydantic import ValidationError

    from seclcompress.errors import describe_validation_error
    from seclcompress.train import Settings

    try:
        return Settings(**values)
    except ValidationError as error:
        raise UsageError(f"{describe_validation_error(error)}.") from error


def run(
    network: nn.Module,
    data: Data,
    chosen: Settings,
    output_dir: Path,
    config: ArtefactConfig,
    *,
    teacher: nn.Module | None,
    resume: bool,
    overwrite: bool,
) -> dict[str, Any]:
    """Trains, shows how it goes, and writes the output folder whole.

    Returns:
        The last epoch's record.

    Raises:
        InterruptedRunError: On Ctrl-C, with words on how to go on.
        SeclcompressError: Whatever goes wrong; what was finished is kept.
    """
    from seclcompress import artefact
    from seclcompress.cli.progress import TrainingProgress
    from seclcompress.files import check_free, remove_ours
    from seclcompress.networks.weights import check_finite
    from seclcompress.train import BEST, METRICS, Trainer

    partial = partial_folder(output_dir)
    trainer: Trainer | None = None
    try:
        with TrainingProgress(err_console) as progress:
            trainer = Trainer(network, data, chosen, partial, teacher=teacher, observer=progress)
            if not resume and partial.exists():
                check_free(partial, overwrite)
                remove_ours(partial)  # only now: all else about this run is known to be well
            if resume:
                trainer.resume()
                err_console.print(f"Going on after epoch {len(trainer.history)}.")
            history = trainer.run()
    except KeyboardInterrupt:
        finished = len(trainer.history) if trainer else 0
        if not finished:
            raise
        raise InterruptedRunError(
            f"Stopped. {finished} of {chosen.epochs} epochs are saved in {partial}; the same "
            "command with --resume goes on."
        ) from None
    last = history[-1]
    best = max(history, key=lambda record: float(record["accuracy"]))
    finished_config = config.model_copy(
        update={
            "metrics": {
                **config.metrics,
                "accuracy": last["accuracy"],
                "test_loss": last["test_loss"],
                "best_accuracy": best["accuracy"],
                "best_epoch": best["epoch"],
            },
            "training": {"data": data.name, **json.loads(chosen.model_dump_json())},
            "classes": data.classes,
        }
    )
    check_finite(network.state_dict(), "The trained network")
    files = {name: (partial / name).read_bytes() for name in (BEST, METRICS)}
    artefact.save(output_dir, network.cpu(), finished_config, extra=files, overwrite=overwrite)
    left = remove_ours(partial)
    if left:
        err_console.print(
            f"Left in {partial}, as seclcompress did not write it: {', '.join(left)}."
        )
    return last
