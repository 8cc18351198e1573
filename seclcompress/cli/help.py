"""What all commands share: `--help` that fits narrow terminals, and an output that programs can read."""

from __future__ import annotations

import re
import shutil
from typing import Any

from typer.core import TyperCommand

from seclcompress.cli.streams import results_alone

#: Columns that Typer's boxes need for the longest options. Narrower terminals get plain lines.
_BOXES_FROM = 100
_OPTIONS, _ARGUMENTS = "Options", "Arguments"


def is_narrow() -> bool:
    """Whether the terminal is too narrow for boxes."""
    return shutil.get_terminal_size().columns < _BOXES_FROM


def fit(ctx: Any) -> None:
    """Makes plain help as narrow as the terminal; by itself it would take 50 columns."""
    if is_narrow():
        ctx.terminal_width = max(20, shutil.get_terminal_size().columns - 1)


class Adaptive:
    """What commands and their group share: boxes, or plain lines on a narrow terminal."""

    rich_markup_mode: Any

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Writes the help in boxes or, on a narrow terminal, in plain lines."""
        mode = self.rich_markup_mode
        if is_narrow():
            self.rich_markup_mode = None
        try:
            super().format_help(ctx, formatter)  # type: ignore[misc]
        finally:
            self.rich_markup_mode = mode

    def get_help(self, ctx: Any) -> str:
        """The help as text; empty where it was printed already, in boxes."""
        fit(ctx)
        text: str = super().get_help(ctx)  # type: ignore[misc]
        return plain(text) if is_narrow() else text


class Command(Adaptive, TyperCommand):
    """A command whose help shows every option's whole name at any width."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; with --json or --csv, standard output is kept for the figures."""
        if ctx.params.get("json") or ctx.params.get("csv"):
            with results_alone():
                return super().invoke(ctx)
        return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes arguments and options in the sections that the boxes would have."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            usual = _ARGUMENTS if parameter.param_type_name == "argument" else _OPTIONS
            panel = getattr(parameter, "rich_help_panel", None) or usual
            names, words = record
            rows = sections.setdefault(panel, [])
            rows.append((names.replace(" / ", "/"), words))
            if len(rows[-1][0]) > formatter.width - 2:  # a long switch: its other name below it
                first, _, other = names.partition(" / ")
                rows[-1:] = [(first, words), (other, "")]
        # What a command needs comes first, whatever its other options are called.
        needed = [title for title in (_ARGUMENTS, _OPTIONS) if title in sections]
        for title in [*needed, *(one for one in sections if one not in needed)]:
            records = sections[title]
            short = formatter.width < len(title) + 1
            with formatter.section(title.partition(" (")[0] if short else title):
                # Names stand on lines of their own where there is little room beside them.
                formatter.write_dl(records, col_max=max(12, min(30, formatter.width // 3)))


def plain(text: str) -> str:
    """Takes the signs of Markdown off a help text."""
    return re.sub(r"\\([*_])", r"\1", text).replace("`", "")
