"""The choices of a user: models from which command-line options, files and saved runs are all read.

These modules do not import torch, so that the command line can show its help at once.
"""

from seclcompress.settings.planning import Assignment, Convention, PlanOptions
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.sensitivity import SensitivityOptions
from seclcompress.settings.training import GROUPS, INCIDENTAL, TrainingSettings

__all__ = [
    "GROUPS",
    "INCIDENTAL",
    "Assignment",
    "Convention",
    "PlanOptions",
    "RecoverySettings",
    "SensitivityOptions",
    "TrainingSettings",
]
