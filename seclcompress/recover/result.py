"""What became of a layer in a recovery."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerRecovery:
    """What became of a layer. Errors are relative: 1 is that of answering each channel's mean.

    Attributes:
        name: The layer.
        rewritten: Whether it is a replacement, or a layer that was kept.
        before: Its error on the inputs that it was shown last, as it was before it learned.
        after: Its error on the same inputs afterwards.
    """

    name: str
    rewritten: bool
    before: float
    after: float
