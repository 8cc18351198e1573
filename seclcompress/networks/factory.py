"""A person's own network: `package.module:factory`, or `package.module:factory(width=2)`.

Arguments are literals given by name; a saved folder records them. Importing a module runs its code. So
a factory is imported only if the person named it in this very call, never because a file names it.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from seclcompress.errors import NetworkError, UsageError
from seclcompress.networks.sources import NetworkSpec, Option, Source


class Factories(Source):
    """Functions that return networks, in modules that are installed or in the current folder."""

    name = "factory"
    runs_foreign_code = True
    knows_input_size = False

    def names(self) -> list[str]:
        """The empty list, because any importable name is possible."""
        return []

    def knows(self, name: str) -> bool:
        """Whether a name has the form `package.module:factory`, with or without arguments."""
        return not isinstance(_parsed(name), str)

    def refusal(self, name: str) -> str | None:
        """Why a call of a factory is not one that this source can make; None for other names."""
        as_file = _FILE.match(name)
        if as_file is not None:
            module = as_file["path"].replace("\\", "/").strip("./").replace("/", ".")
            return (
                f"{name}: a module is named without .py. Did you mean {module}:{as_file['rest']}?"
            )
        parsed = _parsed(name)
        return parsed if isinstance(parsed, str) and _LIKE_A_CALL.match(name) else None

    def is_named(self, spec: NetworkSpec, typed: str) -> bool:
        """Whether a person's words name the factory of a spec.

        The factory alone names it with whatever arguments; a call must have the spec's arguments.
        """
        parsed = _parsed(typed)
        if isinstance(parsed, str) or parsed[0] != spec.name:
            return False
        return typed == spec.name or self.spec(typed).options == spec.options

    def spec(
        self,
        name: str,
        num_classes: int | None = None,
        options: Mapping[str, Option] | None = None,
    ) -> NetworkSpec:
        """The spec of a factory's network; the arguments become its options.

        Raises:
            NetworkError: If a number of classes is given.
        """
        parsed = _parsed(name)
        if isinstance(parsed, str):
            raise NetworkError(parsed)
        factory, arguments = parsed
        if num_classes is not None:
            raise NetworkError(
                f"{name} decides its number of classes itself; drop --num-classes. If the factory takes "
                f"an argument for it, give that: '{factory}(num_classes={num_classes})'."
            )
        return super().spec(factory, None, {**arguments, **(options or {})})

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Imports the module and calls the factory with the spec's options as arguments.

        Args:
            spec: A spec with the name `package.module:factory`.

        Raises:
            UsageError: If the name is malformed.
            NetworkError: If the module or the factory is missing or fails, or the factory does not
                return an `nn.Module`.
        """
        parsed = _parsed(spec.name)
        if isinstance(parsed, str) or parsed[1]:
            raise UsageError(f"'{spec.name}' is not of the form package.module:factory.")
        return _call(spec.name, dict(spec.options))

    def input_size(self, spec: NetworkSpec) -> tuple[int, ...]:
        """ImageNet's usual size, because a factory does not tell its own."""
        del spec
        return (3, 224, 224)


SOURCE = Factories()


_FILE = re.compile(r"(?P<path>[^:]+)\.py:(?P<rest>.+)")
_LIKE_A_CALL = re.compile(r"[\w.]+:[\w.]+\s*\(")


def _parsed(name: str) -> tuple[str, dict[str, Any]] | str:
    """The factory and its arguments by name; a sentence if it is no factory, or no call we can make."""
    module, colon, call = name.partition(":")
    if _FILE.match(name):
        return f"'{name}' is not of the form package.module:factory."
    try:
        tree = ast.parse(call, mode="eval").body
        keywords = tree.keywords if isinstance(tree, ast.Call) else []
        if isinstance(tree, ast.Call) and tree.args:
            return f"{name}: give arguments by name, as in {module}:factory(width=2)."
        attributes = ast.unparse(tree.func if isinstance(tree, ast.Call) else tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return f"{name}: what follows the colon is no name of a factory, and no call of one."
    parts = [*module.split("."), *attributes.split(".")]
    if not colon or not all(part.isidentifier() for part in parts) or name != name.strip():
        return f"'{name}' is not of the form package.module:factory."
    arguments = {}
    for keyword in keywords:
        try:
            if keyword.arg is None:
                raise ValueError(f"{name}: a mapping of arguments")
            arguments[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            return (
                f"{name}: {ast.unparse(keyword)} is no literal. An argument is a number, a string, "
                "True, False, None, or a list of these."
            )
    return f"{module}:{attributes}", arguments


def _call(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    module_name, _, attributes = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = importlib.import_module(module_name)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
        made_already = isinstance(found, nn.Module) and not arguments
        network = found if made_already or not callable(found) else found(**arguments)
    except ModuleNotFoundError as error:
        raise NetworkError(
            f"{name}: {error}. Is the package installed, or here in {here}?"
        ) from error
    except AttributeError as error:
        raise NetworkError(f"{name}: {error}.") from error
    except Exception as error:
        raise NetworkError(f"{name}: it raised {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    if not isinstance(network, nn.Module):
        raise NetworkError(f"{name}: it returned a {type(network).__name__}, not an nn.Module.")
    return network
