"""Hashed: a weight whose entries are looked up in a small table.

Chen et al., "Compressing Neural Networks with the Hashing Trick" (HashedNets), ICML 2015:

    W[i, j] = ξ(i, j) · w[h(i, j)]

`h` is a fixed hash and ξ a fixed sign; neither is stored. HashedNets' xxHash uses some places of the
table more often than others. Here h is a permutation of all entries, by a seed, modulo the table's
size: all places are used equally often, give or take one, and a table of the weight's own size holds
any weight. The table nearest to a weight has the mean of each place's entries, with their signs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from seclcompress.cost import LayerCost
from seclcompress.substitutions.contract import Substitution
from seclcompress.substitutions.graph import GraphWriter
from seclcompress.substitutions.shapes import (
    Decomposed,
    FactoredPointwise,
    FullConv,
    SplitConv,
    full_cost,
    split_cost,
)
from seclcompress.substitutions.shapes.hashing import signed_places, write_places
from seclcompress.substitutions.shapes.initial import white_factors
from seclcompress.substitutions.shapes.precision import at_least_float32
from seclcompress.substitutions.site import Convolution, Site
from seclcompress.substitutions.sized import On, SizedConfig, largest_size, on_kernel
from seclcompress.substitutions.structured import StructuredConv


class HashedConfig(SizedConfig):
    """Options of a hashed weight.

    Attributes:
        ratio: The table's size, divided by that of the weight.
        on: `pointwise`: the matrix of the channels behind a depthwise convolution. `kernel`: the whole
            convolution.
        seed: Which hash it is.
    """

    on: On = Field(default="pointwise", description="what is structured")
    seed: int = Field(default=0, ge=0, lt=2**31, description="which hash it is")


class HashedTable(nn.Module):
    """A table, and the weight that is looked up in it.

    The places of the weight's entries take four bytes each in memory. They are made on first use, and
    are in no state.

    Args:
        values: The initial table, shape (size,).
        rows: Rows of the weight.
        columns: Columns of the weight.
        seed: Which hash it is.
    """

    _places: Tensor | None = None

    def __init__(self, values: Tensor, rows: int, columns: int, seed: int) -> None:
        super().__init__()
        self.values = nn.Parameter(values)
        self.rows, self.columns, self.seed = rows, columns, seed
        if not values.is_meta:
            self.places()  # outside of compiled code, which would make them at every call

    def forward(self) -> Tensor:
        """The weight, shape (rows, columns)."""
        # In 16 bits the gradient of an entry, a sum over all its places, would stop growing early.
        values = at_least_float32(self.values)
        both = torch.cat([values, -values])
        weight = both.index_select(0, self.places()).reshape(self.rows, self.columns)
        return weight.to(self.values.dtype)

    def places(self) -> Tensor:
        """See `signed_places`; shape (rows · columns,)."""
        values, kept = self.values, self._places
        if kept is not None and kept.device == values.device:
            return kept
        with torch.inference_mode(False):
            made = signed_places(self.rows, self.columns, values.shape[0], self.seed, values.device)
        if type(made) is Tensor and not made.is_meta and not torch.compiler.is_compiling():
            self._places = made
        return made

    def means(self, target: Tensor) -> Tensor:
        """The table whose weight is nearest to a target: the means of its entries, with their signs.

        Args:
            target: `rows · columns` entries of any shape.
        """
        size, places = self.values.shape[0], self.places()
        both = target.new_zeros(2, 2 * size)
        flat = target.flatten()
        sums, counts = both.index_add(1, places, torch.stack([flat, torch.ones_like(flat)]))
        return (sums[:size] - sums[size:]) / (counts[:size] + counts[size:])

    def extra_repr(self) -> str:
        """The sizes and the seed."""
        return f"{self.rows}×{self.columns} from {self.values.shape[0]}, seed={self.seed}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_places": None}


class _Hashed(Decomposed):
    """What the map of the channels and the whole convolution share."""

    table: HashedTable
    _shape: tuple[int, ...]

    def factors(self) -> list[nn.Parameter]:
        """The table."""
        return [self.table.values]

    def make_weight(self) -> Tensor:
        """Looks the weight up."""
        weight: Tensor = self.table()
        return weight.reshape(self._shape)

    def write_weight(self, graph: GraphWriter) -> Any:
        """Looks the weight up in the graph, which makes the places anew: a file need not hold them."""
        table = self.table
        size = table.values.shape[0]
        values = graph.given(table.values)
        places = write_places(graph, table.rows, table.columns, size, table.seed)
        return graph.op(
            "Gather", graph.op("Concat", values, graph.op("Neg", values), axis=0), places
        )

    def decompose(self, target: Tensor) -> list[Tensor]:
        """The means of the entries of each place."""
        return [self.table.means(target)]


class HashedPointwise(_Hashed, FactoredPointwise):
    """A map of the channels whose matrix is looked up in a table.

    Args:
        bias: The initial bias, or None.
        table: The table.
    """

    def __init__(self, bias: Tensor | None, table: HashedTable) -> None:
        super().__init__(table.columns, table.rows, bias)
        self.table, self._shape = table, (table.rows, table.columns)


class HashedConv(_Hashed, FullConv):
    """A whole convolution whose weight is looked up in a table.

    Args:
        conv: The convolution to replace.
        table: The table.
    """

    def __init__(self, conv: Convolution, table: HashedTable) -> None:
        super().__init__(conv)
        self.table, self._shape = table, tuple(conv.weight.shape)


class HashedSubstitution(Substitution):
    """A weight from a table, for the channels or for the whole kernel; it always runs dense."""

    name = "hashed"
    title = "Hashed"
    summary = "weights that share the numbers of a small table by a hash, dense"
    Config = HashedConfig

    def cost(self, site: Site, config: HashedConfig) -> LayerCost:
        """`k·c_in + size` parameters, or `size` with `on=kernel`; Mult-Adds as without a table."""
        conv = site.convolution
        rows, columns = _sides(conv, config)
        size = _size(conv, config)
        note = f"a table of {size:,} for {rows * columns:,}"
        if on_kernel(conv, config.on):
            return full_cost(site, size, note=note)
        return split_cost(site, size, {"dense": rows * columns}, note=note)

    def _build(self, site: Site, config: HashedConfig) -> StructuredConv:
        conv = site.convolution
        rows, columns = _sides(conv, config)
        size = _size(conv, config)
        # All places are used about equally often, so the weight's norm follows from the table's.
        often = math.sqrt(rows * columns / size)
        (values,) = white_factors(conv, [(size,)], [columns], lambda drawn: often * drawn[0])
        table = HashedTable(values, rows, columns, config.seed)
        if on_kernel(conv, config.on):
            return HashedConv(conv, table)
        return SplitConv(conv, HashedPointwise(conv.bias, table))


def _sides(conv: Convolution, config: HashedConfig) -> tuple[int, int]:
    """The rows and columns of the weight that is looked up: its outputs, and the inputs of each."""
    if on_kernel(conv, config.on):
        return conv.out_channels, math.prod(conv.weight.shape[1:])
    return conv.out_channels, conv.in_channels


def _size(conv: Convolution, config: HashedConfig) -> int:
    dense = math.prod(_sides(conv, config))
    return largest_size(lambda size: size, config.ratio, dense, dense)


SUBSTITUTION = HashedSubstitution()
