"""The teacher: where it comes from, how it sees the data, and where attention is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from seclcompress.data import Data, permutation
from seclcompress.errors import DataError, UsageError
from seclcompress.networks import check_image_classification
from seclcompress.observer import Observer
from seclcompress.resolve import Located, is_name, locate
from seclcompress.settings.training import TrainingSettings
from seclcompress.taps import check_taps, find_taps
from seclcompress.trace import trace_network
from seclcompress.train.view import View
from seclcompress.wording import numbers, shape

#: The learning rate of a student that `recover` wrote, where none is chosen.
AFTER_RECOVERY = 0.01
#: Times that rate: more is said to be dangerous. (Ten times is known to be; between, nothing was tried.)
_HIGH = 2
_WHO_TEACHES = (
    "It would learn nothing. The teacher is the network that the student was converted from; `convert` "
    "makes a student of it."
)


def locate_teacher(
    teacher: str,
    student: Located,
    *,
    weights: str | None,
    weights_key: str | None,
    input_size: tuple[int, ...] | None,
    factory: str | None,
    download: bool,
) -> Located:
    """Locates the teacher at its own input size, if it is known, or else at the student's.

    Args:
        teacher: The teacher as on the command line.
        student: The student.
        weights: The teacher's weights as typed.
        weights_key: Where in their file the weights stand; None to look for them.
        input_size: The size that the person chose for it.
        factory: The factory to trust if a saved folder asks for it.
        download: Whether published weights may be downloaded.

    Raises:
        UsageError: If a named teacher has no weights, or a network is for another task.
    """
    guide = locate(
        teacher,
        weights=weights,
        weights_key=weights_key,
        input_size=input_size,
        num_classes=student.network.num_classes if is_name(teacher) else None,
        factory_name=factory,
        download=download,
    )
    if input_size is None and guide.folder is None and guide.preprocessing is None:
        guide = replace(guide, input_size=student.input_size)
    for source in (student, guide):
        check_image_classification(source.network, "distill")
    if is_name(teacher) and weights is None:
        raise UsageError(
            f"--teacher {teacher}: an untrained network teaches nothing. Give a folder, or "
            "--teacher-weights."
        )
    return replace(guide, weights_option="--teacher-weights", key_option="--teacher-weights-key")


def check_teaches(student: Located, teacher: Located) -> None:
    """Refuses a student that is its own teacher.

    Raises:
        UsageError: If both are one saved folder.
    """
    folders = [one.folder.resolve() for one in (student, teacher) if one.folder is not None]
    if len(folders) == 2 and folders[0] == folders[1] and teacher.weights is None:
        raise UsageError(f"{student.label} is the student and its own --teacher. {_WHO_TEACHES}")


def check_differs(
    student: Located, learner: nn.Module, teacher: Located, master: nn.Module
) -> None:
    """Refuses a student with the weights of its teacher, from which it has nothing to learn.

    Args:
        student: The student, for messages.
        learner: It, with its weights.
        teacher: The teacher, for messages.
        master: It, with its weights.

    Raises:
        UsageError: If both have the same tensors.
    """
    mine, theirs = learner.state_dict(), master.state_dict()
    if mine.keys() == theirs.keys() and all(
        value.dtype == theirs[name].dtype and torch.equal(value, theirs[name])
        for name, value in mine.items()
    ):
        raise UsageError(
            f"{student.label} and --teacher {teacher.label} are one network with the same weights. "
            f"{_WHO_TEACHES}"
        )


def check_scores(
    teacher: Located, untrained: Sequence[str], images: Data, settings: TrainingSettings
) -> None:
    """Refuses a teacher whose classifier is not trained, where its scores are to teach.

    Args:
        teacher: The teacher.
        untrained: The layers of it that its weights left untrained, by their names.
        images: The data.
        settings: The training settings.

    Raises:
        UsageError: If there are such layers, and its scores count.
    """
    if untrained and settings.alpha > 0:
        raise UsageError(
            f"--teacher {teacher.label}: {', '.join(untrained)} are untrained, for another "
            "number of classes than its weights were published with, so its scores teach "
            f"nothing. Train it on {images.name} first, or only compare attention with --alpha 0."
        )


def gently(
    settings: TrainingSettings,
    student: Located,
    observer: Observer,
    *,
    recovers: bool = False,
    inherits: str | None = None,
) -> TrainingSettings:
    """Settings whose learning rate leaves a recovered or narrowed student what it has.

    The usual rate undoes that within some steps: docs/recovery.md and docs/slimming.md have the figures.
    Other students' settings stay as they are.

    Args:
        settings: The settings; a learning rate that was chosen stays.
        student: The student.
        observer: Receives what was decided.
        recovers: Whether the student is recovered at the start of this run.
        inherits: What else it has to lose, in words; None for nothing.
    """
    recovered = student.config is not None and "recovered" in student.config.training
    if recovers or recovered:
        what = f"{student.label} {'is' if recovers else 'was'} recovered"
    elif inherits is not None:
        what = inherits
    elif _is_narrowed(student):
        what = f"{student.label} was narrowed and has trained weights"
    else:
        return settings
    if "lr" in settings.model_fields_set:
        if settings.lr > _HIGH * AFTER_RECOVERY:
            observer.message(
                f"{what}: --lr {settings.lr:g} may undo that, where {AFTER_RECOVERY:g} did not."
            )
        return settings
    observer.message(
        f"{what}: --lr is {AFTER_RECOVERY:g} and not {settings.lr:g}, which would undo that."
    )
    return settings.model_copy(update={"lr": AFTER_RECOVERY})


def _is_narrowed(student: Located) -> bool:
    """Whether `slim` wrote it from a trained network, and it was neither rewritten nor trained since."""
    config = student.config
    return config is not None and config.trained_before_slimming and not config.training


def view_of(teacher: Located, data: Data, *, by_order: bool, observer: Observer) -> View | None:
    """Decides how a teacher sees the images that a student is shown.

    Args:
        teacher: The teacher, with its own input size, preprocessing and classes if they are known.
        data: The data as the student sees them.
        by_order: Whether classes of other names are the same ones in the same order.
        observer: Receives a line on each thing that the teacher sees in its own way.

    Returns:
        None if the teacher sees what the student sees.

    Raises:
        DataError: If the teacher was trained on other classes or takes other channels.
    """
    mine, size = data.preprocessing, data.input_size
    if size[0] != teacher.input_size[0] and size[0] != 1:
        raise DataError(
            f"{teacher.label} takes {teacher.input_size[0]} channels, but the student {size[0]}. Only "
            "grey images can be shown to a teacher of another number of channels."
        )
    theirs = teacher.preprocessing or mine
    view = View(mine, theirs, teacher.input_size, _order(teacher, data, by_order, observer))
    if view.renormalises:
        observer.message(
            f"{teacher.label} sees the images with its own mean {numbers(theirs.mean)} and standard "
            f"deviation {numbers(theirs.std)}; the student has {numbers(mine.mean)} and "
            f"{numbers(mine.std)}."
        )
    if teacher.input_size != size:
        observer.message(
            f"{teacher.label} sees the images at {shape(teacher.input_size)}, resized from the "
            f"student's {shape(size)}."
        )
    if not view.renormalises and teacher.input_size == size and view.order is None:
        return None
    return view


def _order(
    teacher: Located, data: Data, by_order: bool, observer: Observer
) -> tuple[int, ...] | None:
    """For each class of the data its index among the teacher's; None if they are the same."""
    classes = teacher.config.classes if teacher.config else None
    if not classes or classes == data.classes or len(classes) != len(data.classes):
        return None
    order = permutation(data.classes, classes)
    if order is not None:
        observer.message(
            f"The classes of {teacher.label} are in another order than the student's; its scores are "
            "lined up by their names."
        )
        return tuple(order)
    odd = sorted(set(classes) ^ set(data.classes))
    if by_order:
        observer.message(
            f"{teacher.label} was trained on other classes than the student is ({', '.join(odd[:5])}); "
            "they are taken in their order (--classes-by-order)."
        )
        return None
    raise DataError(
        f"{teacher.label} was trained on other classes than the student is; only one of them has: "
        f"{', '.join(odd[:5])}. Use a teacher of the same classes. If they are the same ones in the "
        "same order under other names, say --classes-by-order."
    )


