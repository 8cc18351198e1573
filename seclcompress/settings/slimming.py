"""What a person may choose when a network is narrowed."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Spread = Literal["global", "uniform"]


class SlimOptions(BaseModel):
    """How channels are chosen.

    Attributes:
        spread: `global` takes the least channels wherever they are, so that groups narrow by different
            shares; `uniform` narrows every group by the same share, and takes its least channels.
        least: The share of a group's channels that stays whatever the budget; at least one stays.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spread: Spread = Field(
        default="global",
        description="Where channels are lost: the least of all groups, or the same share of each group.",
    )
    least: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="The share of each group's channels that stays whatever the budget.",
    )
