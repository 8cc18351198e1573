"""Plans for a budget: of each layer's candidates the ones that lose least and together cost no more.

`candidates` lists what each layer may become, and what of each quantity that costs; `sensitivity` says
what a candidate loses; `choice` is the integer program. None of them reads images or trains.
"""

from seclcompress.budget.candidates import Candidate, candidates
from seclcompress.budget.choice import NotReachableError, choose, ends
from seclcompress.budget.result import Budgeted, Curve, ImageTime, Point, Range, Source
from seclcompress.budget.sensitivity import by_dimensions, by_weights

__all__ = [
    "Budgeted",
    "Candidate",
    "Curve",
    "ImageTime",
    "NotReachableError",
    "Point",
    "Range",
    "Source",
    "by_dimensions",
    "by_weights",
    "candidates",
    "choose",
    "ends",
]
