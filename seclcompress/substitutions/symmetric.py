"""Symmetric: one convolution whose weight is symmetric in its channels, in space, or in both.

Hu, Zagoruyko & Komodakis, "Exploring Weight Symmetry in Deep Neural Networks", 2018 (talk of 2017).
A weight is a matrix over the channels at every position of the kernel, or a matrix over the kernel's two
dimensions for every pair of channels.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from seclcompress.cost import LayerCost
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.fitting import Fit
from seclcompress.substitutions.shapes import FullConv, full_cost, white_gain
from seclcompress.substitutions.shapes.orbits import orbit_count, orbit_index
from seclcompress.substitutions.site import Convolution, Site

_SMALLEST_PIVOT = 1e-6  # of the largest entry; LDL without pivoting divides by pivots


class SymmetricConfig(SubstitutionConfig):
    """Options of a symmetric weight.

    Attributes:
        form: How a symmetric matrix is stored. `triangular`: `triu(V) + triu(V, 1)ᵀ`. `average`:
            `½(V + Vᵀ)`, stored as a triangle, scaled such that SGD takes the same steps as on V.
            `eigen`: `V diag(λ) Vᵀ`. `ldl`: `L D Lᵀ`. `chunk-4`, `block-4`, `triangle-4` and `triangle-8`
            tile or reflect a quarter or an eighth of the matrix.
        over: The dimensions that are exchanged: both channels, both dimensions of the kernel, or either.
        rank: Columns of V in `eigen`; 0 is half the side, which stores about as much as a triangle.
    """

    form: Literal[
        "triangular", "average", "eigen", "ldl", "chunk-4", "block-4", "triangle-4", "triangle-8"
    ] = Field(default="triangular", description="how a symmetric matrix is stored")
    over: Literal["channel", "spatial", "both"] = Field(
        default="channel", description="the dimensions that are exchanged"
    )
    rank: int = Field(
        default=0, ge=0, le=2**16, description="columns of V in eigen; 0: half the side"
    )

    @classmethod
    def ladder(cls) -> tuple[dict[str, Any], ...]:
        """A half, a quarter and an eighth of the matrix."""
        return tuple({"form": form} for form in ("triangular", "block-4", "triangle-8"))


class _SymmetricConv(FullConv):
    """A convolution of symmetric matrices: over the channels (at every position), or over space."""

    def __init__(self, conv: Convolution, over: str) -> None:
        super().__init__(conv)
        self._over = over
        self._shape = tuple(conv.weight.shape)

    def _to_weight(self, matrices: Tensor) -> Tensor:
        """Reorders matrices, shape (number, n, n), to the convolution's weight."""
        if self._over == "spatial":
            return matrices.reshape(self._shape)
        return matrices.movedim(0, -1).reshape(self._shape)

    def _to_matrices(self, weight: Tensor) -> Tensor:
        """Reorders a weight to matrices, shape (number, n, n)."""
        if self._over == "spatial":
            return weight.flatten(0, 1)
        return weight.flatten(2).movedim(-1, 0)


class TiedConv(_SymmetricConv):
    """A convolution in whose weight several entries share a stored value.

    Args:
        conv: The convolution to replace.
        config: The form and the dimensions.
        values: The stored values, shape (values over channels, values over space).
    """

    def __init__(self, conv: Convolution, config: SymmetricConfig, values: Tensor) -> None:
        super().__init__(conv, config.over)
        self._pattern = _pattern(config)
        self._averages = config.form == "average"
        self.values = nn.Parameter(values)

    def factors(self) -> list[nn.Parameter]:
        """The stored values."""
        return [self.values]

    def index(self) -> Tensor:
        """The place in `values` of every entry of the weight, with the weight's shape."""
        device = self.values.device
        pairs, places = math.prod(self._shape[:2]), math.prod(self._shape[2:])
        over_channels = torch.arange(pairs, device=device)
        over_space = torch.arange(places, device=device)
        if self._over != "spatial":
            over_channels = orbit_index(self._pattern, self._shape[0], device).flatten()
        if self._over != "channel":
            over_space = orbit_index(self._pattern, self._shape[-1], device).flatten()
        index = over_channels[:, None] * self.values.shape[1] + over_space
        return index.reshape(self._shape)

    def scale(self, index: Tensor) -> Tensor:
        """What each stored value is multiplied by: 1 ÷ √(number of its entries) for `average`."""
        ones = torch.ones_like(self.values).flatten()
        if not self._averages:
            return ones
        entries = torch.zeros_like(ones).index_add(0, index.flatten(), ones.new_ones(index.numel()))
        return entries.rsqrt()

    def make_weight(self) -> Tensor:
        """The weight, shape (out_channels, in_channels ÷ groups, *kernel_size)."""
        index = self.index()
        return (self.values.flatten() * self.scale(index))[index]

    def fit(self, layer: nn.Module) -> Fit:
        """Takes over the nearest weight of this form: the means of the entries that share a value."""
        assert isinstance(layer.weight, Tensor)
        target = layer.weight.detach()
        with torch.no_grad():
            index = self.index()
            flat, places = target.double().flatten(), index.flatten()
            zeros = flat.new_zeros(self.values.numel())
            sums = zeros.index_add(0, places, flat)
            means = sums / zeros.index_add(0, places, torch.ones_like(flat))
            self.values.copy_((means / self.scale(index).double()).reshape(self.values.shape))
            return self.measure_fit(target)


