"""Finds the network that a workflow is asked to work on."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from seclcompress.errors import UsageError
from seclcompress.networks import sources
from seclcompress.networks.weights import Loaded
from seclcompress.observer import Observer
from seclcompress.resolve import Located, is_weights_file, locate
from seclcompress.wording import shape

#: A network as on the command line, a saved folder, or a network that is already located.
Network = str | Path | Located


def find(
    network: Network,
    *,
    weights: str | None = None,
    weights_key: str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, ...] | None = None,
    factory: str | None = None,
    download: bool = False,
) -> Located:
    """Finds a network without building it.

    Args:
        network: A network as on the command line (see `resolve.locate`), a saved folder, or a located
            network.
        weights: A weights file, or torchvision's name of published weights.
        weights_key: The place of the weights in a checkpoint; None to find it.
        num_classes: The number of outputs of the classifier.
        input_size: (channels, *spatial); by default the folder's, or the network's usual size.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether published weights, or a repository of the Hub, may be downloaded.

    Raises:
        UsageError: If the options contradict each other, or are given for a located network.
        NetworkError: If no network has this name.
        ArtefactError: If it is a folder that this program did not write.
    """
    if isinstance(network, Located):
        given = {
            "weights": weights,
            "weights_key": weights_key,
            "num_classes": num_classes,
            "input_size": input_size,
            "factory": factory,
            "download": download or None,
        }
        late = [name for name, value in given.items() if value is not None]
        if late:
            raise UsageError(
                f"{network.label} is located already: give {', '.join(late)} to `locate`, not here."
            )
        return network
    located = locate(
        typed(network),
        weights=weights,
        weights_key=weights_key,
        num_classes=num_classes,
        input_size=input_size,
        factory_name=factory,
        download=download,
    )
    return replace(located, label=str(network))


def find_original(network: Network, verb: str, **options: Any) -> Located:
    """Finds a network that is not converted yet.

    Args:
        network: As in `find`.
        verb: What is to be done with it, as the first word of an advice: "Convert".
        options: As in `find`.

    Raises:
        UsageError: If it is converted already, or as `find` does.
        SeclcompressError: As `find` does.
    """
    located = find(network, **options)
    check_unconverted(located, verb)
    return located


def check_unconverted(located: Located, verb: str) -> None:
    """Refuses a network that is converted already.

    Args:
        located: The network.
        verb: As in `find_original`.

    Raises:
        UsageError: If it is.
    """
    if located.config is not None and located.config.plan is not None:
        raise UsageError(
            f"{located.label} is converted already. {verb} the network it was made from."
        )


def typed(network: str | Path) -> str:
    """Spells a network as on the command line; a Path becomes the name of a folder.

    A Path always keeps a slash (`./resnet50`), so that it cannot be taken for a network's name.
    """
    if isinstance(network, str):
        return network
    return f"{network.parent.as_posix()}/{network.name}"


def beginning(source: Located) -> dict[str, str | None]:
    """The weights that a run begins with, for `ArtefactConfig.training`: names without their paths.

    A folder that `convert` wrote and nobody has trained is no beginning of its own: it is made again
    from its original.
    """
    config = source.config
    fresh = config is not None and config.plan is not None and not config.training
    return {
        "from_folder": None if fresh else source.folder_name,
        "from_weights": weights_name(source.weights),
        "from_weights_key": source.weights_key,
    }


def taught(teacher: Located, built: nn.Module) -> dict[str, str | int | None]:
    """The teacher of a run, for `ArtefactConfig.training`: names without their paths."""
    return {
        "teacher_folder": teacher.folder_name,
        "teacher_network": teacher.network.name,
        "teacher_weights": weights_name(teacher.weights),
        "teacher_weights_key": teacher.weights_key,
        "teacher_parameters": sum(parameter.numel() for parameter in built.parameters()),
    }


def weights_name(weights: str | None) -> str | None:
    """`--weights` as typed, a file without the place where it lies."""
    return weights if weights is None or not is_weights_file(weights) else Path(weights).name


def name_factory(network: Located) -> str:
    """A sentence on what commands need that take a folder with this network; empty if nothing."""
    if not sources.get(network.network.source).runs_foreign_code:
        return ""
    factory = shlex.quote(network.network.name)
    return (
        f" It is built by your own code, so every command that takes it needs --factory {factory}."
    )


def tell_input_size(network: Located, observer: Observer) -> None:
    """Reports the input size of a network whose source does not know one, if the person gave none."""
    if network.size_is_assumed:
        observer.message(
            f"{network.label} does not say its input size: {shape(network.input_size)} is assumed. "
            "--input-size changes it."
        )


def tell_weights(loaded: Loaded, observer: Observer) -> None:
    """Reports what was decided in the person's name when weights were loaded, in one line."""
    words = loaded.words()
    if words:
        observer.message(words)


def is_trained(source: Located) -> bool:
    """Whether a network has weights that somebody trained, as far as names and folders say."""
    config = source.config
    kept = config is not None and (bool(config.training) or config.trained_before_slimming)
    return source.weights is not None or kept


def tell_random(source: Located, observer: Observer) -> None:
    """Reports weights that nobody has trained, whose outputs and accuracy mean nothing.

    A factory's function may load weights of its own, so nothing is said of it.
    """
    config = source.config
    if source.weights is not None:
        return
    if source.folder is None and not sources.get(source.network.source).runs_foreign_code:
        observer.message(
            f"{source.label} has random weights, as none are given with {source.weights_option}: what "
            "it answers means nothing."
        )
    elif config is not None and config.plan is not None and not config.training:
        observer.message(
            f"{source.label} was converted and never trained: its new layers have their first values, "
            "so what it answers means little. distill trains it."
        )
    elif config is not None and source.network.widths and not config.training:
        observer.message(f"{source.label} lost channels and was never trained since.")
