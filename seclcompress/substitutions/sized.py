"""Families whose size is free: a share of the parameters that they replace, or a rank.

What is replaced is the pointwise matrix beside a full depthwise convolution (`on=pointwise`), or the
whole convolution (`on=kernel`). A 1×1 convolution and a Linear are a pointwise matrix either way.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal, TypeAlias, get_args

from pydantic import Field

from seclcompress.substitutions.contract import SubstitutionConfig
from seclcompress.substitutions.shapes.split import is_pointwise
from seclcompress.substitutions.site import Convolution

On: TypeAlias = Literal["pointwise", "kernel"]
LARGEST_RANK = 2**20
_RATIOS = tuple(round(2 ** (-step / 2), 4) for step in range(2, 13))


class SizedConfig(SubstitutionConfig):
    """The option of all families with a free size.

    Attributes:
        ratio: Parameters of the structured map, at most, divided by those of the dense one that it
            replaces; biases are not counted. A map whose smallest size has more gets that size.
    """

    ratio: float = Field(
        default=0.25, gt=0, le=1, description="parameters ÷ those of the dense map, at most"
    )

    @classmethod
    def ladder(cls) -> tuple[dict[str, Any], ...]:
        """Ratios from ½ to 1/64 in steps of √2, of the matrix and, where it can be, of the kernel."""
        places = [{"on": place} for place in get_args(On)] if "on" in cls.model_fields else [{}]
        return tuple({**place, "ratio": ratio} for place in places for ratio in _RATIOS)


class RankedConfig(SizedConfig):
    """The options of families whose size is a rank.

    Attributes:
        rank: The rank in every layer, cut to the full one; 0 takes the largest that `ratio` allows.
    """

    rank: int = Field(
        default=0, ge=0, le=LARGEST_RANK, description="rank in every layer; 0: by the ratio"
    )


class PlacedConfig(RankedConfig):
    """The options of families with a rank, for the pointwise matrix or for the whole convolution.

    Attributes:
        on: `pointwise`: a depthwise convolution for space, then the structured matrix. `kernel`: the
            structured tensor is the whole convolution.
    """

    on: On = Field(default="pointwise", description="what is structured")


def on_kernel(conv: Convolution, on: On) -> bool:
    """Whether the structured tensor has the positions of a kernel above 1×1."""
    return on == "kernel" and not is_pointwise(conv)


def refuse_groups(conv: Convolution, on: On) -> str | None:
    """The reason to keep a grouped convolution, whose whole tensor has holes; None if it may go."""
    if on == "kernel" and conv.groups > 1:
        return f"its {conv.groups} groups have no weights between them; on=pointwise can replace it"
    return None


def largest_size(parameters: Callable[[int], int], ratio: float, dense: int, most: int) -> int:
    """The largest size of a structured map whose parameters are at most a share of the dense one's.

    Args:
        parameters: The map's number of parameters at a size; it must not fall as the size grows.
        ratio: The share.
        dense: Number of parameters of the dense map.
        most: The largest size that there is.

    Returns:
        A size between 1 and `most`; 1 where even that has more parameters than allowed.
    """
    return max(1, bisect_right(range(1, most + 1), budget(ratio, dense), key=parameters))


def budget(ratio: float, dense: int) -> int:
    """The most parameters that a share of a number of parameters allows."""
    # As the number was typed: as binary fractions, 0.29 of 100 is less than 29.
    return int(Fraction(str(ratio)) * dense)


def chosen_rank(
    config: RankedConfig, parameters: Callable[[int], int], dense: int, full: int
) -> int:
    """The rank that is asked for, cut to the full one, or the largest that the ratio allows.

    Args:
        config: The options.
        parameters: See `largest_size`.
        dense: See `largest_size`.
        full: The rank from which on every map can be represented.
    """
    if config.rank:
        return min(config.rank, full)
    return largest_size(parameters, config.ratio, dense, full)


def divisors(n: int) -> list[int]:
    """The divisors of a positive number, in ascending order."""
    return [d for d in range(1, n + 1) if n % d == 0]
