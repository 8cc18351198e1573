"""`seclcompress networks`, `substitutions` and `recipes`: lists of the names that options accept."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from seclcompress.errors import NetworkError


def networks(
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Only names that match, as 'resnet*'.")
    ] = "*",
) -> None:
    """List the names of networks, one per line."""
    from fnmatch import fnmatchcase

    from seclcompress import networks as known

    found = [name for name in known.names() if fnmatchcase(name, pattern)]
    if not found:
        raise NetworkError(f"None of the {len(known.names())} networks matches '{pattern}'.")
    for name in found:
        typer.echo(name)
    for sentence in filter(None, (source.also for source in known.sources.registered())):
        typer.echo(sentence, err=True)


def substitutions() -> None:
    """List the substitutions and their options."""
    from rich.console import Console
    from rich.text import Text

    from seclcompress import substitutions as known

    console = Console(highlight=False, emoji=False)
    for name in known.names():
        substitution = known.get(name)
        console.print(Text(name, style="bold"), Text(substitution.summary), sep="  ")
        for option, about in substitution.Config.model_fields.items():
            values = "|".join(map(str, get_args(about.annotation)))
            values = values or getattr(about.annotation, "__name__", "VALUE")
            console.print(
                f"    --option {option}={values}  (default {about.default})", markup=False
            )


def recipes() -> None:
    """List the recipes and the settings of each, as TOML."""
    from rich.console import Console

    from seclcompress import recipes as known

    console = Console(highlight=False, emoji=False)
    for name in known.names():
        console.print(f"[bold]{name}[/]  {known.describe(name)}")
        for setting, value in known.read_recipe(name).items():
            shown = str(value).lower() if isinstance(value, bool) else repr(value)
            console.print(f"    {setting} = {shown}", markup=False)
