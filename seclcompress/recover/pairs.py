"""The pairs of layers of a recovery: the student's, and the teacher's of the same name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seclcompress.errors import UsageError
from seclcompress.substitutions import StructuredLayer, structured_layers
from seclcompress.substitutions.site import Convolution, folded

#: Patches of more numbers make matrices of more than 0.5 GB.
WIDEST = 8192
_PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True)
class Pair:
    """A layer of the student and the teacher's of the same name.

    Attributes:
        name: The name in both networks.
        new: The student's layer, a replacement or a plain layer that was kept.
        old: The teacher's, with plain weights.
        theirs: The teacher's module itself, whose inputs are looked at.
        calls: How often it runs on a picture.
    """

    name: str
    new: nn.Module
    old: Convolution | nn.Linear
    theirs: nn.Module
    calls: int

    @property
    def rewritten(self) -> bool:
        """Whether the student's layer is a replacement."""
        return isinstance(self.new, StructuredLayer)


def pairs_of(student: nn.Module, teacher: nn.Module, images: Tensor, label: str) -> list[Pair]:
    """Pairs the layers of two networks, in the order in which the teacher runs them first.

    Layers that are kept are among them from the first replacement on; those before it have the teacher's
    own inputs.

    Args:
        student: The student.
        teacher: Its original.
        images: A few images, to see the order, (batch, *input_size).
        label: The teacher's name, for messages.

    Raises:
        UsageError: If the student has no replacements, or the teacher is not its original.
    """
    replaced = {id(layer) for layer in structured_layers(student)}
    if not replaced:
        raise UsageError(
            "The student has no rewritten layer, so there is nothing to recover. Convert it first: "
            "seclcompress convert."
        )
    names = {name: part for name, part in student.named_modules() if id(part) in replaced}
    modules = dict(teacher.named_modules())
    for name, new in names.items():
        _check(name, new, modules.get(name), label)
    mine = dict(student.named_modules())
    counts = _calls(teacher, images)
    pairs: list[Pair] = []
    for name, calls in counts.items():
        new, theirs = mine.get(name), modules[name]
        if name not in names and not (pairs and _kept(new, theirs)):
            continue
        assert new is not None
        assert isinstance(theirs, _PLAIN)
        old = theirs if isinstance(theirs, nn.Linear) else folded(theirs)
        pairs.append(Pair(name, new, old, theirs, calls))
    return pairs


def _check(name: str, new: nn.Module, theirs: nn.Module | None, label: str) -> None:
    advice = "Give the teacher that the student was converted from."
    if theirs is None:
        raise UsageError(f"--teacher {label} has no layer {name}, which the student has. {advice}")
    if isinstance(theirs, StructuredLayer):
        raise UsageError(f"{name} is rewritten in --teacher {label} as well. {advice}")
    if not isinstance(theirs, _PLAIN):
        raise UsageError(
            f"{name} of --teacher {label} is a {type(theirs).__name__}, and no layer that can be "
            f"compared. {advice}"
        )
    read: tuple[str, ...] = (
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
    )
    read = ("in_features", "out_features") if isinstance(theirs, nn.Linear) else read
    for one in read:
        own, other = getattr(new, one, None), getattr(theirs, one)
        if own != other:
            raise UsageError(
                f"{name} has {one} {own} in the student and {other} in --teacher {label}. {advice}"
            )


def _kept(new: nn.Module | None, theirs: nn.Module) -> bool:
    """Whether both are the same plain layer, which regression can correct."""
    if not isinstance(theirs, _PLAIN) or type(new) is not type(theirs):
        return False
    assert isinstance(new, _PLAIN)
    grouped = not isinstance(new, nn.Linear) and new.groups != 1
    return not grouped and "weight" in dict(new.named_parameters(recurse=False))


def _calls(teacher: nn.Module, images: Tensor) -> dict[str, int]:
    """How often each convolution and Linear runs, in the order of the first time."""
    counts: dict[str, int] = {}
    hooks = []
    for name, module in teacher.named_modules():
        if isinstance(module, _PLAIN):

            def count(_module: nn.Module, _inputs: object, name: str = name) -> None:
                counts[name] = counts.get(name, 0) + 1

            hooks.append(module.register_forward_pre_hook(count))
    try:
        with torch.no_grad():
            teacher(images)
    finally:
        for hook in hooks:
            hook.remove()
    return counts
