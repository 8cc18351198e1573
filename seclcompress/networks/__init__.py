"""Networks by name, and how they are built, also from a saved folder.

Networks come from sources, one file each (`sources.py`). A `NetworkSpec` tells how a source builds a
network before anything is rewritten.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pydantic import ValidationError

from seclcompress.errors import NetworkError, UsageError, describe_validation_error
from seclcompress.networks import sources
from seclcompress.networks.building import build, build_untrained
from seclcompress.networks.sources import NetworkSpec, Option, PublishedWeights, Source
from seclcompress.networks.tasks import Task

__all__ = [
    "NetworkSpec",
    "PublishedWeights",
    "Source",
    "build",
    "build_untrained",
    "check_image_classification",
    "default_input_size",
    "named_spec",
    "names",
]


def names() -> list[str]:
    """The names of all networks for lists, by source. Some sources know more names."""
    return [name for source in sources.registered() for name in source.names()]


def named_spec(
    name: str, num_classes: int | None = None, options: Mapping[str, Option] | None = None
) -> NetworkSpec:
    """The spec of the network whose name a person typed.

    Args:
        name: A name that a source knows: one of torchvision, `wrn<depth>_<width>`,
            `package.module:factory`, …
        num_classes: Outputs of the classifier; by default the source's choice (1000 for
            torchvision's image classifiers, 10 for a wide residual network).
        options: Further options of the source's builder.

    Raises:
        NetworkError: If there is no such network (the message suggests the nearest names), its number
            of classes cannot be chosen or is out of range, or it computes with integers.
    """
    source = sources.that_knows(name)
    if source is not None:
        try:
            return source.spec(name, num_classes, options)
        except ValidationError as error:
            raise NetworkError(
                f"{name} cannot be built so: {describe_validation_error(error)}."
            ) from error
    for source in sources.registered():
        refusal = source.refusal(name)
        if refusal is not None:
            raise NetworkError(refusal)
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.6)
    hint = f"Did you mean {', '.join(near)}? " if near else ""
    raise NetworkError(
        f"Unknown network '{name}'. {hint}`seclcompress networks` lists all {len(names())}; "
        "package.module:factory will do as well."
    )


def default_input_size(spec: NetworkSpec) -> tuple[int, ...]:
    """The usual input size of a network, (channels, *spatial)."""
    return sources.get(spec.source).input_size(spec)


def check_image_classification(spec: NetworkSpec, purpose: str) -> None:
    """Checks that a network is an image classifier.

    The task of a factory's network is unknown before the factory runs, so such a network passes.

    Args:
        spec: The spec of the network.
        purpose: The command that needs a classifier, for the message: `train` or `distill`.

    Raises:
        UsageError: If the network has another task.
    """
    task = sources.get(spec.source).task(spec)
    if type(task) is not Task:
        raise UsageError(
            f"{spec.name} is a network for {task.name}; {purpose} knows image classification only. "
            "It can be counted and converted here; train the result as its original was trained."
        )
