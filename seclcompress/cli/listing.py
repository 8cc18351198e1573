"""`seclcompress networks`, `substitutions`, `recipes`: the names that options accept; `schema`."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import typer

from seclcompress.cli import options as o
from seclcompress.cli.console import err_console, loading
from seclcompress.cli.streams import write_result
from seclcompress.errors import NetworkError, UsageError


def networks(
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Only names that match, as 'resnet*'.")
    ] = "*",
    json: o.JsonOption = False,
) -> None:
    """List the names of networks, one per line."""
    from fnmatch import fnmatchcase

    with loading():
        from seclcompress import networks as known
    found = [name for name in known.names() if fnmatchcase(name, pattern)]
    if not found:
        raise NetworkError(f"None of the {len(known.names())} networks matches '{pattern}'.")
    if json:
        from seclcompress.report.records import NetworksRecord

        write_result(NetworksRecord(networks=found).to_json())
        return
    for name in found:
        typer.echo(name)
    for sentence in filter(None, (source.also for source in known.sources.registered())):
        err_console.print(sentence, markup=False)


def substitutions(json: o.JsonOption = False) -> None:
    """List the substitutions and their options."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    with loading():
        from seclcompress import substitutions as known

    if json:
        _substitutions_as_json()
        return
    console = Console(highlight=False, emoji=False)
    for name in known.names():
        substitution = known.get(name)
        about_it = Table.grid(padding=(0, 2))  # a long summary goes on under its beginning
        about_it.add_row(Text(name, style="bold"), Text(substitution.summary))
        console.print(about_it)
        for option, about in substitution.Config.model_fields.items():
            values = "|".join(_values(about.annotation))
            words = Text(f"--option {option}={values}  (default {about.default})")
            console.print(Padding(words, (0, 0, 0, 4), expand=False))


def _values(annotation: Any) -> list[str]:
    """What an option takes: its values, or the name of their type."""
    return [str(value) for value in get_args(annotation)] or [
        getattr(annotation, "__name__", "VALUE")
    ]


def _substitutions_as_json() -> None:
    with loading():
        from seclcompress import substitutions as known
        from seclcompress.report.records import Family, FamilyOption, SubstitutionsRecord

    families = [
        Family(
            name=name,
            summary=known.get(name).summary,
            options=[
                FamilyOption(
                    name=option,
                    values=_values(about.annotation),
                    default=about.default,
                    about=about.description,
                )
                for option, about in known.get(name).Config.model_fields.items()
            ],
        )
        for name in known.names()
    ]
    write_result(SubstitutionsRecord(substitutions=families).to_json())


def recipes(json: o.JsonOption = False) -> None:
    """List the recipes and the settings of each, as TOML."""
    from rich.console import Console

    from seclcompress import recipes as known

    if json:
        with loading():
            from seclcompress.report.records import Recipe, RecipesRecord

        found = [
            Recipe(name=name, about=known.describe(name), settings=dict(known.read_recipe(name)))
            for name in known.names()
        ]
        write_result(RecipesRecord(recipes=found).to_json())
        return
    console = Console(highlight=False, emoji=False)
    for name in known.names():
        console.print(f"[bold]{name}[/]  {known.describe(name)}")
        for setting, value in known.read_recipe(name).items():
            shown = str(value).lower() if isinstance(value, bool) else repr(value)
            console.print(f"    {setting} = {shown}", markup=False)


def schema(
    command: Annotated[
        str | None,
        typer.Argument(metavar="[COMMAND]", help="Such as count; without it, all of them."),
    ] = None,
) -> None:
    """Print the JSON Schema of what a command prints with `--json`."""
    from json import dumps

    with loading():
        from seclcompress.report.schemas import RECORDS, json_schema

    if command is not None and command not in RECORDS:
        raise UsageError(f"{command} prints no JSON. These do: {', '.join(sorted(RECORDS))}.")
    found = (
        {name: json_schema(name) for name in RECORDS} if command is None else json_schema(command)
    )
    typer.echo(dumps(found, indent=2, ensure_ascii=False))
