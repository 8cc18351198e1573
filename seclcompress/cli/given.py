"""Which options are on the command line, so that one that would do nothing is refused.

Commands name the options that do something, not those that do nothing: a new option is then refused
until somebody has said what it does.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection

import typer

from seclcompress.errors import UsageError


def flags_given(
    context: typer.Context, *, of: Collection[str] | None = None, but: Collection[str] = ()
) -> list[str]:
    """The options on the command line by their names, such as `--depth`, in the order of `--help`.

    Args:
        context: The call of the command.
        of: The parameters of the command that are looked at, by their names in Python; None for all.
        but: Those that are not.
    """
    return [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if parameter.param_type_name == "option"
        and (of is None or parameter.name in of)
        and parameter.name not in but
        and _is_given(context, parameter.name)
    ]


def _is_given(context: typer.Context, name: str | None) -> bool:
    source = None if name is None else context.get_parameter_source(name)
    return source is not None and not source.name.startswith("DEFAULT")


def check_needs(
    context: typer.Context,
    needed: str,
    *,
    of: Collection[str] | None = None,
    but: Collection[str] = (),
) -> None:
    """Refuses options that do nothing without another one, which is not given.

    Args:
        context: The call of the command.
        needed: The option that they need, such as `--data`.
        of: As in `flags_given`.
        but: The parameters of the command that do something without it.

    Raises:
        UsageError: If there are some.
    """
    flags = flags_given(context, of=of, but=but)
    if flags:
        do, them = _do_and_them(flags)
        raise UsageError(f"{do} nothing without {needed}: give that, or drop {them}.")


def check_idle(context: typer.Context, beside: str, why: str, *, of: Collection[str]) -> None:
    """Refuses options that do nothing beside another one, which is given.

    Args:
        context: The call of the command.
        beside: The other option, such as `--dry-run`.
        why: What that one means, in words.
        of: As in `flags_given`.

    Raises:
        UsageError: If there are some.
    """
    flags = flags_given(context, of=of)
    if flags:
        do, them = _do_and_them(flags)
        raise UsageError(f"{do} nothing beside {beside} ({why}): drop {them}, or {beside}.")


def _do_and_them(flags: list[str]) -> tuple[str, str]:
    """Options with the verb of a sentence about them, and their pronoun."""
    verb, them = ("does", "it") if len(flags) == 1 else ("do", "them")
    return f"{', '.join(flags)} {verb}", them


def typed_again(context: typer.Context, *, but: Collection[str]) -> str:
    """The command with the arguments and options that are on the command line, for a shell.

    Args:
        context: The call of the command.
        but: The parameters that are left out, by their names in Python.
    """
    arguments: list[str] = []
    options: list[str] = []
    for parameter in context.command.params:
        if parameter.name in but or not _is_given(context, parameter.name):
            continue
        value = context.params[str(parameter.name)]
        if parameter.param_type_name == "argument":
            arguments.append(str(value))
        elif isinstance(value, bool):
            names = parameter.opts if value else parameter.secondary_opts
            options.append(max(names, key=len))
        else:
            options += [max(parameter.opts, key=len), str(getattr(value, "value", value))]
    words = ["seclcompress", str(context.info_name), *arguments, *options]
    return " ".join(map(shlex.quote, words))
