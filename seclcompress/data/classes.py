"""Lines up the classes of data with those that a network was trained on, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from seclcompress.data.dataset import Data
from seclcompress.errors import DataError
from seclcompress.wording import listed


def permutation(classes: Sequence[str], trained: Sequence[str]) -> list[int] | None:
    """The index among a network's classes of each of the data's classes.

    Args:
        classes: The names of the data's classes.
        trained: The names of the network's classes.

    Returns:
        None if the names are not the same, or one occurs twice.
    """
    place = {name: index for index, name in enumerate(trained)}
    if not len(set(classes)) == len(classes) == len(trained) or set(classes) != set(place):
        return None
    return [place[name] for name in classes]


def align_classes(
    data: Data, trained: Sequence[str] | None, network: str, *, by_order: bool
) -> tuple[Data, str | None]:
    """Gives the data the order of classes that a network was trained with.

    Args:
        data: The data set.
        trained: The names of the network's classes; None if they are not known.
        network: The network's name, for messages.
        by_order: Whether names that differ mean the same classes in the same order.

    Returns:
        The data set, and a sentence on what was assumed or changed, or None. A number of classes that
        differs is left for `train.outputs.read_outputs` to refuse.

    Raises:
        DataError: If the names differ and may not be ignored.
    """
    if trained is None or data.classes == list(trained) or len(data.classes) != len(trained):
        return data, None
    order = permutation(data.classes, trained)
    if order is None:
        words = _differences(data, trained, network)
        if not by_order:
            raise DataError(
                f"{words} Use data with the same classes. If the classes are the same ones in the same "
                "order under other names, say --classes-by-order."
            )
        return data, f"{words} They are taken in their order (--classes-by-order)."
    indices, held = torch.tensor(order), data.open_validation
    aligned = replace(
        data,
        classes=list(trained),
        open_train=lambda: data.open_train().relabelled(indices),
        open_test=lambda: data.open_test().relabelled(indices),
        open_validation=held and (lambda: held().relabelled(indices)),
    )
    return aligned, (
        f"The classes of {data.name} are in another order than those of {network}; they are lined up by "
        "their names."
    )


def _differences(data: Data, trained: Sequence[str], network: str) -> str:
    mine, theirs = set(trained) - set(data.classes), set(data.classes) - set(trained)
    if not mine and not theirs:
        return f"{data.name} and {network} name a class twice, so names cannot tell which is which."
    return (
        f"{network} was trained on other classes than {data.name} has: only the network has "
        f"{listed(mine)}; only the data have {listed(theirs)}."
    )