def with_taps(
    settings: TrainingSettings, learner: nn.Module, student: Located, teacher: Located
) -> TrainingSettings:
    """Completes the settings with default taps, and checks that the taps fit both networks.

    Args:
        settings: The settings; `taps` count if they were given.
        learner: The student with its structured layers.
        student: Where the student comes from.
        teacher: Where the teacher comes from.

    Raises:
        UsageError: If there are no taps, or a tap does not fit both networks.
    """
    if settings.beta == 0:
        return settings
    # The taps are found in the teacher's skeleton, the original without structured layers.
    skeleton = teacher.skeleton()
    theirs = trace_network(skeleton, teacher.input_size)
    mine = trace_network(learner, student.input_size)
    named = "taps" in settings.model_fields_set
    names = settings.taps if named else tuple(find_taps(skeleton, theirs))
    if not names:
        raise UsageError(
            "No module ends a resolution group here. Name some with --taps, or switch "
            "attention transfer off with --beta 0."
        )
    try:
        check_taps(names, mine, theirs)
    except UsageError as error:
        if student.network.name != teacher.network.name and not named:
            raise UsageError(
                f"{error} {student.label} is made from {student.network.name}, and the teacher is "
                f"{teacher.network.name}. Give the teacher that it was made from, or modules that both "
                "have with --taps, or switch attention transfer off with --beta 0."
            ) from error
        if student.input_size == teacher.input_size:
            raise
        same = shape(student.input_size)
        raise UsageError(
            f"{error} The teacher's input size is another one; give --teacher-input-size {same}, or "
            "switch attention transfer off with --beta 0."
        ) from error
    return settings.model_copy(update={"taps": names})
