"""What a person may choose: models from which options, files and saved runs are all read.

They need no torch, so that the command line can show its help at once.
"""

from seclcompress.settings.planning import Assignment, PlanOptions
from seclcompress.settings.training import GROUPS, INCIDENTAL, TrainingSettings

__all__ = ["GROUPS", "INCIDENTAL", "Assignment", "PlanOptions", "TrainingSettings"]
