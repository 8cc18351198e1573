"""What a person may choose when a network is narrowed."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Spread = Literal["global", "uniform"]
Method = Literal["norm", "svd", "gates", "sigmoid"]
PriceBy = Literal["channels", "parameters", "mult-adds"]


class SlimOptions(BaseModel):
    """How channels are chosen.

    Attributes:
        spread: `global` takes the least channels wherever they are, so that groups narrow by different
            shares; `uniform` narrows every group by the same share, and takes its least channels.
        least: The share of a group's channels that stays whatever the budget; at least one stays.
        method: `norm` takes the channels of the least norm; `svd` looks at pictures, and takes as many
            as the readers' singular values allow, those that the others can replace; `gates` and
            `sigmoid` train the network meanwhile, with gates that a price closes.
        rounds: How often `norm` or `svd` takes channels, with training between; None for once, without
            any.
        energy: The share of what its readers make that each group keeps, by `svd`; None for a budget.
        pictures: How many training images `svd` looks at.
        rewritten_as: The family as which the network will be rewritten, with its default options, so
            that the budget is that of what comes out then; None where it will not be.
        price: The price of an open channel, × the learning rate in each step; None to look for it so
            that the budget is met.
        price_by: What the prices of channels of different layers are in proportion to; their mean is 1.
        price_decay: What `price` is multiplied by after each epoch.
        until: The share of the epochs in which channels are lost; the rest trains what is left.
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
    method: Method = Field(
        default="norm",
        description="norm: the channels of the least norm; svd: those that the others can replace on "
        "some pictures, as many as singular values allow; gates: train a gate for each channel, with a "
        "price on open ones; sigmoid: channels in an order, with a movable edge.",
    )
    rounds: int | None = Field(
        default=None,
        ge=1,
        description="Lose channels by norm or svd so often, and train between. Default: once, "
        "untrained.",
    )
    energy: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Instead of --budget, for --method svd: the share of the energy of what its readers "
        "make that each group of channels keeps, such as 0.99.",
    )
    pictures: int = Field(
        default=500,
        ge=1,
        description="How many training images --method svd looks at.",
    )
    rewritten_as: str | None = Field(
        default=None,
        description="Meet --budget once `convert --substitution NAME` has rewritten what is left.",
    )
    price: float | None = Field(
        default=None,
        gt=0,
        description="The price of an open gate. Default: looked for, so that --budget is met.",
    )
    price_by: PriceBy = Field(
        default="channels",
        description="What the price of a channel is in proportion to: nothing, so that all cost the "
        "same, its parameters, or its Mult-Adds.",
    )
    price_decay: float = Field(
        default=1.0, gt=0, le=1, description="What --price is multiplied by after each epoch."
    )
    until: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="The share of the epochs in which channels are lost; the rest trains what is left.",
    )

    @property
    def gated(self) -> bool:
        """Whether channels are lost by gates."""
        return self.method in ("gates", "sigmoid")

    @property
    def looks(self) -> bool:
        """Whether pictures say which channels are lost."""
        return self.method == "svd"

    @property
    def needs_readers(self) -> bool:
        """Whether only channels can be lost whose readers' weights can be told apart by channel."""
        return self.gated or self.looks

    @property
    def trains(self) -> bool:
        """Whether the network is trained while it loses channels."""
        return self.gated or self.rounds is not None
