"""Options of a command that are read off a model: one for each of its fields, none written twice."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from seclcompress.errors import UsageError
from seclcompress.settings.training import TrainingSettings, in_pairs

_SHORT = {"workers": "-j"}
#: The field that each panel of `--help` begins with, in the model's order.
_PANELS = {
    "epochs": "Settings: optimisation (all settings are also keys of a TOML recipe)",
    "alpha": "Settings: distillation",
    "crop": "Settings: images",
    "amp": "Settings: computation",
}


def with_settings(
    leave_out: tuple[str, ...] = (), only: tuple[str, ...] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command an option for each field of `TrainingSettings`.

    The command gets those that stand on the command line as a dictionary, `given`.

    Args:
        leave_out: Fields that this command has no use for.
        only: The fields that it has a use for; all others are left out.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        fields = [
            name
            for name in TrainingSettings.model_fields
            if name not in leave_out and (only is None or name in only)
        ]

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            values = {name: arguments.pop(name) for name in fields}
            given = {name: value for name, value in values.items() if value is not None}
            command(given=given, **arguments)

        signature = inspect.signature(command, eval_str=True)
        kept = [p for name, p in signature.parameters.items() if name != "given"]
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[
                *[p.replace(kind=p.KEYWORD_ONLY) for p in kept],
                *[_parameter(name) for name in fields],
            ]
        )
        run.__annotations__ = {
            name: parameter.annotation
            for name, parameter in run.__signature__.parameters.items()  # type: ignore[attr-defined]
        }
        return run

    return decorate


def _parameter(name: str) -> inspect.Parameter:
    field = TrainingSettings.model_fields[name]
    flag = "--" + name.replace("_", "-")
    kind, metavar = _kind(field.annotation)
    default = _shown(field.default)
    words = (field.description or "") + (f"  [default: {default}]" if default else "")
    names = [f"{flag}/--no-{flag[2:]}" if kind is bool else flag]
    option = typer.Option(
        *names,
        *([_SHORT[name]] if name in _SHORT else []),
        help=words,
        metavar=metavar,
        show_default=False,
        rich_help_panel=_panel(name),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _panel(name: str) -> str:
    fields = list(TrainingSettings.model_fields)
    begun = [first for first in _PANELS if fields.index(first) <= fields.index(name)]
    return _PANELS[begun[-1]]


def _kind(annotation: Any) -> tuple[Any, str | None]:
    """What Typer is to read for a field, and its metavar; pydantic checks the rest."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin is Literal:
        return str, "|".join(get_args(annotation))
    if origin in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        if len(parts) == 1:
            return _kind(parts[0])
        return str, "RULE|NUMBER"
    if origin is dict:
        return str, "GROUP=NUMBER,…"
    if annotation in (bool, int, float):
        return annotation, None
    return str, "NAMES" if origin is tuple else None


def _shown(default: Any) -> str:
    if default is None or default == () or default == "":
        return ""
    if isinstance(default, dict):
        return in_pairs(default)
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default)


def make_settings(recipe: str | None, given: dict[str, Any]) -> TrainingSettings:
    """The recipe's settings with the command line's in their place.

    Raises:
        UsageError: If one is out of range; in the command line's spelling.
    """
    from seclcompress.recipes import make_settings as make

    try:
        return make(recipe, given)
    except UsageError as error:
        words = str(error)
        for name in TrainingSettings.model_fields:
            if words.startswith((f"{name}:", f"{name}.")):
                words = "--" + name.replace("_", "-") + words[len(name) :]
        raise UsageError(words) from error
