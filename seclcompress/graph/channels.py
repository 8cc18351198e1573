"""Groups of channels: which of them can be lost, and what is lost with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from seclcompress.errors import NetworkError
from seclcompress.graph.atoms import FIXED, Atoms
from seclcompress.graph.following import Followed, follow
from seclcompress.graph.groups import Group, Member, Side
from seclcompress.graph.trial import first_failures
from seclcompress.torch_private import ConvNd
from seclcompress.wording import shape

#: Seconds after which an analysis ends; what is not tried by then keeps its width.
TIME_LIMIT = 60.0


@dataclass(frozen=True)
class Channels:
    """What can be narrowed in a network.

    Attributes:
        input_size: (channels, *spatial) of the run that was analysed.
        groups: The groups that can be narrowed, in running order.
        fixed: Why other layers' outputs keep their width, by the layer's name.
    """

    input_size: tuple[int, ...]
    groups: tuple[Group, ...]
    fixed: dict[str, str] = field(default_factory=dict)


def channel_groups(
    network: nn.Module,
    input_size: tuple[int, ...],
    *,
    time_limit: float = TIME_LIMIT,
    progress: Callable[[int, int], object] | None = None,
) -> Channels:
    """Finds which channels of a network can be lost, and what is lost with them.

    The network runs on no values, and every channel is followed through its operations. A channel that
    meets an operation which is not known to leave channels as they are (a normalisation over them, a
    product of activations) stays. Then every group is narrowed for a trial, and the run repeated: where
    the network's code has sizes of its own, the run ends in an error or channels meet others, and the
    group stays.

    Args:
        network: The network. It stays as it is, and may be a skeleton.
        input_size: (channels, *spatial).
        time_limit: Seconds for the trials.
        progress: Told of trials: how many groups are settled, and of how many.

    Returns:
        The groups; none where nothing can be narrowed.

    Raises:
        NetworkError: If the network cannot run so.
    """
    started = time.monotonic()
    followed = Followed()
    try:
        follow(network, input_size, followed, train=False)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise NetworkError(
            f"The channels of this network cannot be followed at an input of {shape(input_size)}: "
            f"{lines[0].rstrip('.')}."
        ) from error
    _follow_what_trains(network, input_size, followed)
    groups, fixed = _groups(network, followed)
    left = time_limit - (time.monotonic() - started)
    failures = first_failures(network, input_size, followed, groups, left, progress)
    kept = tuple(group for group in groups if group.name not in failures)
    return Channels(tuple(input_size), kept, fixed | failures)


def _follow_what_trains(
    network: nn.Module, input_size: tuple[int, ...], followed: Followed
) -> None:
    """Follows what runs in training only, such as auxiliary classifiers, if something does.

    A layer that never runs, or only in a run that fails here, has no channels that could be lost; but
    the channels that it would read are not known.
    """
    names = {
        name for name, module in network.named_modules() if isinstance(module, ConvNd | nn.Linear)
    }
    if names <= followed.sides.keys():
        return
    try:
        follow(network, input_size, followed, train=True)
    except Exception:  # whatever a network raises where it is not made for this
        return


def _groups(network: nn.Module, followed: Followed) -> tuple[list[Group], dict[str, str]]:
    atoms = followed.atoms
    places: dict[int, dict[Member, list[int]]] = {}
    fixed: dict[str, str] = {}
    for name, (inputs, outputs) in followed.sides.items():
        layer = network.get_submodule(name)
        sides: list[tuple[Side, list[int]]] = [("outputs", atoms.roots(outputs))]
        if isinstance(layer, ConvNd | nn.Linear):
            sides.insert(0, ("inputs", atoms.roots(inputs)))
        for side, roots in sides:
            for position, root in enumerate(roots):
                reason = atoms.reason(root)
                if reason is not None:
                    if side == "outputs":
                        fixed.setdefault(name, _most_telling(atoms, outputs.tolist(), reason))
                    continue
                places.setdefault(root, {}).setdefault(Member(name, side), []).append(position)
    alike: dict[tuple[tuple[Member, int], ...], list[dict[Member, list[int]]]] = {}
    for found in places.values():
        signature = tuple((member, len(positions)) for member, positions in found.items())
        alike.setdefault(signature, []).append(found)
    groups = [
        _group(members) for members in alike.values() if len(members) > 1 and len(members[0]) > 1
    ]
    return groups, fixed


def _group(atoms: list[dict[Member, list[int]]]) -> Group:
    members = [*atoms[0]]
    makers = [member for member in members if member.side == "outputs"]
    first = (makers or members)[0]
    ordered = (first, *(member for member in members if member != first))
    return Group(
        first.layer,
        ordered,
        tuple(tuple(tuple(found[member]) for member in ordered) for found in atoms),
    )


def _most_telling(atoms: Atoms, labels: list[int], first: str) -> str:
    """The most telling reason why one of these channels stays: one that is of its own."""
    for label in labels:
        reason = atoms.reason(label)
        if label != FIXED and reason is not None:
            return reason
    return first
