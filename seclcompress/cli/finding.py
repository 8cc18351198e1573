"""`--find-lr` of `train` and `distill`: its options, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from seclcompress.cli.given import check_idle, check_needs, typed_again
from seclcompress.cli.streams import write_result
from seclcompress.errors import UsageError

if TYPE_CHECKING:
    from seclcompress.workflows.rate_finding import FoundLr

FindLrOption = Annotated[
    bool,
    typer.Option(
        "--find-lr",
        help="Train nothing: try rising learning rates on a copy for 100 steps, and suggest one. "
        "-o is not needed.",
    ),
]
PlotOption = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="FILE.png", help="Also draw the loss over the rates of --find-lr."
    ),
]


def checked_output(
    context: typer.Context, output_dir: Path | None, *, find_lr: bool
) -> Path | None:
    """Checks the options that only a run or only `--find-lr` has.

    Args:
        context: The call of the command.
        output_dir: `--output-dir`.
        find_lr: Whether `--find-lr` is given.

    Returns:
        The folder of a run; None for `--find-lr`, which has none.

    Raises:
        UsageError: If one is missing, or does nothing.
    """
    if find_lr:
        check_idle(context, "--find-lr", "there is no run to go on with", of=("resume",))
        return None
    check_needs(context, "--find-lr", of=("plot",))
    if output_dir is None:
        raise UsageError(
            "Missing option '--output-dir' / '-o': the folder to write. (With --find-lr none is needed.)"
        )
    return output_dir


def show_rates(
    found: FoundLr, command: Literal["train", "distill"], context: typer.Context, *, json: bool
) -> None:
    """Prints what a range test found.

    Args:
        found: The result.
        command: The command.
        context: Its call, for the command that goes on.
        json: Whether a record is printed instead.
    """
    from rich.console import Console

    from seclcompress.report.learning_rates import RateRecord, rates_table, rates_words

    readings, suggestion = found.readings, found.suggestion
    if json:
        record = RateRecord(
            command=command,
            network=found.label,
            lr=found.lr,
            rates=readings.rates,
            losses=readings.losses,
            smoothed=readings.smoothed,
            diverged=readings.diverged,
            suggested_lr=suggestion.lr,
            lowest_at=suggestion.lowest_at,
            rises_at=suggestion.rises_at,
            picture=None if found.picture is None else str(found.picture),
        )
        write_result(record.to_json())
        return
    console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
    console.print(rates_table(readings))
    for words in rates_words(readings, suggestion, found.lr):
        console.print(words)
    if found.picture is not None:
        console.print(f"Wrote {found.picture}.")
    if suggestion.lr is not None:
        # --overwrite was meant for the picture, if there is one.
        but = ["find_lr", "plot", "lr", "json", *(["overwrite"] if found.picture else [])]
        again = f"{typed_again(context, but=but)} --lr {suggestion.lr:g}"
        folder = "" if context.params.get("output_dir") else " -o FOLDER"
        console.print(f"The run with it: {again}{folder}")