class EigenConv(_SymmetricConv):
    """A convolution of matrices `V diag(λ) Vᵀ`.

    Args:
        conv: The convolution to replace.
        over: `channel` or `spatial`.
        vectors: V, shape (number, n, rank).
        values: λ, shape (number, rank).
    """

    def __init__(self, conv: Convolution, over: str, vectors: Tensor, values: Tensor) -> None:
        super().__init__(conv, over)
        self.vectors, self.values = nn.Parameter(vectors), nn.Parameter(values)

    def factors(self) -> list[nn.Parameter]:
        """V and λ."""
        return [self.vectors, self.values]

    def make_weight(self) -> Tensor:
        """The weight, shape (out_channels, in_channels ÷ groups, *kernel_size)."""
        return self._to_weight(self.vectors * self.values[:, None] @ self.vectors.mT)

    def fit(self, layer: nn.Module) -> Fit:
        """Takes over the nearest symmetric matrices of this rank, by their eigenvectors."""
        assert isinstance(layer.weight, Tensor)
        target = layer.weight.detach()
        if not target.any():
            return Fit(1.0, "the weights")  # V = 0 could not be trained
        with torch.no_grad():
            matrices = self._to_matrices(target).double()
            values, vectors = torch.linalg.eigh((matrices + matrices.mT) / 2)
            largest = values.abs().argsort(dim=-1, descending=True)[:, : self.values.shape[1]]
            self.values.copy_(values.gather(1, largest))
            self.vectors.copy_(vectors.gather(2, largest[:, None].expand(-1, vectors.shape[1], -1)))
            return self.measure_fit(target)


class LdlConv(_SymmetricConv):
    """A convolution of matrices `L D Lᵀ`, L lower triangular with ones on its diagonal.

    Args:
        conv: The convolution to replace.
        over: `channel` or `spatial`.
        lower: What lies below the diagonal of L, row by row, shape (number, n(n − 1) ÷ 2).
        diagonal: D, shape (number, n).
    """

    def __init__(self, conv: Convolution, over: str, lower: Tensor, diagonal: Tensor) -> None:
        super().__init__(conv, over)
        self.lower, self.diagonal = nn.Parameter(lower), nn.Parameter(diagonal)

    def factors(self) -> list[nn.Parameter]:
        """L and D."""
        return [self.lower, self.diagonal]

    def make_weight(self) -> Tensor:
        """The weight, shape (out_channels, in_channels ÷ groups, *kernel_size)."""
        number, n = self.diagonal.shape
        rows, columns = torch.tril_indices(n, n, -1, device=self.lower.device)
        unit = torch.eye(n, dtype=self.lower.dtype, device=self.lower.device)
        places = (rows * n + columns).expand(number, -1)
        below = self.lower.new_zeros(number, n * n).scatter(1, places, self.lower)
        lower = unit + below.reshape(number, n, n)
        return self._to_weight(lower * self.diagonal[:, None] @ lower.mT)

    def fit(self, layer: nn.Module) -> Fit:
        """Takes over the nearest symmetric matrices by elimination without pivoting.

        It is exact where no pivot is near zero; the `Fit` says what is left.
        """
        assert isinstance(layer.weight, Tensor)
        target = layer.weight.detach()
        if not target.any():
            return Fit(1.0, "the weights")  # D = 0 could not train L
        with torch.no_grad():
            matrices = self._to_matrices(target).double()
            rest = (matrices + matrices.mT) / 2
            n = rest.shape[-1]
            smallest = rest.abs().amax((1, 2)).clamp_min(1e-30) * _SMALLEST_PIVOT
            lower, diagonal = torch.zeros_like(rest), rest.new_zeros(rest.shape[:2])
            for step in range(n):
                pivot = rest[:, step, step]
                near_zero = pivot.abs() < smallest
                pivot = torch.where(near_zero, smallest, pivot)
                diagonal[:, step] = pivot
                lower[:, :, step] = rest[:, :, step] / pivot[:, None]
                lower[:, :step, step] = 0
                column = lower[:, :, step]
                rest = rest - pivot[:, None, None] * column[:, :, None] * column[:, None]
            rows, columns = torch.tril_indices(n, n, -1, device=lower.device)
            self.lower.copy_(lower[:, rows, columns])
            self.diagonal.copy_(diagonal)
            return self.measure_fit(target)


