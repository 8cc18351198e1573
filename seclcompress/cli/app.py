"""The Typer application. It turns errors into messages and exit codes."""

from __future__ import annotations

import sys
import traceback
import warnings
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from seclcompress import interrupt
from seclcompress.cli import (
    bench,
    convert,
    count,
    distill,
    evaluate,
    export,
    listing,
    plan,
    recover,
    report,
    search,
    slim,
    survey,
    train,
    tune,
    upload,
    widths,
)
from seclcompress.cli.console import LogLevel, alarm_console, err_console, loading, log_to_stderr
from seclcompress.cli.help import Adaptive, Command
from seclcompress.cli.memory import is_want_of_memory
from seclcompress.cli.streams import OutputError, check_stdout, drop_stdout
from seclcompress.downloads import show_progress
from seclcompress.errors import SeclcompressError, SeclcompressWarning
from seclcompress.wording import printable

_LESS_MEMORY = (
    "Free some, raise the limit of this process (ulimit -v), or ask for less: a smaller --batch-size, "
    "--cache-images never."
)


class _Group(Adaptive, TyperGroup):
    """Runs a command and turns any exception into one message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # hides warnings of libraries; ours are shown
                warnings.simplefilter("always", SeclcompressWarning)
                warnings.showwarning = _show_warning  # type: ignore[assignment]
                return super().invoke(ctx)
        except SeclcompressError as error:
            if ctx.params.get("debug"):  # it shows where, and changes no exit code
                traceback.print_exc()
            stopped = error.exit_code == interrupt.EXIT_CODE
            _say(*(("Stopped", "yellow") if stopped else ("Error", "red")), str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            if ctx.params.get("debug"):
                traceback.print_exc()
            raise _interrupted() from None
        except BrokenPipeError:
            # The reader has closed the pipe, as in `seclcompress … | head`. That is no error of ours.
            drop_stdout()
            raise typer.Exit(1) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug") or _is_click_error(error):
                raise
            if interrupt.has_arrived():
                raise _interrupted() from None
            if is_want_of_memory(error):
                first = (str(error).splitlines() or [type(error).__name__])[0]
                _say("Error", "red", f"There is not enough memory ({first}). {_LESS_MEMORY}")
                raise typer.Exit(1) from None
            _say(
                "Internal error",
                "red",
                f"{type(error).__name__}: {error}\n"
                "This is a bug in seclcompress. `seclcompress --debug …` shows where; please report it.",
            )
            raise typer.Exit(1) from None


def _interrupted() -> typer.Exit:
    _say(interrupt.title(), "yellow", interrupt.WORDS)
    return typer.Exit(interrupt.exit_code())


def _is_click_error(error: Exception) -> bool:
    """Whether an error is one of click's usage errors, which Typer prints itself with exit code 2."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _say(title: str, colour: str, message: str) -> None:
    alarm_console.print(f"[bold {colour}]{title}:[/]", end=" ")
    alarm_console.print(printable(message), markup=False)


def _show_warning(message: Any, *details: Any) -> None:
    del details
    _say("Warning", "yellow", str(message))


def _show_version(value: bool) -> None:
    if value:
        with loading():
            from seclcompress import kernel

        typer.echo(f"seclcompress {metadata.version('seclcompress')}")
        libraries = (f"{name} {metadata.version(name)}" for name in ("torch", "torchvision"))
        typer.echo(f"{', '.join(libraries)}, {kernel.description()}")
        raise typer.Exit


app = typer.Typer(
    name="seclcompress",
    cls=_Group,
    invoke_without_command=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback for every error.")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Print results, warnings and errors only; no progress."),
    ] = False,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            "--log-level",
            help="As --quiet, with what is done as log lines on standard error, from this level on.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Make a trained convolutional network ten to sixty times smaller, and say what it costs.

    A network is a torchvision name (`resnet50`), `wrn<depth>_<width>`, a folder that this program wrote,
    `hf://OWNER/NAME` (such a folder on the Hugging Face Hub), or `package.module:factory`.
    """
    del debug, version
    err_console.quiet = quiet or log_level is not None
    show_progress(err_console.is_terminal and not err_console.quiet)
    log_to_stderr(log_level)
    if context.invoked_subcommand is None:  # by themselves, boxes would get lost beside the error
        typer.echo(context.get_help())
        raise typer.Exit(2)


for _command in (
    count.count,
    train.train,
    plan.plan,
    slim.slim,
    convert.convert,
    recover.recover,
    distill.distill,
    tune.tune,
    search.search,
    evaluate.evaluate,
    export.export,
    bench.bench,
    report.report,
    survey.survey,
    widths.widths,
    upload.upload,
):
    app.command(cls=Command)(_command)
app.command("networks", cls=Command)(listing.networks)
app.command("substitutions", cls=Command)(listing.substitutions)
app.command("recipes", cls=Command)(listing.recipes)
app.command("schema", cls=Command)(listing.schema)


def main() -> None:
    """Runs the command in `sys.argv`."""
    check_stdout()
    try:
        # By its name also where it runs as `python -m seclcompress`: completion is for a command.
        app(prog_name="seclcompress")
    except OutputError as error:  # from --help and --version, which no command runs for
        raise _unwritten(error) from None
    except SystemExit as end:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            drop_stdout()
        except OutputError as error:
            raise _unwritten(error) from None
        raise end


def _unwritten(error: OutputError) -> SystemExit:
    drop_stdout()
    _say("Error", "red", str(error))
    return SystemExit(error.exit_code)
