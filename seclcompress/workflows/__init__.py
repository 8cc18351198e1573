"""The public API: one typed function for each task of a user.

Each function returns its results as data and reports progress to an `Observer`. The command line shows
both and computes nothing itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seclcompress import lazy

if TYPE_CHECKING:
    from seclcompress.budget import Budgeted as Budgeted
    from seclcompress.budget import Curve as Curve
    from seclcompress.export.result import Exported as Exported
    from seclcompress.slim import Slimmed as Slimmed
    from seclcompress.survey import Surveyed as Surveyed
    from seclcompress.widths.result import Widths as Widths
    from seclcompress.workflows.benching import Benched as Benched
    from seclcompress.workflows.benching import bench as bench
    from seclcompress.workflows.budgeting import plan as plan
    from seclcompress.workflows.converting import Converted as Converted
    from seclcompress.workflows.converting import convert as convert
    from seclcompress.workflows.counting import Counted as Counted
    from seclcompress.workflows.counting import count as count
    from seclcompress.workflows.curves import pareto as pareto
    from seclcompress.workflows.evaluating import Evaluation as Evaluation
    from seclcompress.workflows.evaluating import evaluate as evaluate
    from seclcompress.workflows.exporting import export as export
    from seclcompress.workflows.importing import import_secl as import_secl
    from seclcompress.workflows.measuring_widths import widths as widths
    from seclcompress.workflows.planning import Planned as Planned
    from seclcompress.workflows.planning import plan_network as plan_network
    from seclcompress.workflows.rate_finding import FoundLr as FoundLr
    from seclcompress.workflows.rate_finding import find_lr as find_lr
    from seclcompress.workflows.recovering import Recovered as Recovered
    from seclcompress.workflows.recovering import recover as recover
    from seclcompress.workflows.reporting import Reported as Reported
    from seclcompress.workflows.reporting import report as report
    from seclcompress.workflows.runs import InterruptedRunError as InterruptedRunError
    from seclcompress.workflows.runs import TrainingResult as TrainingResult
    from seclcompress.workflows.searching import Searched as Searched
    from seclcompress.workflows.searching import search as search
    from seclcompress.workflows.sharing import Uploaded as Uploaded
    from seclcompress.workflows.sharing import upload as upload
    from seclcompress.workflows.slimming import slim as slim
    from seclcompress.workflows.surveying import survey as survey
    from seclcompress.workflows.training import distill as distill
    from seclcompress.workflows.training import train as train
    from seclcompress.workflows.tuning import Tuned as Tuned
    from seclcompress.workflows.tuning import tune as tune

_PUBLIC = {
    "Planned": "planning",
    "plan_network": "planning",
    "Counted": "counting",
    "count": "counting",
    "Budgeted": "budgeting",
    "plan": "budgeting",
    "Curve": "curves",
    "pareto": "curves",
    "Converted": "converting",
    "convert": "converting",
    "import_secl": "importing",
    "Benched": "benching",
    "bench": "benching",
    "survey": "surveying",
    "train": "training",
    "distill": "training",
    "FoundLr": "rate_finding",
    "find_lr": "rate_finding",
    "tune": "tuning",
    "Tuned": "tuning",
    "Recovered": "recovering",
    "recover": "recovering",
    "TrainingResult": "runs",
    "InterruptedRunError": "runs",
    "Evaluation": "evaluating",
    "Exported": "exporting",
    "export": "exporting",
    "Reported": "reporting",
    "report": "reporting",
    "Searched": "searching",
    "search": "searching",
    "Slimmed": "slimming",
    "slim": "slimming",
    "Surveyed": "surveying",
    "Uploaded": "sharing",
    "upload": "sharing",
    "evaluate": "evaluating",
    "Widths": "measuring_widths",
    "widths": "measuring_widths",
}

__all__ = sorted(_PUBLIC)

__getattr__ = lazy.attributes(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return __all__
