"""A person's own network: `package.module:factory`.

Importing a module runs its code, so this happens only for a name that the person gave in this very
call, never for one that stands in a file.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from torch import nn

from seclcompress.errors import NetworkError, UsageError


def is_factory(name: str) -> bool:
    """Whether a name has the form `package.module:factory`."""
    module, colon, attribute = name.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    return bool(colon) and all(part.isidentifier() for part in parts)


def build(name: str) -> nn.Module:
    """Imports the module and calls the factory without arguments.

    Modules of the current folder can be named too.

    Args:
        name: `package.module:factory`; the factory returns an `nn.Module`.

    Raises:
        UsageError: If the name is malformed.
        NetworkError: If the module or the factory is not there, fails, or returns something else.
    """
    if not is_factory(name):
        raise UsageError(f"'{name}' is not of the form package.module:factory.")
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
