"""One step of the optimizers: forward and backward passes over its batches, checks, the update."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from seclcompress.data import Batch, Data
from seclcompress.errors import TrainingError, UnsuitableSettingsError
from seclcompress.processes import Processes
from seclcompress.settings.training import TrainingSettings
from seclcompress.torch_private import scale_all
from seclcompress.trace import floating_dtype
from seclcompress.train.diagnosis import where_not_finite
from seclcompress.train.environment import autocast, layout
from seclcompress.train.objective import Objective
from seclcompress.train.order import Step


class Stepped(NamedTuple):
    """The result of a step.

    Attributes:
        loss: The mean loss over the images of all processes.
        images: The number of these images; less than planned if unreadable ones are left out.
        stopping: Whether any process was asked to stop.
        loading: Seconds spent waiting for images.
    """

    loss: float
    images: int
    stopping: bool
    loading: float


class NotFinite(Exception):  # noqa: N818 (the run turns it into an error)
    """The loss or a gradient of a step is not finite; the message says where."""


class Stepper:
    """Takes the steps of a run, one after the other.

    Args:
        network: The network to train.
        objective: The loss to minimise.
        optimizers: The optimizers of the network's parameters.
        scaler: The gradient scaler, which keeps fp16 gradients in range.
        data: The data set; its input size decides the memory layout of the images.
        settings: The training settings.
        processes: This process and the number of processes.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        optimizers: Sequence[torch.optim.Optimizer],
        scaler: torch.amp.GradScaler,
        data: Data,
        settings: TrainingSettings,
        processes: Processes,
    ) -> None:
        self._network, self._objective = network, objective
        self._optimizers, self._scaler = optimizers, scaler
        self._settings, self._processes = settings, processes
        self._dtype, self._layout = floating_dtype(network), layout(network, settings, data)

    def __call__(
        self, step: Step, batches: Iterator[Batch], stopping: Callable[[], bool]
    ) -> Stepped:
        """Takes one step.

        Args:
            step: The step.
            batches: An iterator whose next batches are those of the step.
            stopping: Returns whether this process was asked to stop. It is called after the backward
                passes, and its answer is sent to all processes.

        Returns:
            The loss, and whether any process was asked to stop.

        Raises:
            NotFinite: If the loss or a gradient is not finite. The weights are not changed.
            UnsuitableSettingsError: If the network cannot be trained on images of this size or number.
            TrainingError: If the device is broken.
            DataError: If an image cannot be read.
        """
        step.seed_random_numbers()
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self._processes.device)
        read: list[Batch] = []
        loading = 0.0
        for part in range(len(step.parts)):
            began = time.monotonic()
            batch = next(batches)
            loading += time.monotonic() - began
            read.append(self._laid_out(batch))
            total += self._backward(step, read, last=part == len(step.parts) - 1)
        for optimizer in self._optimizers:
            self._scaler.unscale_(optimizer)
        told = total.new_tensor([sum(len(batch.targets) for batch in read), stopping()])
        summed, images, stop = self._processes.total(torch.stack([total, *told])).tolist()
        gradients = [p.grad for p in self._network.parameters() if p.grad is not None]
        if images != step.images:  # `_backward` divided by the planned number of images
            scale_all(gradients, step.images / images)
        loss = summed * step.images / images
        if not math.isfinite(loss) or self._lost(gradients):
            raise NotFinite(
                f"{'A gradient is not finite' if math.isfinite(loss) else f'The loss is {loss}'} at "
                f"{step}. {where_not_finite(self._network, self._passes(step, read))}"
            )
        for optimizer in self._optimizers:
            self._scaler.step(optimizer)
        self._scaler.update()
        return Stepped(loss, int(images), stop > 0, loading)

    def _laid_out(self, batch: Batch) -> Batch:
        images = batch.images.to(self._dtype).contiguous(memory_format=self._layout)
        return batch._replace(images=images)

    def _backward(self, step: Step, read: Sequence[Batch], *, last: bool) -> Tensor:
        """Adds the gradients of the batch that was read last; returns its share of the step's loss."""
        batch = read[-1]
        # Gradients should be summed over processes. DDP averages them, hence the factor `size`.
        a_share = self._processes.size / step.images
        weight = len(batch.targets) * a_share
        with self._together(last):
            with autocast(self._settings, self._processes.device), _words(step, batch):
                loss = self._objective(batch) * weight
            penalty = self._objective.penalty() if last else None
            # All gradients are scaled afterwards by the images that were planned ÷ those that were read.
            # The penalty does not depend on images, so it is weighted by the inverse.
            images = sum(len(each.targets) for each in read)
            whole = loss if penalty is None else loss + penalty * (images * a_share)
            self._scaler.scale(whole).backward()
        return loss.detach() / self._processes.size

    def _together(self, last: bool) -> Any:
        """A context in which DDP exchanges gradients only with a step's last batch."""
        forward = self._objective.forward
        if isinstance(forward, DistributedDataParallel) and not last:
            return forward.no_sync()
        return contextlib.nullcontext()

    def _lost(self, gradients: list[Tensor]) -> bool:
        """Whether gradients are not finite for another reason than a too large scale of fp16.

        If the scale is above 1, the scaler skips the step and lowers the scale.
        """
        if bool(torch.nn.utils.get_total_norm(gradients).isfinite()):
            return False
        return not self._scaler.is_enabled() or self._scaler.get_scale() <= 1

    def _passes(self, step: Step, read: list[Batch]) -> Iterator[Callable[[], object]]:
        """Yields functions that repeat a step's forward passes, in order, from the step's seed."""
        step.seed_random_numbers()
        for batch in read:
            with autocast(self._settings, self._processes.device):
                yield functools.partial(self._objective.again, batch)


@contextlib.contextmanager
def _words(step: Step, batch: Batch) -> Iterator[None]:
    """Turns torch's error in a forward pass into one that names the step and the images."""
    try:
        yield
    except torch.OutOfMemoryError:  # the caller of the run reports it with advice
        raise
    except (ValueError, RuntimeError) as error:  # torch's message says what does not fit
        broken = isinstance(error, torch.AcceleratorError)  # which no other settings mend
        raise (TrainingError if broken else UnsuitableSettingsError)(
            f"The network cannot train on {len(batch.targets)} images of "
            f"{tuple(batch.images.shape[1:])} ({step}): {error}"
        ) from error
