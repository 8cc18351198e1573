"""Decides at which size a network sees images, and says so where nobody chose."""

from __future__ import annotations

from torch import nn

from seclcompress.data import usual_input_size
from seclcompress.networks import sources
from seclcompress.observer import Observer
from seclcompress.resolve import Located, is_folder, locate
from seclcompress.wording import shape
from seclcompress.workflows.locating import Network, typed

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def choose_input_size(
    network: Network,
    data: str,
    given: tuple[int, ...] | None,
    *,
    weights: str | None,
    validation: float | None,
    train: bool,
    observer: Observer,
) -> tuple[int, ...] | None:
    """Decides the input size of a network that is about to see the images of a data set.

    A saved folder and published weights know their size. A factory says nothing of it, so the images
    do, and the network's first convolution says how many channels. A network with a name that is trained
    from the start takes the size of a data set of small images, unless it runs at its own size only.

    Args:
        network: The network as on the command line, or a located one, which has its size.
        data: The name of the data set.
        given: The size that the person chose; None if they did not.
        weights: `--weights` as typed.
        validation: The share of the training images that is held out.
        train: Whether the network is about to be trained.
        observer: Receives a line if the size was not chosen by the person and may surprise them.

    Returns:
        (channels, H, W), or None for what the network itself says.

    Raises:
        SeclcompressError: If the data or the network cannot be read.
    """
    if given is not None or isinstance(network, Located):
        return given
    network = typed(network)
    if is_folder(network):
        return None
    source = sources.that_knows(network)
    if source is None:
        return None  # `locate` will say so
    located = locate(network, weights=weights)
    if located.preprocessing is not None:
        return None  # published weights know their size
    pictures = usual_input_size(data, validation)
    if source.runs_foreign_code:
        channels, where = _channels(located.skeleton())
        size = (channels, *(pictures or located.input_size)[1:])
        why = (
            "as its pictures are"
            if pictures is not None
            else "as its pictures are large or of several sizes"
        )
        observer.message(
            f"{network} does not say its input size: {shape(size)} is taken for {data}, {why}{where}. "
            "--input-size changes it."
        )
        return size
    free = train and weights is None and not source.needs_input_size
    if pictures is not None and free and ":" not in data:
        return pictures
    flat = len(located.input_size) == 3
    if pictures and flat and pictures[1:] != located.input_size[1:]:
        observer.message(
            f"The pictures of {data} have {pictures[2]}×{pictures[1]} pixels; they are shown at "
            f"{shape(located.input_size)}, the usual size of {network}. --input-size changes it."
        )
    elif pictures is None and flat and train:
        observer.message(
            f"The pictures of {data} are resized to {shape(located.input_size)}, the usual size of "
            f"{network}. --input-size changes it."
        )
    return None


def _channels(network: nn.Module) -> tuple[int, str]:
    """The input channels of a network's first convolution, 3 if it has none; words on what is not 3."""
    for name, module in network.named_modules():
        if isinstance(module, _CONVOLUTIONS):
            count = module.in_channels
            return count, "" if count == 3 else f", with the {count} channels of {name or 'it'}"
    return 3, ""
