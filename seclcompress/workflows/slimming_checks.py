"""What contradicts itself when a network is to lose channels while it is trained."""

from __future__ import annotations

from pathlib import Path

from seclcompress.errors import UsageError
from seclcompress.resolve import Located
from seclcompress.settings.budget import Budget
from seclcompress.settings.slimming import SlimOptions
from seclcompress.settings.training import TrainingSettings
from seclcompress.workflows.locating import Network, typed


def check_end(budget: Budget | None, options: SlimOptions) -> None:
    """Refuses a choice that does not say how much is lost, or says it twice.

    Args:
        budget: The budget.
        options: How channels are chosen.

    Raises:
        UsageError: If it is so.
    """
    if options.rewritten_as is not None and (options.trains or budget is None):
        instead = "--rounds and gates count the network" if options.trains else "without --budget"
        raise UsageError(
            f"--rewritten-as says what --budget counts when channels are lost at once; {instead}"
            f"{' as it is' if options.trains else ' it says nothing'}. Drop it."
        )
    if options.energy is not None:
        if not options.looks:
            raise UsageError(
                f"--energy is for --method svd, and the method is {options.method}. Choose that, or say "
                "with --budget what the network may have at most."
            )
        if budget is not None:
            raise UsageError(
                "--budget and --energy both say how much is lost. Drop one of the two."
            )
        return
    if budget is None and (options.price is None or not options.gated):
        otherwise = ", or with --price what an open channel costs" if options.gated else ""
        if options.looks:
            otherwise = ", or with --energy what share of their readers' energy channels keep"
        raise UsageError(
            "How small? Say with --budget what the network may have at most, as parameters=100k"
            f"{otherwise}."
        )


def check_choices(
    network: Network,
    budget: Budget | None,
    output_dir: str | Path | None,
    options: SlimOptions,
    data: str | None,
    settings: TrainingSettings,
) -> tuple[str, str, Path]:
    """Refuses what contradicts itself in a run in which channels are lost.

    Args:
        network: As in `workflows.slim`, like all that follow.
        budget: The budget.
        output_dir: The folder to write.
        options: How channels are chosen.
        data: The data set's name.
        settings: The training settings.

    Returns:
        The network's and the data's name, and the folder.

    Raises:
        UsageError: If something is missing, or does nothing beside something else.
    """
    if isinstance(network, Located):
        raise UsageError("A network that loses channels in training is named, not located.")
    check_end(budget, options)
    how = f"--method {options.method}" if options.gated else "--rounds"
    if data is None:
        raise UsageError(f"{how} trains the network: name the images with --data.")
    if output_dir is None:
        raise UsageError(
            f"{how} trains the network, so there is nothing to be shown by --dry-run: give a folder "
            "with --output-dir/-o, or choose by --method norm or svd without --rounds."
        )
    if options.gated and options.rounds is not None:
        raise UsageError(
            f"--rounds is for --method norm or svd: --method {options.method} loses channels whenever "
            "gates close. Drop one of the two."
        )
    if settings.patience is not None:
        raise UsageError(
            "--patience compares epochs, and here their networks have different sizes. Drop it."
        )
    if settings.compile:
        raise UsageError(
            "--compile is for a network that keeps its shape, and this one would be compiled anew each "
            "time that it loses channels. Drop it, or distill what comes out with it."
        )
    return typed(network), data, Path(output_dir)


def check_teacher_options(
    teacher: str | Path | None, weights: str | None, weights_key: str | None, *, untrained: bool
) -> None:
    """Refuses what is said of a teacher that is not named.

    Args:
        teacher: The teacher.
        weights: Its weights.
        weights_key: Where in their file they stand.
        untrained: Whether it may be no better than chance.

    Raises:
        UsageError: If there is no teacher and something is said of it.
    """
    for flag, value in (
        ("--teacher-weights", weights),
        ("--teacher-weights-key", weights_key),
        ("--untrained-teacher", untrained or None),
    ):
        if teacher is None and value is not None:
            raise UsageError(
                f"{flag} does nothing without --teacher: name the teacher, or drop it."
            )
