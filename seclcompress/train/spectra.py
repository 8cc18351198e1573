"""What pictures say of a network that is to lose channels, and what mends it when it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from seclcompress.graph import Group
from seclcompress.slim import Lost, Readings, mend, shares_lost, take_readings
from seclcompress.trace import floating_dtype
from seclcompress.train.pictures import Pictures


class Spectra:
    """Looks at a network with pictures before it loses channels, and mends the rest.

    Args:
        pictures: The pictures, on the network's device.
        accuracy: Measures a network's accuracy in percent of the pictures.
    """

    def __init__(self, pictures: Pictures, accuracy: Callable[[nn.Module], float]) -> None:
        self.pictures, self.accuracy = pictures, accuracy
        self._readings: Readings | None = None

    @property
    def looked(self) -> bool:
        """Whether `shares` has looked at the network since it was mended last."""
        return self._readings is not None

    def shares(
        self,
        network: nn.Module,
        groups: Sequence[Group],
        progress: Callable[[int, int], object] | None = None,
    ) -> list[Tensor]:
        """How much of what its readers make each group loses with each atom; see `slim.shares_lost`.

        A group whose readers do not run counts as losing everything with its first atom.

        Args:
            network: The network.
            groups: Its groups of channels.
            progress: Told how many atoms have an order, and of how many.
        """
        found = take_readings(network, groups, self.pictures.read(floating_dtype(network)))
        self._readings = found
        total, shares = sum(len(group.atoms) for group in groups), []
        for group in groups:
            read = found[group.name]
            shares.append(shares_lost(read) if read else torch.ones(len(group.atoms)))
            if progress is not None:
                progress(sum(map(len, shares)), total)
        return shares

    def mend(
        self, network: nn.Module, groups: Sequence[Group], lost: Lost, averages: dict[str, Tensor]
    ) -> None:
        """Makes the weights that read lost channels do without them; see `slim.mend`.

        Args:
            network: The network as `shares` saw it.
            groups: Its groups.
            lost: What they lose.
            averages: Moving averages by the names of parameters, which are mended as well.
        """
        readings, self._readings = self._readings, None
        assert readings is not None
        mend(network, groups, readings, lost)
        mend(network, groups, readings, lost, averages)

    @torch.no_grad()
    def settle(self, network: nn.Module, averages: dict[str, Tensor]) -> None:
        """Estimates batch norm's statistics anew after a network has lost channels.

        Args:
            network: The network.
            averages: Moving averages; those of the statistics become what was found.
        """
        with torch.random.fork_rng():  # dropout must not change what the run draws next
            torch.manual_seed(0)
            self.pictures.estimate_batch_norm(network)
        for name, value in network.named_buffers():
            if name in averages:
                averages[name].copy_(value)
