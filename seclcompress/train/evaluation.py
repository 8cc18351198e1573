"""How well a network does on test images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.data import Data, Images, Presentation
from seclcompress.processes import Processes
from seclcompress.trace import eval_mode, floating_dtype
from seclcompress.train.batch_norm import estimate_anew

#: Batches that batch norm's statistics are estimated from.
_BATCHES = 32


@dataclass(frozen=True)
class Evaluation:
    """How well a network does on test images.

    Attributes:
        accuracy: Top-1, in percent.
        top5_accuracy: How often the right class is among the five with the highest scores, in
            percent; of fewer classes, among all.
        loss: Mean cross-entropy.
        images: How many there were.
    """

    accuracy: float
    top5_accuracy: float
    loss: float
    images: int


def logits(output: Any) -> tuple[Tensor, list[Tensor]]:
    """A network's class scores, and those of auxiliary heads that only run in training."""
    if isinstance(output, Tensor):
        return output, []
    parts = list(output.values()) if isinstance(output, dict) else list(output)
    tensors = [part for part in parts if isinstance(part, Tensor)]
    return tensors[0], tensors[1:]


def in_order(images: Images, batch_size: int) -> list[Tensor]:
    """The indices of all images, in batches."""
    return list(torch.arange(len(images)).split(batch_size))


def evaluate(
    network: nn.Module,
    data: Data,
    *,
    batch_size: int = 128,
    device: str = "cpu",
    workers: int = 0,
    on_batch: Callable[[int, int], object] | None = None,
    processes: Processes | None = None,
) -> Evaluation:
    """Accuracy and loss on the test images, in eval mode; the network's modes are restored.

    Args:
        network: On `device`.
        data: Whose test images.
        batch_size: Images at once.
        device: Where to compute.
        workers: Processes that load images.
        on_batch: Is told how many of how many images are done.
        processes: Which of how many this is; each looks at its share of the images.

    Raises:
        DataError: If an image cannot be read.
    """
    dtype = floating_dtype(network)
    presentation = Presentation(data.input_size, data.preprocessing, device=device, workers=workers)
    processes = processes or Processes(device=device)
    mine = in_order(data.test, batch_size)[processes.rank :: processes.size]
    counts = torch.zeros(4, dtype=torch.float64)
    with eval_mode(network), torch.inference_mode():
        for batch in data.test.read(mine, presentation):
            scores, _ = logits(network(batch.images.to(dtype)))
            best = scores.topk(min(5, scores.shape[1]), dim=1).indices
            right = best == batch.targets[:, None]
            loss = F.cross_entropy(scores.float(), batch.targets, reduction="sum")
            counts[:3] += torch.stack([right[:, 0].sum(), right.sum(), loss]).cpu().double()
            counts[3] += len(batch.targets)
            if on_batch is not None:
                on_batch(int(counts[3]), len(data.test))
    if processes.size > 1:
        counts = processes.total(counts.to(processes.device))
    first, among_five, total, count = counts.tolist()
    return Evaluation(100 * first / count, 100 * among_five / count, total / count, int(count))


def accuracy_before(
    network: nn.Module,
    data: Data,
    batch_size: int,
    processes: Processes,
    *,
    estimate_batch_norm: bool,
    workers: int = 0,
) -> Evaluation:
    """How well a student does before it is trained; it stays as it is.

    Args:
        network: On this process's device.
        data: Its training images are looked at without augmentation.
        batch_size: Images at once.
        processes: Which of how many this is, and where it computes.
        workers: Processes that load images.
        estimate_batch_norm: Whether to give batch norm the statistics of the new layers' outputs
            first: those that came from the original are of other ones.
    """
    student, device = copy.deepcopy(network), processes.device
    if estimate_batch_norm:
        order = in_order(data.train, batch_size)
        order = [batch for batch in order if len(batch) > 1]  # one image has no variance
        spread = order[:: max(1, len(order) // _BATCHES)][:_BATCHES]
        presentation = Presentation(
            data.input_size, data.preprocessing, device=device, workers=workers
        )
        estimate_anew(student, data.train, presentation, spread)
    return evaluate(
        student,
        data,
        batch_size=batch_size,
        device=device,
        workers=workers,
        processes=processes,
    )
