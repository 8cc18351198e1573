"""Training with a teacher (distillation) or without one. This package computes and never prints."""

from __future__ import annotations

from seclcompress.train.evaluation import Answers, Evaluation, accuracy_before, evaluate
from seclcompress.train.history import Epoch, read_history
from seclcompress.train.record import BEST, METRICS
from seclcompress.train.run import Stopped, Trainer

__all__ = [
    "BEST",
    "METRICS",
    "Answers",
    "Epoch",
    "Evaluation",
    "Stopped",
    "Trainer",
    "accuracy_before",
    "evaluate",
    "read_history",
]
