"""Makes options of commands from the fields of a pydantic model, so that no option is written twice."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel

from seclcompress.errors import UsageError
from seclcompress.settings.training import TrainingSettings, in_pairs

_SHORT = {"workers": ["-j"]}
#: The title of each panel of `--help`, by its first field, in the model's order.
_PANELS = {
    "epochs": "Settings: optimisation (all settings are also keys of a TOML recipe)",
    "alpha": "Settings: distillation",
    "crop": "Settings: images",
    "amp": "Settings: computation",
}


Command = Callable[..., None]


def with_parameters(
    argument: str, parameters: Sequence[inspect.Parameter], read: Callable[[dict[str, Any]], Any]
) -> Callable[[Command], Command]:
    """Makes a decorator that replaces one argument of a command by options.

    Typer reads options from the signature of a function. So the decorator gives the command a signature
    in which the options replace the argument.

    Args:
        argument: The name of the argument to replace.
        parameters: The options.
        read: Makes the value of the argument from the values of the options that are on the command
            line, by name.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            values = {parameter.name: arguments.pop(parameter.name) for parameter in parameters}
            given = {name: value for name, value in values.items() if value not in (None, [])}
            command(**{argument: read(given)}, **arguments)

        signature = inspect.signature(command, eval_str=True)
        replaced: list[inspect.Parameter] = []
        for name, parameter in signature.parameters.items():
            own = parameter.replace(kind=parameter.KEYWORD_ONLY)
            replaced += parameters if name == argument else [own]
        run.__signature__ = signature.replace(parameters=replaced)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in replaced}
        return run

    return decorate


def field_option(
    model: type[BaseModel],
    name: str,
    *flags: str,
    kind: Any = None,
    metavar: str | None = None,
    default: Any = None,
    checked: bool = False,
    panel: str | None = None,
) -> inspect.Parameter:
    """Makes an option for a field of a model, with the field's description, type and default.

    Args:
        model: The model.
        name: The name of the field.
        flags: The option's names on the command line.
        kind: The type that Typer reads; None to derive it from the field.
        metavar: The placeholder of the value in `--help`; None to derive it from the field.
        default: The default to show in `--help`; None for the field's.
        checked: Whether Typer checks choices and the minimum. Otherwise only the model does.
        panel: The title of the option's panel in `--help`.
    """
    field = model.model_fields[name]
    found, shown = _kind(field.annotation)
    default = field.default if default is None else default
    words = (field.description or "").replace("*", "\\*")  # Typer reads Markdown
    if kind is None and not (checked and default is False) and _shown(default):
        words += f"  [default: {_shown(default)}]"
    least = None
    if checked:
        least = next((bound.ge for bound in field.metadata if hasattr(bound, "ge")), None)
        choices = _choices(field.annotation)
        if choices:
            found, shown = Enum(name, dict(zip(choices, choices, strict=True)), type=str), None
    kind = kind or found
    option = typer.Option(
        *flags,
        help=words,
        metavar=metavar or shown,
        min=least,
        show_default=False,
        rich_help_panel=panel,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def with_settings(
    leave_out: tuple[str, ...] = (), only: tuple[str, ...] | None = None
) -> Callable[[Command], Command]:
    """Makes a decorator that adds an option to a command for each field of `TrainingSettings`.

    The command receives the values that are on the command line as a dictionary, `given`.

    Args:
        leave_out: Fields that the command does not have as options.
        only: The fields that the command has as options; None for all.
    """
    fields = [
        name
        for name in TrainingSettings.model_fields
        if name not in leave_out and (only is None or name in only)
    ]
    return with_parameters("given", [_setting(name) for name in fields], lambda given: given)


def _setting(name: str) -> inspect.Parameter:
    flag = flag_of(name)
    switch = TrainingSettings.model_fields[name].annotation in (bool, bool | None)
    flags = [switched(flag) if switch else flag, *_SHORT.get(name, [])]
    return field_option(TrainingSettings, name, *flags, panel=_panel(name))


def flag_of(name: str) -> str:
    """The option's name for a field: `batch_size` gives `--batch-size`."""
    return "--" + name.replace("_", "-")


def switched(flag: str) -> str:
    """The names of an option that is switched on or off: `--crop` gives `--crop/--no-crop`."""
    return f"{flag}/--no-{flag[2:]}"


def _panel(name: str) -> str:
    fields = list(TrainingSettings.model_fields)
    begun = [first for first in _PANELS if fields.index(first) <= fields.index(name)]
    return _PANELS[begun[-1]]


def _kind(annotation: Any) -> tuple[Any, str | None]:
    """The type that Typer reads for a field, and the metavar; pydantic checks the value afterwards."""
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
    if origin is tuple:
        item = get_args(annotation)[0]
        return str, "NAMES" if item is str or get_origin(item) is Literal else "NUMBERS"
    return str, None


def _choices(annotation: Any) -> tuple[Any, ...]:
    """The values of a Literal, which may be one of a union with None."""
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return _choices(parts[0]) if len(parts) == 1 else ()
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _shown(default: Any) -> str:
    if default is None or default == () or default == "":
        return ""
    if isinstance(default, dict):
        return in_pairs(default)
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default)


def make_settings(recipe: str | None, given: dict[str, Any]) -> TrainingSettings:
    """Combines a recipe with the options of the command line, which take precedence.

    Args:
        recipe: A recipe's name or file; None for the defaults.
        given: The values of options that are on the command line, by field name.

    Raises:
        UsageError: If the recipe cannot be read, a value is out of range, or an option that is on the
            command line does nothing beside the others. The message names the option instead of the
            field.
    """
    from seclcompress.recipes import make_settings as make

    try:
        settings = make(recipe, given)
    except UsageError as error:
        words = str(error)
        for name in TrainingSettings.model_fields:
            if words.startswith((f"{name}:", f"{name}.")):
                words = flag_of(name) + words[len(name) :]
        raise UsageError(words) from error
    for name, why in settings.idle().items():
        if name in given:
            raise UsageError(f"{flag_of(name)} does nothing here: {why}. Drop one of the two.")
    return settings
