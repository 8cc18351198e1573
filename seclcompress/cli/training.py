"""What `train`, `distill` and `tune` share: options, and how a run is shown, stopped and reported."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seclcompress import interrupt
from seclcompress.cli.console import err_console
from seclcompress.cli.streams import write_result
from seclcompress.errors import UsageError

if TYPE_CHECKING:
    from seclcompress.cli.progress import TrainingProgress
    from seclcompress.workflows.training import TrainingResult


class Execution(str, Enum):
    """`--execution`."""

    auto = "auto"
    dense = "dense"
    fast = "fast"


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
        help="Settings by name (secl-cifar, secl-imagenet, cifar-100k, quick) or from a TOML file; "
        "options on the command line win.",
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with the interrupted run into this output folder, with the same settings.",
    ),
]
TimeLimitOption = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        metavar="SECONDS",
        min=0,
        help="Save and stop after this time, with exit code 130; it can go on as after Ctrl-C.",
    ),
]
TeacherWeightsOption = Annotated[
    str | None,
    typer.Option("--teacher-weights", metavar="FILE|NAME", help="Weights of a named teacher."),
]
TeacherWeightsKeyOption = Annotated[
    str | None,
    typer.Option(
        "--teacher-weights-key",
        metavar="KEY",
        help="Where in the file of --teacher-weights they stand, as model_ema.",
    ),
]
TeacherInputSizeOption = Annotated[
    str | None,
    typer.Option(
        "--teacher-input-size",
        metavar="SIZE",
        help="The size at which the teacher sees the images. Default: its own, if it is known.",
    ),
]
UntrainedTeacherOption = Annotated[
    bool,
    typer.Option(
        "--untrained-teacher",
        help="Go on with a teacher that is no better than chance; one that is named needs "
        "--teacher-weights all the same.",
    ),
]
OutputDirOption = Annotated[Path, typer.Option("--output-dir", "-o", help="The folder to write.")]
RunOutputDirOption = Annotated[
    Path | None,
    typer.Option("--output-dir", "-o", help="The folder to write; needed but for --find-lr."),
]


def check_resume(*, resume: bool, overwrite: bool) -> None:
    """Refuses --resume beside --overwrite, which would replace a finished run by one begun anew.

    Raises:
        UsageError: If both are given.
    """
    if resume and overwrite:
        raise UsageError(
            "--resume goes on with an interrupted run, and --overwrite gives it up: say one of the two."
        )


def observing() -> TrainingProgress:
    """Makes the observer that shows a run on stderr; it is a context manager."""
    from seclcompress.cli.progress import TrainingProgress

    return TrainingProgress(err_console)


def show_result(
    result: TrainingResult, command: Literal["train", "distill"], *, json: bool
) -> None:
    """Prints the result of a run, in process 0 only.

    Args:
        result: The result.
        command: The command that was run.
        json: Whether it is printed on standard output as well, as a record.
    """
    from seclcompress.processes import rank
    from seclcompress.report.training import training_table

    if rank() != 0:
        return
    err_console.print(training_table(result.history, result.before))
    accuracy = result.metrics["accuracy"]
    err_console.print(f"Wrote {result.folder}: {accuracy:.2f} % of the test images right.")
    if json:
        from seclcompress.report.records import TrainingRecord

        record = TrainingRecord(
            command=command,
            output_dir=str(result.folder),
            before=result.before,
            epochs=result.history,
            metrics=result.metrics,
            left_out=list(result.left_out),
            settings=dict(result.settings),
        )
        write_result(record.to_json())


@contextlib.contextmanager
def stopping_softly(stop: Callable[[], None]) -> Iterator[None]:
    """While the block runs, Ctrl-C and the like let the current step end and the state be saved.

    The like are SIGTERM, a closed terminal (SIGHUP), and the warnings of schedulers (SIGUSR1,
    SIGXCPU). A signal that is ignored, as SIGHUP under nohup, stays ignored. A second Ctrl-C stops the
    run at once.

    Args:
        stop: Asks the run to save and stop.
    """
    from seclcompress.processes import rank

    if interrupt.has_arrived():  # an earlier Ctrl-C was swallowed by a library
        raise KeyboardInterrupt
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: Any) -> None:
        del frame
        stop()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, before)
            # The signal may come while a line is drawn, or deep in a recursion. Words are no reason to
            # lose the state.
            with contextlib.suppress(Exception):
                if rank() == 0:
                    err_console.print("Stopping after this step; Ctrl-C again does not wait.")

    handled = [
        number
        for number in (signal.SIGINT, *interrupt.ENDING)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    try:
        earlier = {number: signal.signal(number, handle) for number in handled}
    except ValueError:  # Python sets signal handlers in the main thread only
        yield
        return
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
