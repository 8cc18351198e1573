"""Which channels a network loses so that it meets a budget."""

from seclcompress.slim.attaching import attach, detach, readers
from seclcompress.slim.choice import (
    Figures,
    Lost,
    excess,
    fewest_lost,
    figures_of,
    figures_without,
    losses,
    may_lose,
    meets,
)
from seclcompress.slim.gates import EdgeGates, Gates, OpenGates
from seclcompress.slim.norms import norms
from seclcompress.slim.result import Slimmed, Width

__all__ = [
    "EdgeGates",
    "Figures",
    "Gates",
    "Lost",
    "OpenGates",
    "Slimmed",
    "Width",
    "attach",
    "detach",
    "excess",
    "fewest_lost",
    "figures_of",
    "figures_without",
    "losses",
    "may_lose",
    "meets",
    "norms",
    "readers",
]
