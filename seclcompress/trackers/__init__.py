"""Where runs are tracked besides their own folder: TensorBoard, MLflow, Weights & Biases.

A tracker is a class with the methods of `contract.Tracker` in a file of its own; it imports its package
where it starts. `tracking.Tracking` is the observer that tells them.
"""

from __future__ import annotations

from seclcompress.trackers.contract import Run
from seclcompress.trackers.tensorboard import EVENTS
from seclcompress.trackers.tracking import STATE, Tracking, check_trackers

__all__ = ["EVENTS", "STATE", "Run", "Tracking", "check_trackers"]
