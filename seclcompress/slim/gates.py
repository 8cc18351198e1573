"""Gates: a factor for each channel, trained with the network, that may fall to zero.

`attaching` gives them to a network. A channel with a closed gate can be lost without any change of the
outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seclcompress.graph import Group
from seclcompress.slim.choice import may_lose

#: A gate that is no larger is closed: what it multiplies changes no output that anybody sees.
CLOSED = 1e-4
#: What a gate is at first, at least: weights are divided by it.
_LEAST_AT_FIRST = 0.05
#: The gate of a channel that has to stay, at least.
_LEAST = 1e-3


class Gates(nn.Module, ABC):
    """The gates of a network's groups of channels, one for each atom of a group.

    Args:
        groups: The groups, each of which has a layer that reads its channels.
        least: The share of a group's atoms that stays; at least one does.
    """

    def __init__(self, groups: Sequence[Group], least: float) -> None:
        super().__init__()
        #: How many atoms of each group stay whatever happens.
        self.stay = [len(group.atoms) - may_lose(group, least) for group in groups]

    @abstractmethod
    def factors(self) -> list[Tensor]:
        """The gates by group: tensors of shape (atoms,), differentiable."""

    @abstractmethod
    def press(self, amount: float, prices: Sequence[Tensor]) -> None:
        """Closes the gates a little, as a step of gradient descent on their price does.

        Args:
            amount: Learning rate × price.
            prices: Relative prices of the atoms, by group: tensors of shape (atoms,).
        """

    @abstractmethod
    def standing(self) -> list[Tensor]:
        """What atoms are ranked by, the lowest to be lost first, by group: of shape (atoms,)."""

    @abstractmethod
    def reopen(self) -> None:
        """Opens closed gates a little, whose channels stay after all and are to be trained again."""

    def closed(self) -> list[list[int]]:
        """Positions of the atoms whose gates are closed, by group; never all of a group's."""
        with torch.no_grad():
            return [(gate <= CLOSED).nonzero().flatten().tolist() for gate in self.factors()]

    @abstractmethod
    def lose(self, kept: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """Loses the gates of lost atoms.

        Args:
            kept: Positions of the kept atoms by group; None for a group that loses nothing.

        Returns:
            For each parameter that is a new one, by its name here, the positions in the old one of what
            it holds.
        """

    def all_factors(self) -> Tensor:
        """A one, and all gates behind it: of shape (1 + atoms of all groups,)."""
        found = self.factors()
        return torch.cat([found[0].new_ones(1), *found])


class OpenGates(Gates):
    """Gates that start open, at 1, and fall to zero under an L1 price.

    The price is taken off after each step of the optimizer, and a gate that would become negative is
    zero: the proximal step of the L1 norm, under which gates become exactly zero. (The journal's
    sparsifier networks: a filter vector with an L1 penalty, and a neuron lost when its entry reaches
    zero.)

    Then the gates of a group that are still open are scaled so that their mean stays. A batch norm
    behind the layers that read them makes their common scale meaningless, and a network could otherwise
    escape the price by larger weights and lose all its channels at once. So channels of a group
    compete: what is below the mean falls, what is above it rises. (The journal's networks had no batch
    norm.)

    Args:
        groups: The groups.
        least: The share of a group's atoms that stays.
        weights: What each gate is at first, by group, such as its channel's norm; None for 1.
        compete: Whether their mean stays; otherwise the price is plain L1.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        least: float,
        weights: Sequence[Tensor] | None = None,
        *,
        compete: bool = True,
    ) -> None:
        super().__init__(groups, least)
        self._compete = compete
        if weights is None:
            weights = [torch.ones(len(group.atoms)) for group in groups]
        #: Where they are negative, gates are closed, and how negative says since how long.
        self.values = nn.ParameterList(
            each.detach().float().clamp(min=_LEAST_AT_FIRST).cpu() for each in weights
        )

    def factors(self) -> list[Tensor]:
        """The gates by group: the parameters, or zero where they are negative."""
        return [value.relu() for value in self.values]

    @torch.no_grad()
    def press(self, amount: float, prices: Sequence[Tensor]) -> None:
        """Closes the gates a little; see `Gates.press`."""
        for value, price, stay in zip(self.values, prices, self.stay, strict=True):
            pressed = value - amount * price.to(value)
            staying = value.topk(stay).indices
            pressed[staying] = pressed[staying].clamp(min=_LEAST)
            if self._compete:
                stays = pressed > 0
                scale = value[stays].sum() / pressed[stays].sum()
                pressed = torch.where(stays, pressed * scale, pressed)
            value.copy_(pressed)

    def standing(self) -> list[Tensor]:
        """What atoms are ranked by: the parameters."""
        return [value.detach() for value in self.values]

    @torch.no_grad()
    def reopen(self) -> None:
        """Opens closed gates a little; see `Gates.reopen`."""
        for value in self.values:
            mean = value.relu().mean()
            value.copy_(torch.where(value > 0, value, 0.1 * mean))

    def lose(self, kept: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """Loses the gates of lost atoms; see `Gates.lose`."""
        there = {number: places for number, places in enumerate(kept) if places is not None}
        for number, places in there.items():
            old = self.values[number].detach()
            self.values[number] = nn.Parameter(old[places.to(old.device)])
        return {f"values.{number}": places for number, places in there.items()}


class EdgeGates(Gates):
    """Gates in an order, open on one side of a movable edge and closed on the other.

    The gate of the i-th atom is sigmoid(slope · (edge − i)), where about 10 ÷ slope atoms are neither
    open nor closed: the slope is 1, and in groups of few atoms such that those are a quarter of them.
    The price is that of the gates' sum, the size of the group, and not of the edge itself, which could
    fall without end. (The journal's first model. Its order was the neurons' own; here the heaviest are
    first.)

    Args:
        groups: The groups.
        least: The share of a group's atoms that stays.
        weights: A weight for each atom, by group; the heaviest are lost last.
    """

    def __init__(self, groups: Sequence[Group], least: float, weights: Sequence[Tensor]) -> None:
        super().__init__(groups, least)
        self._sizes = [len(group.atoms) for group in groups]
        self._slopes = [max(1.0, 40 / size) for size in self._sizes]
        for number, each in enumerate(weights):
            order = each.argsort(descending=True, stable=True)
            rank = torch.empty(len(order)).scatter_(
                0, order.cpu(), torch.arange(len(order)).float()
            )
            self.register_buffer(f"rank_{number}", rank)
        #: The edges as shares of the groups' sizes: as far right as leaves all gates open.
        self.edges = nn.ParameterList(
            torch.tensor([self._farthest(number)]) for number in range(len(groups))
        )

    def _farthest(self, number: int) -> float:
        return (self._sizes[number] - 1 + 7 / self._slopes[number]) / self._sizes[number]

    def _rank(self, number: int) -> Tensor:
        rank: Tensor = getattr(self, f"rank_{number}")
        return rank

    def factors(self) -> list[Tensor]:
        """The gates by group: the parameters, or sigmoids of them."""
        return [
            torch.sigmoid(self._slopes[number] * (edge * size - self._rank(number)))
            for number, (edge, size) in enumerate(zip(self.edges, self._sizes, strict=True))
        ]

    @torch.no_grad()
    def press(self, amount: float, prices: Sequence[Tensor]) -> None:
        """Closes the gates a little; see `Gates.press`."""
        found = self.factors()
        for number, (edge, gate, price) in enumerate(zip(self.edges, found, prices, strict=True)):
            # The derivative of Σ price · gate with respect to the edge in atoms; the group's size, which
            # a share is measured in, stays out of it so that wide groups do not move faster.
            rise = (price.to(gate) * gate * (1 - gate)).sum() * self._slopes[number]
            edge.sub_(amount * rise)
            last = self._rank(number).sort().values[self.stay[number] - 1]
            edge.clamp_(float(last) / self._sizes[number], self._farthest(number))

    def standing(self) -> list[Tensor]:
        """What atoms are ranked by: how far they are inside the edge."""
        return [
            (edge.detach() * size - self._rank(number))
            for number, (edge, size) in enumerate(zip(self.edges, self._sizes, strict=True))
        ]

    def reopen(self) -> None:
        """Does nothing: the edge stands where it is."""

    def lose(self, kept: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """Loses the gates of lost atoms; see `Gates.lose`."""
        for number, positions in enumerate(kept):
            if positions is not None:
                rank = self._rank(number)
                setattr(self, f"rank_{number}", rank[positions.to(rank.device)])
        return {}
