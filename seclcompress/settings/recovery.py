"""The choices of a recovery: which pictures, which inputs the layers learn from, and how long."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class RecoverySettings(BaseModel):
    """How a converted network takes over its teacher. Every field is an option of `recover`.

    The defaults are those that docs/recovery.md measured; it says what was not compared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pictures: int = Field(
        default=500, ge=2, description="Training images to learn from; their labels are not used."
    )
    inputs: Literal["both", "teacher", "student"] = Field(
        default="both",
        description="What a layer is fed while it learns to give the teacher's outputs: the teacher's "
        "inputs, the student's own, or first those and then these.",
    )
    kept: bool = Field(
        default=True,
        description="Also correct the layers that were not rewritten, by ridge regression, for the "
        "inputs that the student gives them.",
    )
    ridge: float = Field(
        default=0.01,
        gt=0,
        description="Strength of that regression's pull to the teacher's weights, × the mean square of "
        "the inputs.",
    )
    batch_norm: Literal["each", "end", "never"] = Field(
        default="each",
        description="When batch norm's statistics are estimated anew: before each layer, at the end "
        "only, or never, so that they stay the teacher's.",
    )
    iterations: int = Field(
        default=200, ge=1, description="L-BFGS iterations for a layer on each kind of inputs."
    )
    positions: int = Field(
        default=256,
        ge=1,
        description="Positions at most that a layer is compared at in each picture, drawn at random.",
    )
