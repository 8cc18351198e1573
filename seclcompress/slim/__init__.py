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
    lost_by_energy,
    may_lose,
    meets,
)
from seclcompress.slim.elimination import shares_lost
from seclcompress.slim.gates import EdgeGates, Gates, OpenGates
from seclcompress.slim.mending import mend
from seclcompress.slim.norms import norms
from seclcompress.slim.readings import Readings, take_readings
from seclcompress.slim.result import Slimmed, Width

__all__ = [
    "EdgeGates",
    "Figures",
    "Gates",
    "Lost",
    "OpenGates",
    "Readings",
    "Slimmed",
    "Width",
    "attach",
    "detach",
    "excess",
    "fewest_lost",
    "figures_of",
    "figures_without",
    "losses",
    "lost_by_energy",
    "may_lose",
    "meets",
    "mend",
    "norms",
    "readers",
    "shares_lost",
    "take_readings",
]
