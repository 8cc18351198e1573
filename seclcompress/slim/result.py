"""What became of a network that lost channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seclcompress.settings.budget import Budget
from seclcompress.settings.slimming import SlimOptions
from seclcompress.slim.choice import Figures


@dataclass(frozen=True)
class Width:
    """A group of channels before and after.

    Attributes:
        name: The first layer that makes these channels.
        layers: How many layers have them.
        before: Channels of that layer before.
        after: Channels after.
    """

    name: str
    layers: int
    before: int
    after: int


@dataclass(frozen=True)
class Slimmed:
    """The result of `slim`.

    Attributes:
        label: The network as it was typed.
        budget: The budget; None where a price decided.
        options: How channels were chosen.
        before: The network's figures.
        after: Its figures without the lost channels.
        smallest: What it would have if every group had lost all that it may.
        groups: The groups of channels, in running order.
        fixed: Why other layers' outputs keep their width, by the layer's name.
        output_dir: The folder that was written; None if nothing was.
        accuracy_before: Accuracy in percent of the test images; None without data.
        accuracy_after: That without the lost channels, with batch norm's statistics estimated anew or,
            if it was trained meanwhile, after that; None without data, or if no folder was written.
        epochs: One record for each epoch that it was trained meanwhile, as in metrics.jsonl.
        rewritten: What it has when it is rewritten as `options.rewritten_as`; None where that names no
            family.
    """

    label: str
    budget: Budget | None
    options: SlimOptions
    before: Figures
    after: Figures
    smallest: Figures
    groups: tuple[Width, ...]
    fixed: dict[str, str]
    output_dir: Path | None = None
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    epochs: tuple[Mapping[str, Any], ...] = ()
    rewritten: Figures | None = None
