"""Where attention is compared: the ends of a network's resolution groups, found from its trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from seclcompress.errors import UsageError
from seclcompress.plan import convolutions
from seclcompress.trace import Trace

#: What detectors and segmentation networks call the part that a classifier shares with them.
_BACKBONES = ("backbone", "encoder")


def find_taps(network: nn.Module, trace: Trace) -> list[str]:
    """The last module at each resolution, on the network's main path.

    Starting from the network's own children, or from its backbone where one is called so, the child
    with most convolutions is opened until at least three resolutions can be told apart: `layer1 …
    layer4` of a ResNet, the last convolution before each pooling of a VGG, the last block of each
    stage of a MobileNet. The stem is no group, and a map of one position has no attention to compare.

    Args:
        network: The network that was traced.
        trace: Its trace.

    Returns:
        Module names in the order in which they run; at most one a resolution, possibly none.
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
        best = max(best, ends, key=len)  # where none has three, the outermost that has most
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
    """Makes sure that attention can be compared at these modules.

    Args:
        names: Of modules.
        student: The student's trace.
        teacher: The teacher's trace at the same input size.

    Raises:
        UsageError: If a network has no such module, it does not run, or its maps have no positions or
            other sizes than the teacher's.
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
    """The last of the named modules at each number of positions, in running order."""
    ends: dict[int, str] = {}
    for name in names:
        shape = finished[name][1] if name in finished else ()
        positions = math.prod(shape[2:]) if len(shape) >= 3 else 1
        if positions > 1:
            ends.pop(positions, None)
            ends[positions] = name
    return ends


class Taps:
    """Keeps the outputs of some modules while it is open.

    Args:
        network: Whose modules.
        names: Their names.

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
        """Lets go of what was kept."""
        self._outputs.clear()

    def take(self) -> list[Tensor]:
        """The outputs of the last forward pass, in the order of the names; they are let go."""
        taken = [self._outputs[name] for name, _ in self._modules]
        self._outputs.clear()
        return taken
