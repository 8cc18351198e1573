"""A student's layers take over their teacher's outputs: what `recover` and `distill` share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from seclcompress.data import Data
from seclcompress.errors import UsageError
from seclcompress.networks.weights import check_finite
from seclcompress.observer import Observer
from seclcompress.recover import (
    LayerRecovery,
    Pair,
    left_out,
    pairs_of,
    recover_layers,
)
from seclcompress.resolve import Located
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.training import TrainingSettings
from seclcompress.trace import floating_dtype
from seclcompress.train.pictures import Pictures
from seclcompress.wording import listed, shape
from seclcompress.workflows.pictures import draw_pictures

#: Pictures at once: the patches of a batch are held at a time.
_BATCH = 25


class NothingToRecoverError(UsageError):
    """None of a student's rewritten layers can be recovered one by one."""


@dataclass(frozen=True)
class TakingOver:
    """What is to be recovered, and from which pictures.

    Attributes:
        student: The student's network, on its device.
        teacher: The teacher's.
        pairs: The layers that can be recovered, in running order.
        left_out: Why a rewritten layer cannot be, by its name.
        pictures: The pictures to learn from.
        settings: How.
        seed: Chooses the pictures and the positions in them.
    """

    student: nn.Module
    teacher: nn.Module
    pairs: Sequence[Pair]
    left_out: dict[str, str]
    pictures: Pictures
    settings: RecoverySettings
    seed: int

    @property
    def count(self) -> int:
        """The number of pictures."""
        return self.pictures.count


@dataclass(frozen=True)
class TakenOver:
    """What became of the layers.

    Attributes:
        layers: What became of each layer, in running order.
        seconds: How long it took.
        record: The settings, the pictures and the layers, for a folder's configuration.
    """

    layers: list[LayerRecovery]
    seconds: float
    record: dict[str, Any]


def check_sizes(student: Located, teacher: Located) -> None:
    """Checks that layers' outputs can be compared at all.

    Raises:
        UsageError: If the networks see images of different sizes.
    """
    if student.input_size != teacher.input_size:
        raise UsageError(
            f"{student.label} sees images of {shape(student.input_size)} and --teacher {teacher.label} "
            f"of {shape(teacher.input_size)}, so their layers' outputs cannot be compared. Give both "
            "one --input-size."
        )


def check_classifier(
    teacher: Located, untrained: Sequence[str], data: Data, settings: RecoverySettings
) -> None:
    """Checks that no kept layer would be corrected towards random weights.

    Args:
        teacher: The teacher.
        untrained: Its parameters without weights, made anew for another number of classes.
        data: The data set.
        settings: How to recover.

    Raises:
        UsageError: If there are such parameters, and kept layers are to be corrected.
    """
    if untrained and settings.kept:
        raise UsageError(
            f"--teacher {teacher.label}: {', '.join(untrained)} are untrained, for another number of "
            f"classes than its weights were published with. Train it on {data.name} first, or recover "
            "the rewritten layers only, with --no-kept."
        )


def prepare(
    student: nn.Module,
    teacher: nn.Module,
    data: Data,
    labels: tuple[str, str],
    settings: RecoverySettings,
    training: TrainingSettings,
    observer: Observer,
) -> TakingOver:
    """Chooses the pictures and pairs the layers; nothing is changed.

    Args:
        student: The student's network, on `training.device`.
        teacher: The teacher's, on the same device; it takes the student's images.
        data: Its training images are the pictures.
        labels: How the student and the teacher are called in messages.
        settings: How to recover.
        training: Its seed, device and workers are used.
        observer: Is told which layers are left out, and if there are fewer pictures than asked for.

    Raises:
        NothingToRecoverError: If no rewritten layer can be recovered.
        UsageError: If the teacher is not the original.
    """
    order, shown = draw_pictures(data, settings.pictures, "--pictures", training, observer)
    pictures = Pictures(data.train, order.split(_BATCH), shown)
    example = next(pictures.read(floating_dtype(teacher)))[:1]
    pairs = pairs_of(student, teacher, example, labels[1])
    refused = {pair.name: why for pair in pairs if pair.rewritten and (why := left_out(pair))}
    kept = [pair for pair in pairs if pair.name not in refused and left_out(pair) is None]
    if not any(pair.rewritten for pair in kept):
        raise NothingToRecoverError(
            f"None of the rewritten layers of {labels[0]} can be recovered layer by layer: "
            f"{next(iter(refused.values()))}. Distil it instead, without a recovery: seclcompress "
            "distill."
        )
    for why in dict.fromkeys(refused.values()):
        names = [name for name, other in refused.items() if other == why]
        observer.message(f"Left as they start, because {why}: {listed(names, 5)}.")
    return TakingOver(student, teacher, kept, refused, pictures, settings, training.seed)


def take_over(work: TakingOver, observer: Observer) -> TakenOver:
    """Recovers the student's layers, in place.

    Args:
        work: What `prepare` gave.
        observer: Is told of each layer.

    Raises:
        SeclcompressError: If a weight is no longer a finite number.
    """
    settings, done = work.settings, 0
    total = sum(
        pair.rewritten or (settings.kept and settings.inputs != "teacher") for pair in work.pairs
    )
    began = time.monotonic()
    with observer.counting("Recovering layers", total) as tell:

        def on_layer(layer: LayerRecovery) -> None:
            nonlocal done
            done += 1
            tell(done, total)
            kind = "" if layer.rewritten else " (kept)"
            observer.message(
                f"{layer.name}{kind}: error {100 * layer.before:.1f} % to {100 * layer.after:.1f} %"
            )

        layers = recover_layers(
            work.student, work.teacher, work.pairs, work.pictures, settings, work.seed, on_layer
        )
    seconds = time.monotonic() - began
    check_finite(work.student.state_dict(), "The recovered network")
    record = {
        "seed": work.seed,
        **settings.model_dump(),
        "pictures": work.count,
        "layers": [asdict(layer) for layer in layers],
        "left_out": work.left_out,
        "torch": torch.__version__,
    }
    return TakenOver(layers, seconds, record)
