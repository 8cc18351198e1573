"""A person's own network: `package.module:factory`.

Importing a module runs its code. So a factory is imported only if the person named it in this very
call, never because a file names it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from seclcompress.errors import NetworkError, UsageError
from seclcompress.networks.sources import NetworkSpec, Option, Source


class Factories(Source):
    """Functions without arguments, in modules that are installed or in the current folder."""

    name = "factory"
    runs_foreign_code = True

    def names(self) -> list[str]:
        """The empty list, because any importable name is possible."""
        return []

    def knows(self, name: str) -> bool:
        """Whether a name has the form `package.module:factory`."""
        module, colon, attribute = name.partition(":")
        parts = [*module.split("."), *attribute.split(".")]
        return bool(colon) and all(part.isidentifier() for part in parts)

    def spec(
        self,
        name: str,
        num_classes: int | None = None,
        options: Mapping[str, Option] | None = None,
    ) -> NetworkSpec:
        """The spec of a factory's network, which takes no number of classes.

        Raises:
            NetworkError: If a number of classes is given.
        """
        if num_classes is not None:
            raise NetworkError(f"{name} decides its number of classes itself; drop --num-classes.")
        return super().spec(name, None, options)

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Imports the module and calls the factory without arguments.

        Args:
            spec: A spec with the name `package.module:factory`.

        Raises:
            UsageError: If the name is malformed.
            NetworkError: If the module or the factory is missing or fails, the factory does not return
                an `nn.Module`, or options are given.
        """
        if not self.knows(spec.name):
            raise UsageError(f"'{spec.name}' is not of the form package.module:factory.")
        if spec.options:
            raise NetworkError(f"{spec.name} takes no options; got {', '.join(spec.options)}.")
        return _call(spec.name)

    def input_size(self, spec: NetworkSpec) -> tuple[int, ...]:
        """ImageNet's usual size, because a factory does not tell its own."""
        del spec
        return (3, 224, 224)


SOURCE = Factories()


def _call(name: str) -> nn.Module:
    module_name, _, attributes = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = importlib.import_module(module_name)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
        network = found() if callable(found) else found
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
