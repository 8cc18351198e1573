"""Groups of channels, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Side = Literal["inputs", "outputs"]


@dataclass(frozen=True)
class Member:
    """A layer's side that has channels of a group.

    Attributes:
        layer: The layer's name.
        side: Whether its inputs or its outputs are meant. A normalisation counts as having outputs.
    """

    layer: str
    side: Side


@dataclass(frozen=True)
class Group:
    """Channels that the same layers have, in atoms each of which can be lost.

    Attributes:
        name: The first layer that makes these channels.
        members: The layers that have them.
        atoms: For each atom its channels' positions in each member, in the order of `members`.
    """

    name: str
    members: tuple[Member, ...]
    atoms: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def step(self) -> int:
        """Channels of the first layer that an atom has; more than one where layers have groups."""
        return len(self.atoms[0][0])

    @property
    def width(self) -> int:
        """Channels of the first layer that the group has."""
        return self.step * len(self.atoms)
