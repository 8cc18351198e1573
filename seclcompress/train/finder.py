"""The learning-rate range test: a few steps with a rate that rises until the loss diverges.

L. N. Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017, section 3.3; as fastai has
it, the rate rises geometrically and the test stops when the loss is four times its best.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from seclcompress.data import Batch, Data
from seclcompress.errors import UnsuitableSettingsError
from seclcompress.observer import Observer
from seclcompress.optim import set_rate
from seclcompress.processes import Processes
from seclcompress.settings.training import TrainingSettings
from seclcompress.trace import whole_copy
from seclcompress.train.environment import flushed_subnormals
from seclcompress.train.first_step import not_finite_at_once
from seclcompress.train.order import Step, steps_of
from seclcompress.train.outputs import OutputReader
from seclcompress.train.prepare import prepared, training_presentation
from seclcompress.train.setup import set_up
from seclcompress.train.step import NotFinite, Stepper
from seclcompress.train.suggestion import Smoothing
from seclcompress.train.view import View

#: The rates of a test: the first, the last, and how many.
LOWEST, HIGHEST, STEPS = 1e-5, 10.0, 100
#: How many times the best smoothed loss ends a test; fastai's figure.
_DIVERGED = 4.0


@dataclass(frozen=True)
class Readings:
    """What a range test has read, step by step.

    Attributes:
        rates: The learning rate of each step, for a group of parameters whose share is 1.
        losses: The loss of each step before its update, over the images of the step.
        smoothed: The same, smoothed (`suggestion.Smoothing`).
        diverged: Whether the test ended before its last rate: the loss was four times its best, or not
            finite.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    diverged: bool


def geometric(lowest: float, highest: float, number: int) -> list[float]:
    """Rates from the lowest to the highest, each the same factor above the one before."""
    factor = (highest / lowest) ** (1 / (number - 1))
    return [lowest * factor**place for place in range(number)]


def range_test(
    network: nn.Module,
    data: Data,
    settings: TrainingSettings,
    processes: Processes,
    *,
    teacher: nn.Module | None = None,
    view: View | None = None,
    original_parameters: int | None = None,
    outputs: OutputReader | None = None,
    teacher_outputs: OutputReader | None = None,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    steps: int = STEPS,
    on_step: Callable[[int, int], object] = lambda *_: None,
) -> Readings:
    """Trains a copy of a network by steps with a rising learning rate.

    Losses, optimizers, the relative rates of groups of parameters, batches and their order are those of
    the run that the settings describe; the schedule and the moving average are left out. The network and
    torch's random numbers stay as they are. The teacher is moved to the device and frozen, as by a run.

    Args:
        network: The network.
        data: The data set. If an epoch has fewer steps, the following epochs' are taken.
        settings: The training settings. Empty `taps` mean no attention transfer.
        processes: This process; there must be one.
        teacher: As in `Trainer`.
        view: As in `Trainer`.
        original_parameters: As in `Trainer`.
        outputs: As in `Trainer`.
        teacher_outputs: As in `Trainer`.
        lowest: The first rate.
        highest: The last rate.
        steps: The number of steps, at least 2.
        on_step: Is called after each step with the number of steps done and their total.

    Raises:
        UnsuitableSettingsError: If there are too few images for one step, the loss or a gradient is not
            finite at the first step, or the network cannot be trained on such images.
        TrainingError: As in `Trainer`.
        DataError: As in `Trainer`, or if an image cannot be read.
        UsageError: As in `Trainer`.
    """
    settings = settings.resolved(crop=data.crop, flip=data.flip)
    rates = geometric(lowest, highest, steps)
    smoothing, read, losses, smoothed = Smoothing(), [], [], []
    diverged = False
    with _random_numbers_kept(processes.device), flushed_subnormals():
        setup = set_up(
            whole_copy(network),
            data,
            settings,
            processes,
            teacher=teacher,
            view=view,
            original_parameters=original_parameters,
            outputs=outputs,
            teacher_outputs=teacher_outputs,
            observer=Observer(),
        )
        with prepared(
            setup.network, setup.teacher, data, settings, processes, setup.outputs
        ) as objective:
            take = Stepper(
                setup.network,
                objective,
                setup.optimizers,
                setup.scaler,
                data,
                settings,
                processes,
            )
            setup.network.train()
            steps_to_take = _steps(data, settings, processes, steps)
            for rate, (step, batches) in zip(rates, steps_to_take, strict=True):
                set_rate(setup.optimizers, rate)
                try:
                    loss = take(step, batches, lambda: False).loss
                except NotFinite as error:
                    if step.is_first:
                        words = f"{error} {not_finite_at_once(settings)}"
                        raise UnsuitableSettingsError(words) from None
                    diverged = True
                    break
                read.append(rate)
                losses.append(loss)
                smoothed.append(smoothing(loss))
                on_step(len(losses), steps)
                if smoothed[-1] > _DIVERGED * min(smoothed):
                    diverged = True
                    break
    return Readings(tuple(read), tuple(losses), tuple(smoothed), diverged)


def _steps(
    data: Data, settings: TrainingSettings, processes: Processes, wanted: int
) -> Iterator[tuple[Step, Iterator[Batch]]]:
    """Yields as many steps as are wanted, each with an iterator whose next batches are its own."""
    epoch = 0
    while wanted:
        epoch += 1
        steps = steps_of(epoch, data, settings, processes)[:wanted]
        if not steps:
            raise UnsuitableSettingsError(
                f"{data.name} has too few training images ({len(data.train)}) for a step that "
                f"accumulates {settings.accumulate} batches."
            )
        order = [part for step in steps for part in step.parts]
        presentation = training_presentation(data, settings, processes.device, epoch)
        batches = data.train.read(order, presentation)
        for step in steps:
            yield step, batches
        wanted -= len(steps)


@contextlib.contextmanager
def _random_numbers_kept(device: str) -> Iterator[None]:
    """Restores torch's random numbers after the block; steps are seeded one by one."""
    cuda = torch.device(device).type == "cuda"
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if cuda else []):
        yield
