"""The accuracy and the loss of a network on test images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.data import Data, Images, Presentation
from seclcompress.processes import Processes
from seclcompress.trace import eval_mode, floating_dtype, whole_copy
from seclcompress.train.batch_norm import estimate_anew
from seclcompress.train.outputs import OutputReader

#: The number of batches from which batch norm's statistics are estimated.
_BATCHES = 32


@dataclass(frozen=True)
class Answers:
    """Which classes a network took the test images for.

    Attributes:
        classes: The names of the classes.
        counts: The number of images by (index of their class, index of the class with the highest
            score). Pairs that did not occur are missing.
    """

    classes: tuple[str, ...]
    counts: Mapping[tuple[int, int], int]


@dataclass(frozen=True)
class Evaluation:
    """The figures of a network on test or validation images.

    Attributes:
        accuracy: Top-1 accuracy in percent.
        top5_accuracy: Top-5 accuracy in percent; None with at most five classes.
        loss: Mean cross-entropy.
        images: The number of images.
        answers: The answers by class, if they were asked for.
    """

    accuracy: float
    top5_accuracy: float | None
    loss: float
    images: int
    answers: Answers | None = None


def in_order(images: Images, batch_size: int) -> list[Tensor]:
    """The indices of all images in their order, in batches."""
    return list(torch.arange(len(images)).split(batch_size))


def evaluate(
    network: nn.Module,
    data: Data,
    *,
    images: Images | None = None,
    read: OutputReader | None = None,
    batch_size: int = 128,
    device: str = "cpu",
    workers: int = 0,
    by_class: bool = False,
    on_batch: Callable[[int, int], object] | None = None,
    processes: Processes | None = None,
) -> Evaluation:
    """Measures accuracy and loss on images, in eval mode; the modules' modes are restored.

    Args:
        network: The network, on `device`.
        data: The data set.
        images: Images of the data set; by default the test images.
        read: Picks the class scores out of the network's outputs; by default one for the data's classes.
        batch_size: Images per batch.
        device: The device to compute on.
        workers: Processes that load images.
        by_class: Whether to record the answers by class, those of this process's images.
        on_batch: Is called after each batch with the number of images done and their total.
        processes: This process and their number; each process evaluates its share of the images. By
            default there is one.

    Returns:
        The figures over the images of all processes.

    Raises:
        DataError: If an image cannot be read, or no output has one score per class.
    """
    dtype = floating_dtype(network)
    presentation = Presentation(data.input_size, data.preprocessing, device=device, workers=workers)
    processes = processes or Processes(device=device)
    read = read or OutputReader(len(data.classes))
    images = data.test if images is None else images
    mine = in_order(images, batch_size)[processes.rank :: processes.size]
    counts = torch.zeros(4, dtype=torch.float64)
    answered: Counter[tuple[int, int]] = Counter()
    with eval_mode(network), torch.inference_mode():
        for batch in images.read(mine, presentation):
            scores, _ = read(network(batch.images.to(dtype)))
            best = scores.topk(min(5, scores.shape[1]), dim=1).indices
            right = best == batch.targets[:, None]
            loss = F.cross_entropy(scores.float(), batch.targets, reduction="sum")
            counts[:3] += torch.stack([right[:, 0].sum(), right.sum(), loss]).cpu().double()
            counts[3] += len(batch.targets)
            if by_class:
                answered.update(zip(batch.targets.tolist(), best[:, 0].tolist(), strict=True))
            if on_batch is not None:
                on_batch(int(counts[3]), len(images))
    if processes.size > 1:
        counts = processes.total(counts.to(processes.device))
    first, among_five, total, count = counts.tolist()
    top5 = 100 * among_five / count if len(data.classes) > 5 else None
    answers = Answers(tuple(data.classes), dict(answered)) if by_class else None
    return Evaluation(100 * first / count, top5, total / count, int(count), answers)


def estimate_from_training_images(
    network: nn.Module, data: Data, batch_size: int, *, device: str, workers: int = 0
) -> None:
    """Estimates batch norm's statistics anew, from batches spread over the training images.

    Args:
        network: The network, on the device; its statistics are changed.
        data: The data set. Its training images are shown without augmentation.
        batch_size: Images per batch.
        device: The network's device.
        workers: Processes that load images.
    """
    order = in_order(data.train, batch_size)
    order = [batch for batch in order if len(batch) > 1]  # one image has no variance
    spread = order[:: max(1, len(order) // _BATCHES)][:_BATCHES]
    presentation = Presentation(data.input_size, data.preprocessing, device=device, workers=workers)
    estimate_anew(network, data.train, presentation, spread)


def accuracy_before(
    network: nn.Module,
    data: Data,
    batch_size: int,
    processes: Processes,
    *,
    read: OutputReader | None = None,
    estimate_batch_norm: bool,
    workers: int = 0,
) -> Evaluation:
    """Evaluates a copy of a student before it is trained; the student itself is not changed.

    Args:
        network: The student, on this process's device.
        data: The data set. Its training images are shown without augmentation.
        batch_size: Images per batch.
        processes: This process, its device, and the number of processes.
        read: As in `evaluate`.
        estimate_batch_norm: Whether to estimate batch norm's running statistics from training images
            first. The new layers need this: the statistics come from the original, whose layers have
            different outputs.
        workers: Processes that load images.
    """
    student, device = whole_copy(network), processes.device
    if estimate_batch_norm:
        estimate_from_training_images(student, data, batch_size, device=device, workers=workers)
    return evaluate(
        student,
        data,
        read=read,
        batch_size=batch_size,
        device=device,
        workers=workers,
        processes=processes,
    )
