"""The planning options of the command line, made from the fields of `PlanOptions`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from seclcompress.cli.settings import Command, field_option, flag_of, switched, with_parameters
from seclcompress.errors import UsageError
from seclcompress.settings.planning import (
    Assignment,
    PlanOptions,
    check_options,
    check_plan_alone,
)


@dataclass(frozen=True)
class Asked:
    """The planning options of one call of a command.

    Attributes:
        options: The planning options; None if the command line has none.
        plan: The file of a plan to take the decisions from instead; None if there is none.
    """

    options: PlanOptions | None
    plan: Path | None


def with_planning(
    leave_out: Collection[str] = (), cost_model: str | None = None
) -> Callable[[Command], Command]:
    """Makes a decorator that adds the planning options to a command.

    The command receives their values as the argument `asked`, an `Asked`.

    Args:
        leave_out: Options that the command does not have: fields of `PlanOptions`, or `plan`.
        cost_model: The command's default for `--cost-model`; None for that of `PlanOptions`.
    """
    own = {} if cost_model is None else {"cost_model": cost_model}
    parameters = [
        parameter
        for field in [*PlanOptions.model_fields, "plan"]
        if field not in leave_out
        for parameter in _parameters(field, own)
    ]
    return with_parameters("asked", parameters, lambda given: _read(given, own))


def _parameters(field: str, own: Mapping[str, str]) -> list[inspect.Parameter]:
    """The parameters of a command for one field of `PlanOptions`, or for `plan`."""
    if field == "plan":
        return [_parameter("plan", _PLAN)]
    if field == "config":
        option = field_option(
            PlanOptions, field, "--option", kind=list[str], metavar="KEY=VALUE"
        ).replace(name="option")
        return [_parameter("depth", _DEPTH), option]
    metavar, flag = _METAVARS.get(field), flag_of(field)
    if PlanOptions.model_fields[field].default is True:
        flag = switched(flag)
    kind = list[str] if isinstance(PlanOptions.model_fields[field].default, tuple) else None
    option = field_option(
        PlanOptions,
        field,
        flag,
        kind=kind,
        metavar=metavar,
        default=own.get(field),
        checked=True,
    )
    return [option]


_METAVARS = {
    "substitution": "NAME",
    "assign": "PATTERN=NAME",
    "keep": "PATTERN",
    "only": "PATTERN",
}
_DEPTH = Annotated[
    int | None,
    typer.Option(
        "--depth", help="ACDC layers in a stack; short for --option depth=N.  [default: 12]"
    ),
]
_PLAN = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="Take the decisions from this plan (JSON)."),
]


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=None, annotation=annotation)


def _read(given: dict[str, Any], own: Mapping[str, str]) -> Asked:
    """Makes an `Asked` from the values of options that are on the command line.

    Raises:
        UsageError: If a value cannot be read, or options contradict each other.
    """
    plan = given.pop("plan", None)
    if plan is not None:
        check_plan_alone([flag_of(name) for name in given])
    if not given:
        return Asked(None, plan)
    values = {name: v.value if isinstance(v, Enum) else v for name, v in given.items()}
    config = parse_config(values.pop("option", []), values.pop("depth", None))
    assign = tuple(parse_assignment(text) for text in values.pop("assign", []))
    options = PlanOptions(**{**own, **values, "config": config, "assign": assign})
    check_options(options)
    return Asked(options, plan)


def parse_config(options: Sequence[str], depth: int | None = None) -> dict[str, str]:
    """Parses the values of `--option KEY=VALUE` and of `--depth`.

    Raises:
        UsageError: If an option has no value or is given twice.
    """
    config: dict[str, str] = {}
    for pair in [*options, *([] if depth is None else [f"depth={depth}"])]:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--option {pair}: it takes KEY=VALUE, as in depth=8.")
        if key in config:
            raise UsageError(f"The option {key} is given twice: {config[key]} and {value}.")
        config[key] = value
    return config


def parse_assignment(text: str) -> Assignment:
    """Parses a value of `--assign`: `PATTERN=NAME` or `PATTERN=NAME:KEY=VALUE,…`.

    Raises:
        UsageError: If the text has neither form, or gives an option twice.
    """
    pattern, equals, family = text.partition("=")
    name, colon, options = family.partition(":")
    pairs = options.split(",") if colon else []
    if not (pattern and equals and name) or not all("=" in pair[1:] for pair in pairs):
        raise UsageError(
            f"--assign {text}: it takes PATTERN=NAME, as in layer4=separable, or "
            "PATTERN=NAME:KEY=VALUE,…, as in layer4=acdc:depth=4,init=paper."
        )
    return Assignment(pattern=pattern, substitution=name, config=parse_config(pairs))
