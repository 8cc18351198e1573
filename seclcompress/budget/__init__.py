"""Plans for a budget: of each layer's candidates the ones that lose least and together cost no more.

`candidates` lists what each layer may become, and what of each quantity that costs; `sensitivity` says
what a candidate loses; `choice` is the integer program, `uniform` what it has to beat. None of them
reads images or trains.
"""

from seclcompress.budget.candidates import Candidate, candidates
from seclcompress.budget.choice import NotReachableError, choose, ends
from seclcompress.budget.result import Budgeted, Curve, ImageTime, Point, Range, Source, Uniform
from seclcompress.budget.sensitivity import by_dimensions, by_weights
from seclcompress.budget.uniform import uniform

__all__ = [
    "Budgeted",
    "Candidate",
    "Curve",
    "ImageTime",
    "NotReachableError",
    "Point",
    "Range",
    "Source",
    "Uniform",
    "by_dimensions",
    "by_weights",
    "candidates",
    "choose",
    "ends",
    "uniform",
]
