"""Classifiers that differ in their number of classes only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor


def differ_in_classes(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], odd: Sequence[str]
) -> bool:
    """Whether the tensors of other shapes are heads that differ only in their number of classes.

    The network's last matrix must be among them.

    Args:
        own: The network's tensors.
        state: The file's tensors by the network's names.
        odd: The names of the tensors of other shapes.
    """
    if not odd:
        return True
    matrices = [key for key, value in own.items() if value.dim() > 1]
    if not matrices:
        return False
    last = matrices[-1]
    if any(own[key].dim() == 0 or state[key].dim() == 0 for key in odd):
        return False
    numbers = {(own[key].shape[0], state[key].shape[0]) for key in odd}
    rest_fits = all(own[key].shape[1:] == state[key].shape[1:] for key in odd)
    return last in odd and len(numbers) == 1 and rest_fits
