"""Which channels a network loses so that it meets a budget."""

from seclcompress.slim.choice import Figures, Lost, fewest_lost, figures_of, losses, meets
from seclcompress.slim.norms import norms
from seclcompress.slim.result import Slimmed, Width

__all__ = [
    "Figures",
    "Lost",
    "Slimmed",
    "Width",
    "fewest_lost",
    "figures_of",
    "losses",
    "meets",
    "norms",
]
