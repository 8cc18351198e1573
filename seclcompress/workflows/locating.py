"""Which network a workflow is asked to work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seclcompress.errors import UsageError
from seclcompress.observer import Observer
from seclcompress.resolve import Located, locate

#: What a person types, a saved folder, or a network that was located already.
Network = str | Path | Located


def find(
    network: Network,
    *,
    weights: str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, ...] | None = None,
    factory: str | None = None,
    download: bool = False,
) -> Located:
    """Finds a network without building it.

    Args:
        network: What a person types (see `resolve.locate`), a saved folder, or a located network.
        weights: A weights file, or torchvision's spelling of published ones.
        num_classes: Outputs of the classifier.
        input_size: (channels, *spatial); by default the folder's or the network's usual one.
        factory: The factory to trust when a folder asks for it.
        download: Whether published weights may be downloaded.

    Raises:
        UsageError: If the options do not go together, or are given for a located network.
        NetworkError: If nothing is known by that name.
        ArtefactError: If it is a folder and not one of ours.
    """
    if isinstance(network, Located):
        given = {
            "weights": weights,
            "num_classes": num_classes,
            "input_size": input_size,
            "factory": factory,
            "download": download or None,
        }
        late = [name for name, value in given.items() if value is not None]
        if late:
            raise UsageError(
                f"{network.label} is located already: give {', '.join(late)} when it is."
            )
        return network
    located = locate(
        typed(network),
        weights=weights,
        num_classes=num_classes,
        input_size=input_size,
        factory_name=factory,
        download=download,
    )
    return replace(located, label=str(network))


def typed(network: str | Path) -> str:
    """A network as a person would type it. A path is a folder, whatever networks are called."""
    if isinstance(network, str):
        return network
    return f"{network.parent.as_posix()}/{network.name}"


def tell_untrained(names: Sequence[str], observer: Observer) -> None:
    """Says which parameters the given weights had no values for."""
    if names:
        observer.message(f"Fresh, for another number of classes: {', '.join(names)}.")
