"""A network's task, which determines its arguments: a tensor, a list of images, or two images.

All code that runs a network turns a tensor of images into arguments by `task_of(network).arguments`.
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
    """A task. This base class is image classification, and the default for unknown networks."""

    #: The task's name in messages.
    name: ClassVar[str] = "image classification"
    #: Whether networks for this task have no number of classes.
    without_classes: ClassVar[bool] = False
    #: Whether the number of operations depends on the images' values.
    depends_on_values: ClassVar[bool] = False
    #: Python classes of the networks for this task that take other arguments than one tensor.
    networks: ClassVar[tuple[type[nn.Module], ...]] = ()

    def arguments(self, images: Tensor) -> tuple[Any, ...]:
        """The arguments of the network's `forward`.

        Args:
            images: Shape (batch, channels, *spatial).
        """
        return (images,)

    @contextlib.contextmanager
    def without_values(self, network: nn.Module) -> Iterator[None]:
        """Context for the meta device: skips steps that need values and have no contractions."""
        del network
        yield


class Segmentation(Task):
    """From images to maps of classes, possibly several of them, in a dictionary."""

    name = "semantic segmentation"


class VideoClassification(Task):
    """From clips, shape (batch, channels, frames, height, width), to classes."""

    name = "video classification"


class Detection(Task):
    """From a list of images to a list of dictionaries, one per image."""

    name = "object detection"
    depends_on_values = True
    networks = (GeneralizedRCNN, detection.RetinaNet, detection.FCOS, detection.ssd.SSD)

    def arguments(self, images: Tensor) -> tuple[Any, ...]:
        """A list of images, each of shape (channels, height, width)."""
        return (list(images.unbind(0)),)

    @contextlib.contextmanager
    def without_values(self, network: nn.Module) -> Iterator[None]:
        """Skips finding key points in their maps, and scaling results to the images' sizes."""
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
    """From two images to the movement between them."""

    name = "optical flow"
    without_classes = True
    networks = (optical_flow.RAFT,)

    def arguments(self, images: Tensor) -> tuple[Any, ...]:
        """The images twice, because the cost does not depend on the movement between them."""
        return (images, images)


_CALLED_OTHERWISE = (Detection(), OpticalFlow())
_PLAIN = Task()


def task_of(network: nn.Module) -> Task:
    """The task that determines a network's arguments, found by the network's class.

    Tasks that are called with one tensor are not told apart; `Source.task` does that.
    """
    return next((task for task in _CALLED_OTHERWISE if isinstance(network, task.networks)), _PLAIN)
