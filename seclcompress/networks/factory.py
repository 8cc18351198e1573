"""A person's own network: `package.module:factory`.

Importing a module runs its code, so this happens only for a name that the person gave in this very
call, never for one that stands in a file.
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
    """Functions without arguments, in modules of the current folder or installed ones."""

    name = "factory"
    runs_foreign_code = True

    def names(self) -> list[str]:
        """None: whatever can be imported can be named."""
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
        """As every source, without a number of classes.

        Raises:
            NetworkError: If there is a number of classes.
        """
        if num_classes is not None:
            raise NetworkError(f"{name} decides its number of classes itself; drop --num-classes.")
        return super().spec(name, None, options)

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Imports the module and calls the factory without arguments.

        Args:
            spec: Its name is `package.module:factory`; the factory returns an `nn.Module`.

        Raises:
            UsageError: If the name is malformed.
            NetworkError: If the module or the factory is not there, fails, or returns something
                else; or if options are given.
        """
        if not self.knows(spec.name):
            raise UsageError(f"'{spec.name}' is not of the form package.module:factory.")
        if spec.options:
            raise NetworkError(f"{spec.name} takes no options; got {', '.join(spec.options)}.")
        return _call(spec.name)

    def input_size(self, spec: NetworkSpec) -> tuple[int, ...]:
        """ImageNet's usual one, for want of anything better."""
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
