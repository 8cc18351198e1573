"""Networks by name: how one is built, and built again from a saved folder.

Where networks come from is said by sources, one file each (`sources.py`). A `NetworkSpec` says how one
of them builds a network before anything is rewritten.
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
    """Every network that lists show, by source. Some sources know more names."""
    return [name for source in sources.registered() for name in source.names()]


def named_spec(
    name: str, num_classes: int | None = None, options: Mapping[str, Option] | None = None
) -> NetworkSpec:
    """How the network of a name that a person typed is built.

    Args:
        name: One that a source knows: of torchvision, `wrn<depth>_<width>`,
            `package.module:factory`, …
        num_classes: Outputs of the classifier; by default the source's choice (1000 for
            torchvision's image classifiers, 10 for a wide residual network).
        options: Further options of the source's builder.

    Raises:
        NetworkError: If there is no such network (the nearest names are suggested), it has no
            classes to number or not so many, or it computes with integers.
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
        "a folder or package.module:factory will do as well."
    )


def default_input_size(spec: NetworkSpec) -> tuple[int, ...]:
    """The size a network is usually run at, as (channels, *spatial)."""
    return sources.get(spec.source).input_size(spec)


def check_image_classification(spec: NetworkSpec, purpose: str) -> None:
    """Makes sure that a network is one that sorts images into classes.

    Nothing is known of a factory's network before it runs; it passes.

    Args:
        spec: Of the network.
        purpose: What image classification is needed for, for the message: `train`, `distill`.

    Raises:
        UsageError: If it is a network for another task.
    """
    task = sources.get(spec.source).task(spec)
    if type(task) is not Task:
        raise UsageError(
            f"{spec.name} is a network for {task.name}; {purpose} knows image classification only. "
            "It can be counted and converted here; train the result as its original was trained."
        )
