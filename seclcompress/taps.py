"""Taps: the modules whose attention is compared, at the ends of a network's resolution groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from seclcompress.errors import UsageError
from seclcompress.plan import convolutions
from seclcompress.trace import Trace

#: The names that detectors and segmentation networks give to the part that is a classifier's as well.
_BACKBONES = ("backbone", "encoder")


def find_taps(network: nn.Module, trace: Trace) -> list[str]:
    """Finds the last module at each resolution, on the network's main path.

    The search starts from the network's own children, or from its backbone if one has that name. It
    replaces the child with most convolutions by that child's own children, until the outputs have at
    least three resolutions. It finds `layer1 … layer4` of a ResNet, the last convolution before each
    pooling of a VGG, and the last block of each stage of a MobileNet. The stem is not counted, and
    neither are outputs of one position, which have no attention to compare.

    Args:
        network: The network that was traced.
        trace: The network's trace.

    Returns:
        Module names in running order, at most one per resolution; possibly none.
    """
    finished = {call.name: (index, call.shape) for index, call in enumerate(trace.calls)}
    ran = [name for name in finished if name in convolutions(network)]
    inner = set(ran[1:])  # without the stem

    def weight(name: str) -> int:
        return sum(conv == name or conv.startswith(f"{name}.") for conv in inner)

    children = [name for name, _ in network.named_children() if weight(name)]
    level = [name for name in children if name in _BACKBONES] or children
    best: dict[int, str] = {}
    while level:
        ends = _ends(sorted(level, key=lambda name: finished.get(name, (-1,))[0]), finished)
        best = max(best, ends, key=len)  # if no level has three, the outermost level with most wins
        if len(best) >= 3:
            break
        widest = max(level, key=weight)
        children = [
            f"{widest}.{name}" for name, _ in network.get_submodule(widest).named_children()
        ]
        opened = [name for name in children if weight(name)]
        if not opened:
            break
        level = [name for name in level if name != widest] + opened
    return list(best.values())


def check_taps(names: Sequence[str], student: Trace, teacher: Trace) -> None:
    """Checks that attention can be compared at these modules.

    Args:
        names: Names of modules.
        student: The student's trace.
        teacher: The teacher's trace at the same input size.

    Raises:
        UsageError: If a network has no such module, the module does not run, its output has no
            positions, or the output's size differs between student and teacher.
    """
    shapes = []
    for whose, trace in (("student", student), ("teacher", teacher)):
        found = {call.name: call.shape for call in trace.calls}
        for name in names:
            if name not in found:
                raise UsageError(
                    f"There is no module '{name}' to tap in the {whose}, or it does not run."
                )
            if len(found[name]) < 3:
                raise UsageError(f"'{name}' gives {found[name]}: no map to compare attention on.")
        shapes.append({name: found[name][2:] for name in names})
    for name in names:
        mine, theirs = shapes[0][name], shapes[1][name]
        if mine != theirs:
            raise UsageError(
                f"'{name}' gives maps of {mine} in the student, {theirs} in the teacher."
            )


def _ends(names: Sequence[str], finished: dict[str, tuple[int, tuple[int, ...]]]) -> dict[int, str]:
    """The last of the named modules at each number of output positions, in running order."""
    ends: dict[int, str] = {}
    for name in names:
        shape = finished[name][1] if name in finished else ()
        positions = math.prod(shape[2:]) if len(shape) >= 3 else 1
        if positions > 1:
            ends.pop(positions, None)
            ends[positions] = name
    return ends


class Taps:
    """A context manager that keeps the outputs of some modules.

    Args:
        network: The network that contains the modules.
        names: The modules' names.

    Raises:
        UsageError: If the network has no such module.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        modules = dict(network.named_modules())
        for name in names:
            if name not in modules:
                raise UsageError(f"There is no module '{name}' to tap in this network.")
        self._modules = [(name, modules[name]) for name in names]
        self._outputs: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Taps:
        for name, module in self._modules:
            self._handles.append(module.register_forward_hook(self._keeper(name)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._outputs.clear()

    def _keeper(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            del module, args
            self._outputs[name] = output

        return hook

    def clear(self) -> None:
        """Releases the outputs that are kept."""
        self._outputs.clear()

    def take(self) -> list[Tensor]:
        """Returns the outputs of the last forward pass, in the order of the names, and releases them."""
        taken = [self._outputs[name] for name, _ in self._modules]
        self._outputs.clear()
        return taken
