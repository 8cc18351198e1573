"""What becomes of each convolution, why, and at what cost: decided from a trace, before any rewrite.

A plan is data. It can be written as JSON, edited (action, substitution, config, execution of a
layer), and given back; everything else in it is derived and is computed anew when it is read.
"""

from seclcompress.plan.decide import make_plan
from seclcompress.plan.entries import Choice, Chooser
from seclcompress.plan.given import check_plan, fit_plan, read_plan
from seclcompress.plan.layers import convolutions, matches
from seclcompress.plan.model import LayerPlan, Plan
from seclcompress.settings.planning import PlanOptions

__all__ = [
    "Choice",
    "Chooser",
    "LayerPlan",
    "Plan",
    "PlanOptions",
    "check_plan",
    "convolutions",
    "fit_plan",
    "make_plan",
    "matches",
    "read_plan",
]
