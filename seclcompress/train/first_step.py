"""What the first step of a run tells of the network and its images: nothing is learnt before it."""

from __future__ import annotations

import math

from seclcompress.settings.training import TrainingSettings

#: How many times ln(classes) a loss is worth a word. Some random networks begin at several times and
#: train well, such as torchvision's mnasnet.
_FAR = 10


def far_from_chance(loss: float, classes: int) -> str | None:
    """Says that the first loss is far above that of a network that knows nothing; None if it is not.

    Args:
        loss: The mean cross-entropy of the first step.
        classes: The number of classes.
    """
    knows_nothing = math.log(classes)
    if loss <= _FAR * knows_nothing:
        return None
    return (
        f"The loss of the first step is {loss:.3g}; a network that gives {classes} classes the same "
        f"score has {knows_nothing:.3g} (ln {classes}). It is sure of wrong classes before it has "
        "learnt anything: pixel values may have another range than its weights expect (--preprocessing, "
        "--mean, --std), or its layers enlarge what they get. If the loss does not fall soon, try a "
        "smaller --lr or --warmup-epochs."
    )


def not_finite_at_once(settings: TrainingSettings) -> str:
    """What to do about a number that is not finite before any step was taken.

    Args:
        settings: The settings of the run.
    """
    half = (
        f" Or compute in full precision, without --amp {settings.amp}."
        if settings.amp != "off"
        else ""
    )
    return (
        "No step was taken before it, so --lr is not the cause: look at the weights that the run begins "
        f"with, and at the pixel values (--preprocessing, --mean, --std).{half}"
    )
