"""Which channels can be computed from the others, and how many directions their readers use.

With x the channels of a group and W the weights of a layer that reads them, the singular values of
W·E[xxᵀ]^½ say how much each direction of x changes what the layer makes. Their smallest ones say how
many channels a group can lose (the idea of SVD-evolutive-CNN, J. Dejaegher, 2021). Its rotation onto
the largest ones does not pass through an activation, so here channels are taken as they are: one after
the other goes the one that a linear function of those left replaces best. That is the step of "optimal
brain surgeon" (Hassibi & Stork, 1992) for whole channels: with P = E[xxᵀ]⁻¹, losing channel j costs
‖W_j‖² / P_jj if W becomes W − W_j P_j / P_jj.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seclcompress.slim.readings import Reading

#: Updates of a group's inverses, at most: wide groups lose several channels in each.
_STEPS = 256


def shares_lost(readings: Sequence[Reading]) -> Tensor:
    """How much of what its readers make a group loses with each channel, and all that go before it.

    Args:
        readings: What layers read of the group; at least one.

    Returns:
        For each atom the share of energy behind as many smallest singular values as atoms are lost when
        it is, the mean over the readers; float64, of shape (atoms,), from 0 to 1. Sorted, they give the
        order in which atoms are lost.
    """
    order = _order(readings)
    tails = torch.stack([_tail(one) for one in readings]).mean(0)
    # Where no energy is lost, the order must show all the same.
    rising = tails + torch.arange(len(tails), dtype=tails.dtype) * 1e-12
    shares = torch.empty_like(rising)
    shares[order] = rising
    return shares


def _tail(reading: Reading) -> Tensor:
    """The shares of energy behind the smallest singular values: of one, of two, … of all."""
    factor = torch.linalg.cholesky(reading.moments)
    energies = torch.linalg.eigvalsh(factor.T @ reading.products @ factor).clamp(min=0)
    total = energies.sum()
    count = len(energies)
    return energies.cumsum(0) / total if total > 0 else torch.zeros(count, dtype=energies.dtype)


def _order(readings: Sequence[Reading]) -> Tensor:
    """The atoms in the order in which they are lost."""
    states = [_State(one) for one in readings]
    left = torch.arange(len(readings[0].moments))
    at_once = max(1, -(-len(left) // _STEPS))
    order: list[Tensor] = []
    while len(left) > 1:
        costs = torch.stack([state.costs() for state in states]).mean(0)
        out = costs.argsort(stable=True)[: min(at_once, len(left) - 1)]
        stay = torch.ones(len(left), dtype=torch.bool)
        stay[out] = False
        order.append(left[out])
        left = left[stay]
        for state in states:
            state.lose(out, stay)
    return torch.cat([*order, left])


class _State:
    """Of one reader: the inverse moments, and WᵀW with what was mended so far."""

    def __init__(self, reading: Reading) -> None:
        self._inverse = torch.linalg.inv(reading.moments)
        self._products = reading.products.clone()
        self._energy = float((reading.products * reading.moments).sum()) or 1.0

    def costs(self) -> Tensor:
        """What losing each atom that is left costs, as a share of all energy."""
        return self._products.diagonal() / self._inverse.diagonal() / self._energy

    def lose(self, out: Tensor, stay: Tensor) -> None:
        """Loses atoms; those that stay take over what they can."""
        rows = self._inverse[out]
        solved = torch.linalg.solve(rows[:, out], rows[:, stay])
        taken_over = -solved  # x_out ≈ taken_over · x_stay
        across, within = self._products[out][:, stay], self._products[out][:, out]
        mended = taken_over.T @ across
        products = self._products[stay][:, stay] + mended + mended.T
        self._products = products + taken_over.T @ within @ taken_over
        self._inverse = self._inverse[stay][:, stay] - rows[:, stay].T @ solved
