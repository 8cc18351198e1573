"""What was measured of a network's widths, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seclcompress.widths.components import Components
from seclcompress.widths.mixtures import ExponentialNormal, Gammas
from seclcompress.widths.normality import Normality
from seclcompress.widths.singular import SingularValues


@dataclass(frozen=True)
class LayerWidths:
    """What was measured of one layer.

    Attributes:
        name: The layer's name.
        kind: `convolution`, `depthwise`, `linear`, or a replacement's family (`replacement` where
            that is not known).
        channels: Its output channels.
        activation: The last activation before its output is read; None if there is none.
        before: Where its values before the activation were taken: `output` for its own, `batch norm` for
            those behind the batch norm that reads it.
        values: Values of each channel that were seen behind the activation: images × positions.
        variances: The variance of each channel behind the activation; None if not measured.
        total_variance: Their sum.
        dead: How many channels had one value only.
        normality: Whether the variances look normal.
        exponential_normal: A mixture of an exponential and a normal distribution, fitted to variances.
        gammas: A mixture of two gamma distributions, fitted to them.
        components: The principal components before the activation.
        singular: The singular values of the weights.
        notes: Why something was not measured, in words.
    """

    name: str
    kind: str
    channels: int
    activation: str | None
    before: str
    values: int
    variances: tuple[float, ...] | None
    total_variance: float | None
    dead: int | None
    normality: Normality | None
    exponential_normal: ExponentialNormal | None
    gammas: Gammas | None
    components: Components | None
    singular: SingularValues | None
    notes: tuple[str, ...]

    @property
    def mean_variance(self) -> float | None:
        """The mean of the channels' variances."""
        return None if self.total_variance is None else self.total_variance / self.channels


@dataclass(frozen=True)
class Widths:
    """What was measured of a network's widths on a data set.

    Attributes:
        label: The network as it was typed.
        data: The data set's name.
        images: How many of its training images were shown.
        layers: The layers, in running order.
        picture: The picture that was written; None if none was.
    """

    label: str
    data: str
    images: int
    layers: tuple[LayerWidths, ...]
    picture: Path | None = None
