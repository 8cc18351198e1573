"""What a network is for, and so how it is called: with a tensor, a list of images, two images.

Everybody who runs a network has one tensor of images and asks `task_of(network).arguments(images)`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor, nn
from torchvision.models import detection, optical_flow
from torchvision.models.detection import roi_heads
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN


class Task:
    """One way to call a network. This one, with a tensor, is that of all networks not named below."""

    #: In words, for messages.
    name: ClassVar[str] = "image classification"
    #: Whether there is no number of classes to choose.
    without_classes: ClassVar[bool] = False
    #: Whether the number of operations depends on what is seen.
    depends_on_values: ClassVar[bool] = False
    #: Python classes of the networks that are called this way.
    networks: ClassVar[tuple[type[nn.Module], ...]] = ()

    def arguments(self, images: Tensor) -> tuple[Any, ...]:
        """The arguments of `forward`.

        Args:
            images: Shape (batch, channels, *spatial).
        """
        return (images,)

    @contextlib.contextmanager
    def without_values(self, network: nn.Module) -> Iterator[None]:
        """Leaves out, for a while, what needs values and has no contraction, for the meta device."""
        del network
        yield


class Segmentation(Task):
    """Images to maps of classes, several of them in a dictionary."""

    name = "semantic segmentation"


class VideoClassification(Task):
    """Clips, shape (batch, channels, frames, height, width), to classes."""

    name = "video classification"


class Detection(Task):
    """A list of images to a list of dictionaries."""

    name = "object detection"
    depends_on_values = True
    networks = (GeneralizedRCNN, detection.RetinaNet, detection.FCOS, detection.ssd.SSD)

    def arguments(self, images: Tensor) -> tuple[Any, ...]:
        """A list of (channels, height, width)."""
        return (list(images.unbind(0)),)

    @contextlib.contextmanager
    def without_values(self, network: nn.Module) -> Iterator[None]:
        """Without drawing what was found into the images: no masks, no key points' places."""
        transform: Any = network.transform
        found = roi_heads.keypointrcnn_inference
        transform.postprocess = _as_it_is
        roi_heads.keypointrcnn_inference = _maps_as_they_are
        try:
            yield
        finally:
            roi_heads.keypointrcnn_inference = found
            del transform.postprocess


def _as_it_is(result: Any, *sizes: Any) -> Any:
    del sizes
    return result


def _maps_as_they_are(maps: Tensor, boxes: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    counts = [len(box) for box in boxes]
    return list(maps.split(counts)), list(maps.amax((2, 3)).split(counts))


class OpticalFlow(Task):
    """Two images to the movement between them."""

    name = "optical flow"
    without_classes = True
    networks = (optical_flow.RAFT,)

    def arguments(self, images: Tensor) -> tuple[Any, ...]:
        """The images twice: what the movement is does not matter to its cost."""
        return (images, images)


_CALLED_OTHERWISE = (Detection(), OpticalFlow())
_PLAIN = Task()


def task_of(network: nn.Module) -> Task:
    """How a network is called: by the class of the network itself, rewritten or not."""
    return next((task for task in _CALLED_OTHERWISE if isinstance(network, task.networks)), _PLAIN)
