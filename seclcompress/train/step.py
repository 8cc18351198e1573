"""One step of the optimisers: forwards and backwards over its batches, checks, new weights."""

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
from seclcompress.errors import TrainingError
from seclcompress.processes import Processes
from seclcompress.settings.training import TrainingSettings
from seclcompress.torch_private import scale_all
from seclcompress.trace import floating_dtype
from seclcompress.train.diagnosis import where_not_finite
from seclcompress.train.environment import autocast, layout
from seclcompress.train.objective import Objective
from seclcompress.train.order import Step


class Stepped(NamedTuple):
    """What a step came to.

    Attributes:
        loss: The mean over the images of all processes.
        images: How many they were: fewer than planned, if some cannot be read and are left out.
        stopping: Whether any process was told to stop.
        loading: Seconds of waiting for images.
    """

    loss: float
    images: int
    stopping: bool
    loading: float


class NotFinite(Exception):  # noqa: N818 (the run makes an error of it)
    """The loss or a gradient of a step is no number, in words that say where."""


class Stepper:
    """Takes the steps of a run, one after the other.

    Args:
        network: What is trained.
        objective: What is minimised.
        optimizers: Change the network's parameters.
        scaler: Keeps fp16's gradients in range.
        data: Whose batches are read; for the images' layout.
        settings: How.
        processes: Which of how many this is.
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
        self._dtype, self._layout = floating_dtype(network), layout(settings, data)

    def __call__(
        self, step: Step, batches: Iterator[Batch], stopping: Callable[[], bool]
    ) -> Stepped:
        """Takes one step.

        Args:
            step: Which.
            batches: Gives its batches next.
            stopping: Whether this process was told to stop; asked at the end, the others are told.

        Raises:
            NotFinite: If the loss or a gradient is not; the weights are still those of before.
            TrainingError: If the network cannot be trained on such images.
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
            total += self._backward(step, read[-1], last=part == len(step.parts) - 1)
        for optimizer in self._optimizers:
            self._scaler.unscale_(optimizer)
        told = total.new_tensor([sum(len(batch.targets) for batch in read), stopping()])
        summed, images, stop = self._processes.total(torch.stack([total, *told])).tolist()
        gradients = [p.grad for p in self._network.parameters() if p.grad is not None]
        if images != step.images:  # some could not be read
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

    def _backward(self, step: Step, batch: Batch, *, last: bool) -> Tensor:
        """Adds a batch's gradients; returns its share of the step's loss."""
        # DDP averages over processes what should be added up, each image once.
        weight = len(batch.targets) / step.images * self._processes.size
        with self._together(last):
            with autocast(self._settings, self._processes.device), _words(step, batch):
                loss = self._objective(batch) * weight
            penalty = self._objective.penalty() if last else None
            whole = loss if penalty is None else loss + penalty
            self._scaler.scale(whole).backward()
        return loss.detach() / self._processes.size

    def _together(self, last: bool) -> Any:
        """Gradients travel between processes once a step."""
        forward = self._objective.forward
        if isinstance(forward, DistributedDataParallel) and not last:
            return forward.no_sync()
        return contextlib.nullcontext()

    def _lost(self, gradients: list[Tensor]) -> bool:
        """Whether gradients are not finite, and not only because fp16's scale is still too large."""
        if bool(torch.nn.utils.get_total_norm(gradients).isfinite()):
            return False
        return not self._scaler.is_enabled() or self._scaler.get_scale() <= 1

    def _passes(self, step: Step, read: list[Batch]) -> Iterator[Callable[[], object]]:
        """The forward passes of a step once more, with the same random numbers."""
        for batch in read:
            step.seed_random_numbers()
            with autocast(self._settings, self._processes.device):
                yield functools.partial(self._objective.again, batch)


@contextlib.contextmanager
def _words(step: Step, batch: Batch) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:  # whoever asked for the run knows what to say to that
        raise
    except (ValueError, RuntimeError) as error:  # torch's own words say what does not fit
        raise TrainingError(
            f"The network cannot train on {len(batch.targets)} images of "
            f"{tuple(batch.images.shape[1:])} ({step}): {error}"
        ) from error