class SymmetricSubstitution(Substitution):
    """The convolution with a symmetric weight; its Mult-Adds are the original's."""

    name = "symmetric"
    summary = "the convolution with a weight that is symmetric in its channels or in space"
    Config = SymmetricConfig

    def _refuse(self, site: Site, config: SymmetricConfig) -> str | None:
        conv = site.convolution
        kernel = "×".join(map(str, conv.kernel_size))
        factored = config.form in ("eigen", "ldl")
        if config.rank and config.form != "eigen":
            return f"rank={config.rank} is for form=eigen, not form={config.form}"
        if config.over == "both" and factored:
            return f"form={config.form} is over channel or spatial, not both"
        sides = []
        if config.over != "spatial":
            if conv.groups > 1:
                return f"its {conv.groups} groups have no symmetry between all channels"
            if conv.in_channels != conv.out_channels:
                return f"{conv.in_channels} × {conv.out_channels} channels are not square"
            sides.append(conv.in_channels)
        if config.over != "channel":
            if len(conv.kernel_size) != 2 or conv.kernel_size[0] != conv.kernel_size[1]:
                return f"its kernel of {kernel} is not square"
            if conv.kernel_size[0] == 1:
                return "a kernel of 1×1 has no two sides to exchange"
            sides.append(conv.kernel_size[0])
        for side in sides:
            if config.form == "chunk-4" and side % 4:
                return f"a side of {side} cannot be cut into 4 strips"
            if config.rank > side:
                return f"rank={config.rank} is more than its side of {side}"
        return None

    def cost(self, site: Site, config: SymmetricConfig) -> LayerCost:
        """What is stored: `n(n + 1) ÷ 2` of n² for `triangular`, `average` and `ldl`."""
        conv = site.convolution
        number, n = _matrices(conv, config)
        if config.form == "eigen":
            return full_cost(site, number * _rank(config, n) * (n + 1))
        if config.form == "ldl":
            return full_cost(site, number * n * (n + 1) // 2)
        return full_cost(site, math.prod(_stored(conv, config)))

    def _build(self, site: Site, config: SymmetricConfig) -> FullConv:
        conv, weight = site.convolution, site.convolution.weight
        std = white_gain(conv) / math.sqrt(weight[0].numel())
        number, n = _matrices(conv, config)
        built: FullConv
        if config.form == "eigen":
            rank = _rank(config, n)
            vectors = torch.randn_like(weight.new_empty(number, n, rank)) / math.sqrt(n)
            values = torch.randn_like(weight.new_empty(number, rank))
            built = EigenConv(conv, config.over, vectors, values)
            last = built.values
        elif config.form == "ldl":
            lower = torch.randn_like(weight.new_empty(number, n * (n - 1) // 2)) / math.sqrt(n)
            signs = torch.randn_like(weight.new_empty(number, n)).sign()
            built = LdlConv(conv, config.over, lower, signs)
            last = built.diagonal
        else:
            tied = TiedConv(conv, config, torch.randn_like(weight.new_empty(_stored(conv, config))))
            tied.values.div_(tied.scale(tied.index()).reshape(tied.values.shape)).mul_(std)
            return tied
        if not weight.is_meta:  # the product's size is a matter of chance: it is set, not computed
            found = float(built.make_weight().double().square().mean().sqrt())
            last.mul_(std / max(found, 1e-30))
        return built


def _pattern(config: SymmetricConfig) -> str:
    return "triangular" if config.form == "average" else config.form


def _matrices(conv: Convolution, config: SymmetricConfig) -> tuple[int, int]:
    """The number of matrices in a weight, and their side."""
    pairs = math.prod(conv.weight.shape[:2])
    if config.over == "spatial":
        return pairs, conv.kernel_size[0]
    return math.prod(conv.kernel_size), conv.in_channels


def _stored(conv: Convolution, config: SymmetricConfig) -> tuple[int, int]:
    """The numbers of values over channels and over space that a tied weight stores."""
    pairs, places = math.prod(conv.weight.shape[:2]), math.prod(conv.kernel_size)
    pattern = _pattern(config)
    if config.over != "spatial":
        pairs = orbit_count(pattern, conv.in_channels)
    if config.over != "channel":
        places = orbit_count(pattern, conv.kernel_size[0])
    return pairs, places


def _rank(config: SymmetricConfig, n: int) -> int:
    return config.rank or max(1, n // 2)


SUBSTITUTION = SymmetricSubstitution()
