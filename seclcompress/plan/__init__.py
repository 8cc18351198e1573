"""Plans: which layers are rewritten, how, why, and at what cost. A trace suffices to make one.

A plan is data. It can be written as JSON, edited (a layer's action, substitution, config and
execution), and given back. `fit_plan` computes everything else in it anew.
"""

from seclcompress.plan.decide import make_plan, nothing_to_do
from seclcompress.plan.entries import Choice, Chooser
from seclcompress.plan.given import check_plan, fit_plan, read_plan
from seclcompress.plan.layers import convolutions, matches
from seclcompress.plan.model import ORIGINAL, LayerPlan, Plan, is_slower
from seclcompress.settings.planning import PlanOptions

__all__ = [
    "ORIGINAL",
    "Choice",
    "Chooser",
    "LayerPlan",
    "Plan",
    "PlanOptions",
    "check_plan",
    "convolutions",
    "fit_plan",
    "is_slower",
    "make_plan",
    "matches",
    "nothing_to_do",
    "read_plan",
]
