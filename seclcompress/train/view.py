"""How a teacher sees the student's images: its own mean, standard deviation, size and classes."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as VF

from seclcompress.errors import DataError
from seclcompress.preprocessing import Preprocessing


@dataclass(frozen=True)
class View:
    """What becomes of a batch of the student's images before a teacher sees it, and of its scores.

    Attributes:
        mine: The mean and standard deviation with which the student's images are normalised.
        theirs: Those that the teacher was trained with.
        input_size: The teacher's input size, (channels, H, W).
        order: For each class of the data its index among the teacher's classes; None if they are the
            same.
    """

    mine: Preprocessing
    theirs: Preprocessing
    input_size: tuple[int, ...]
    order: tuple[int, ...] | None = None

    @property
    def renormalises(self) -> bool:
        """Whether the teacher's mean or standard deviation is another one."""
        return (self.mine.mean, self.mine.std) != (self.theirs.mean, self.theirs.std)

    def images(self, images: Tensor) -> Tensor:
        """The images as the teacher wants them.

        Args:
            images: The student's, shape (batch, channels, H, W), normalised.

        Returns:
            Shape (batch, *input_size), normalised with the teacher's mean and standard deviation.
        """
        channels, *size = self.input_size
        if images.shape[1] == 1 != channels:  # grey has the same red, green and blue
            images = images.repeat(1, channels, 1, 1)
        if list(images.shape[2:]) != size:
            way = InterpolationMode(self.theirs.interpolation)
            images = VF.resize(images, size, interpolation=way, antialias=True)
        if not self.renormalises:
            return images
        mean, std, their_mean, their_std = (
            torch.tensor(values, dtype=torch.float64)[:, None, None]
            for values in (self.mine.mean, self.mine.std, self.theirs.mean, self.theirs.std)
        )
        scale, shift = std / their_std, (mean - their_mean) / their_std
        return images * scale.to(images) + shift.to(images)

    def attach(self, network: nn.Module) -> None:
        """Makes a network, with hooks, take the student's images and give scores in the data's order.

        Hooks leave the modules' names as they are, which taps need, and stay in a compiled network.

        Args:
            network: The teacher; its first argument is the images.
        """

        def before(_module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            return (self.images(arguments[0]), *arguments[1:])

        network.register_forward_pre_hook(before)
        if self.order is not None:
            order = torch.tensor(self.order)

            def after(_module: nn.Module, _arguments: object, output: Any) -> Any:
                return _reordered(output, order)

            network.register_forward_hook(after)

    def fingerprint(self) -> str:
        """What decides the teacher's outputs, in words."""
        return repr((self.mine, self.theirs, self.input_size, self.order))


def _reordered(output: Any, order: Tensor) -> Any:
    """Puts the class scores among a network's outputs into another order.

    Args:
        output: A tensor, or tensors in a sequence, a dictionary or a dataclass. Class scores are those
            of the shape (batch, classes).
        order: For each class of the data its index among the scores.
    """
    if isinstance(output, Tensor):
        scores = output.dim() == 2 and output.shape[1] == len(order)
        return output[:, order.to(output.device)] if scores else output
    if isinstance(output, dict):
        other = copy.copy(output)
        for key, value in output.items():  # some libraries' dictionaries refuse `update`
            other[key] = _reordered(value, order)
        return other
    if isinstance(output, tuple | list):
        parts = [_reordered(part, order) for part in output]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        fields = {f.name: getattr(output, f.name) for f in dataclasses.fields(output)}
        changed = {name: _reordered(value, order) for name, value in fields.items()}
        return dataclasses.replace(output, **changed)
    if output is None or isinstance(output, bool | int | float | str):
        return output
    raise DataError(
        f"The teacher's classes are in another order than the student's, and its output, a "
        f"{type(output).__name__}, is none that can be lined up with them: it may be a tensor, or "
        "tensors in a sequence, a dictionary or a dataclass. Use a teacher that has the student's order."
    )
