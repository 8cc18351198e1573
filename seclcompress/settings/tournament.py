"""The choices of a search: which students compete, at which sizes, and how long each learns."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from seclcompress.settings.sensitivity import Measure

#: A contender that is no family: the network with fewer channels. With a family behind a plus, it has
#: so many that it meets the budget when it is rewritten, and takes over its own layers then.
SLIM = "slim"
#: Those that are tried where none are named: on two processors and two networks, the ones worth trying
#: (docs/frontier.md), plain separable, a mix, and fewer channels.
CONTENDERS = (
    "separable",
    "acdc",
    "acdc+separable",
    "kronecker",
    "monarch",
    "low_rank",
    SLIM,
    f"{SLIM}+separable",
)


def behind_slim(name: str) -> str | None:
    """What stands behind `slim+` in a contender's name; None for other contenders."""
    behind = name.removeprefix(f"{SLIM}+")
    return None if behind == name else behind


class Tournament(BaseModel):
    """How students compete. Every field is an option of `search`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    families: tuple[str, ...] = Field(
        default=CONTENDERS,
        min_length=1,
        description="What competes, separated by commas: families, several with a plus for a plan that "
        f"mixes them, {SLIM} for the network with fewer channels, and {SLIM}+NAME for that rewritten as "
        "a family.",
    )
    sizes: int = Field(
        default=4,
        ge=1,
        description="With --max-loss: sizes to try, each half as large as the one before; the first is "
        "that of the plain separable network.",
    )
    keep: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Share of the contenders that stays after each round, at least one.",
    )
    pictures: int = Field(
        default=500, ge=2, description="Training images that a recovery learns from."
    )
    sensitivity: Measure = Field(
        default="recovered",
        description="How plans that mix families know what a layer loses, as in plan: recovered "
        "compares families, and takes long for wide layers and many families; energy is quick.",
    )

    def rounds(self, epochs: int) -> tuple[int, ...]:
        """The epochs of each round of distillation after the recovery.

        Args:
            epochs: Those of the last round.
        """
        first = max(1, epochs // 4)
        return (first, epochs) if first < epochs else (epochs,)
