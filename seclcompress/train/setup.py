"""What takes part in a run: the network and its teacher on their device, the optimizers, the scaler."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from seclcompress.data import Data, check_labels
from seclcompress.errors import TrainingError
from seclcompress.observer import Observer
from seclcompress.optim import FACTORS, factor_decay, make_optimizers, parameter_groups
from seclcompress.processes import Processes
from seclcompress.settings.training import TrainingSettings
from seclcompress.train.environment import lay_out
from seclcompress.train.outputs import OutputReader, read_outputs
from seclcompress.train.teacher import Teacher
from seclcompress.train.view import View


@dataclass(frozen=True)
class Setup:
    """What takes part in a run.

    Attributes:
        network: The network, on the run's device and in its memory layout.
        outputs: Picks the class scores out of the network's outputs.
        teacher: The teacher; None to train without one.
        optimizers: The optimizers of the network's parameters.
        scaler: The gradient scaler; without effect but for `--amp fp16`.
        factor_decay: The weight decay that is applied to the structured factors; None for a network
            without any.
    """

    network: nn.Module
    outputs: OutputReader
    teacher: Teacher | None
    optimizers: list[torch.optim.Optimizer]
    scaler: torch.amp.GradScaler
    factor_decay: float | None


def set_up(
    network: nn.Module,
    data: Data,
    settings: TrainingSettings,
    processes: Processes,
    *,
    teacher: nn.Module | None,
    view: View | None,
    original_parameters: int | None,
    outputs: OutputReader | None,
    teacher_outputs: OutputReader | None,
    observer: Observer,
) -> Setup:
    """Puts a run together; networks are moved and laid out in place.

    Args:
        network: The network to train.
        data: The data set.
        settings: The training settings, with `crop` and `flip` decided.
        processes: This process and its device.
        teacher: As in `Trainer`, like all that follow.
        view: How the teacher sees the student's images.
        original_parameters: The number of parameters of the original network.
        outputs: Picks the class scores out of the network's outputs.
        teacher_outputs: The same for the teacher.
        observer: Receives what was found out about outputs.

    Raises:
        TrainingError: If all parameters are frozen.
        DataError: If there are no images, a label is not the index of a class, or a network does not
            give one score per class.
        UsageError: If the settings name an unknown group of parameters.
    """
    check_labels(data)
    outputs = outputs or read_outputs(network, data, "the network", observer)
    lay_out(network.to(processes.device), settings, data)
    guide: Teacher | None = None
    if teacher is not None:
        size = None if view is None else view.input_size
        read = teacher_outputs or read_outputs(teacher, data, "the teacher", observer, size)
        moved = lay_out(teacher.to(processes.device), settings, data)
        taps = settings.taps if settings.compares_attention else ()
        guide = Teacher(moved, taps, read, view)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise TrainingError("All of the network's parameters are frozen: nothing can be trained.")
    mine = sum(parameter.numel() for parameter in network.parameters())
    decay = factor_decay(settings, mine, original_parameters or mine)
    kind = torch.device(processes.device).type
    return Setup(
        network,
        outputs,
        guide,
        make_optimizers(network, settings, decay),
        torch.amp.GradScaler(kind, enabled=settings.amp == "fp16"),
        decay if FACTORS in parameter_groups(network) else None,
    )
