"""A recovery from front to back: a layer of the student learns the teacher's outputs, then the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from seclcompress.errors import UsageError
from seclcompress.recover.moments import Moments, patch_width
from seclcompress.recover.pairs import WIDEST, Pair
from seclcompress.recover.result import LayerRecovery
from seclcompress.recover.solve import correct, distance, solve
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.substitutions import StructuredLayer
from seclcompress.trace import floating_dtype
from seclcompress.train.pictures import Pictures


class _Enough(Exception):  # noqa: N818 (no error: it ends a forward pass early)
    """The layer has run as often as it does."""


def left_out(pair: Pair) -> str | None:
    """Why a replacement cannot be recovered, in words; None if it can be."""
    if patch_width(pair.old) > WIDEST:
        return f"its patches have {patch_width(pair.old):,} numbers, more than {WIDEST:,}"
    if distance(pair.new, pair.old) is None:
        return "its family is not one convolution of its inputs"
    return None


def recover_layers(
    student: nn.Module,
    teacher: nn.Module,
    pairs: Sequence[Pair],
    pictures: Pictures,
    settings: RecoverySettings,
    seed: int,
    on_layer: Callable[[LayerRecovery], object],
) -> list[LayerRecovery]:
    """Recovers the layers of a student one after another, in place; batch norm is estimated at the end.

    Args:
        student: The student, on the pictures' device. It ends in eval mode.
        teacher: Its original, on the same device.
        pairs: The pairs that can be recovered, in running order.
        pictures: The pictures.
        settings: How.
        seed: Draws the positions.
        on_layer: Is told of each layer that is done.

    Returns:
        What became of each layer, in order.
    """
    done: list[LayerRecovery] = []
    student.eval()
    teacher.eval()
    for pair in pairs:
        if not pair.rewritten and not settings.kept:
            continue
        if settings.batch_norm == "each" and settings.inputs != "teacher":
            pictures.estimate_batch_norm(student)
        found = _recover(student, teacher, pair, pictures, settings, seed)
        if found is not None:
            done.append(found)
            on_layer(found)
    if settings.batch_norm != "never":
        pictures.estimate_batch_norm(student)
    return done


def _recover(
    student: nn.Module,
    teacher: nn.Module,
    pair: Pair,
    pictures: Pictures,
    settings: RecoverySettings,
    seed: int,
) -> LayerRecovery | None:
    def moments(*, own: bool) -> Moments:
        return _moments(
            student, teacher, pair, pictures, own=own, positions=settings.positions, seed=seed
        )

    if not isinstance(pair.new, StructuredLayer):
        if settings.inputs == "teacher":
            return None  # on the teacher's inputs it has no error
        assert isinstance(pair.new, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
        before, after = correct(pair.new, pair.old, moments(own=True), settings.ridge)
        return LayerRecovery(pair.name, False, before, after)
    kinds = {"both": (False, True), "teacher": (False,), "student": (True,)}[settings.inputs]
    shown = [moments(own=own) for own in kinds]
    first = distance(pair.new, pair.old)
    assert first is not None
    before = shown[-1].error(first)
    after = before
    for one in shown:
        _, after = solve(pair.new, pair.old, one, settings.iterations)
    return LayerRecovery(pair.name, True, before, after)


def _moments(
    student: nn.Module,
    teacher: nn.Module,
    pair: Pair,
    pictures: Pictures,
    *,
    own: bool,
    positions: int,
    seed: int,
) -> Moments:
    found = Moments(pair.old)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for images in pictures.read(floating_dtype(teacher)):
            theirs = _inputs(teacher, pair.theirs, pair.calls, images)
            mine = _inputs(student, pair.new, pair.calls, images) if own else [None] * len(theirs)
            if len(mine) != len(theirs):
                raise UsageError(
                    f"{pair.name} runs {len(theirs)} times in the teacher and {len(mine)} times in the "
                    "student, so its outputs cannot be compared."
                )
            for one, other in zip(theirs, mine, strict=True):
                found.add(one, other, positions, generator)
    return found


def _inputs(network: nn.Module, layer: nn.Module, calls: int, images: Tensor) -> list[Tensor]:
    """The inputs of a layer in a forward pass, which ends there."""
    seen: list[Tensor] = []

    def look(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach()
        # A layer behind may work in place, so what is not used at once is copied.
        seen.append(x if calls == 1 else x.clone())
        if len(seen) == calls:
            raise _Enough

    hook = layer.register_forward_pre_hook(look)
    try:
        network(images)
    except _Enough:
        pass
    finally:
        hook.remove()
    return seen
