"""Mean, variance and covariance of channels, added up batch by batch; activations are never kept.

Each batch's moments are taken about its own mean and merged with those before (T. F. Chan, G. H. Golub
and R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1982), in
float64, so that nothing cancels where a mean is large.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Numbers that are in float64 at a time: 32 MB.
_AT_ONCE = 2**22


class Moments:
    """Moments of channels over all images and positions.

    Args:
        channels: How many there are.
        covariance: Whether to keep the matrix of covariances, of channels² numbers, or variances alone.

    Attributes:
        count: The number of values of each channel so far.
        mean: Shape (channels,), float64, as all of these.
        scatter: Sums of products of deviations from the mean: (channels, channels), or its diagonal.
        least: The smallest value of each channel, as it was, shape (channels,).
        most: The largest.
    """

    def __init__(self, channels: int, *, covariance: bool) -> None:
        self.channels = channels
        self.count = 0
        self.mean = torch.zeros(channels, dtype=torch.float64)
        self.scatter = torch.zeros(*[channels] * (2 if covariance else 1), dtype=torch.float64)
        self.least = torch.full((channels,), torch.inf, dtype=torch.float64)
        self.most = torch.full((channels,), -torch.inf, dtype=torch.float64)

    def add(self, x: Tensor, axis: int) -> None:
        """Adds values.

        Args:
            x: Activations, of which one dimension holds the channels.
            axis: That dimension.
        """
        values = x.detach().movedim(axis, -1)
        if values.dim() == 1:
            values = values[None]
        images = max(1, _AT_ONCE * len(values) // max(values.numel(), 1))
        for some in values.split(images):
            for rows in some.reshape(-1, self.channels).split(max(1, _AT_ONCE // self.channels)):
                if len(rows):
                    self._merge(rows)

    def _merge(self, rows: Tensor) -> None:
        # Metal has no float64.
        wide = rows.cpu().double() if rows.device.type == "mps" else rows.double()
        count, mean = len(wide), wide.mean(0)
        centred = wide - mean
        both = self.scatter.dim() == 2
        scatter = (centred.T @ centred if both else centred.square().sum(0)).cpu()
        far = mean.cpu() - self.mean
        total = self.count + count
        between = torch.outer(far, far) if both else far.square()
        self.scatter += scatter + between * (self.count * count / total)
        self.mean += far * (count / total)
        self.count = total
        self.least = torch.minimum(self.least, wide.amin(0).cpu())
        self.most = torch.maximum(self.most, wide.amax(0).cpu())

    @property
    def finite(self) -> bool:
        """Whether there were values, and each was a finite number."""
        return self.count > 0 and bool(self.scatter.isfinite().all() and self.mean.isfinite().all())

    @property
    def variances(self) -> Tensor:
        """The mean squared deviation of each channel, shape (channels,); exactly 0 if it is constant."""
        diagonal = self.scatter.diagonal() if self.scatter.dim() == 2 else self.scatter
        return torch.where(self.constant, 0.0, diagonal / self.count)

    @property
    def covariance(self) -> Tensor:
        """Mean products of deviations, (channels, channels); only with `covariance`."""
        return self.scatter / self.count

    @property
    def constant(self) -> Tensor:
        """Which channels had one value only, boolean, shape (channels,). No threshold is needed."""
        return self.least == self.most
