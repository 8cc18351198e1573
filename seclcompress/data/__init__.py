"""Data sets by name: folders, torchvision, scikit-learn. Downloads need explicit permission."""

from __future__ import annotations

from seclcompress.data.augmentation import Augmentation
from seclcompress.data.classes import align_classes, permutation
from seclcompress.data.dataset import Data, check_labels
from seclcompress.data.images import Batch, Images, Presentation
from seclcompress.data.opening import (
    DEFAULT_ROOT,
    NAMES,
    has_test_images,
    load_data,
    usual_input_size,
)
from seclcompress.data.order import split_into_steps

__all__ = [
    "DEFAULT_ROOT",
    "NAMES",
    "Augmentation",
    "Batch",
    "Data",
    "Images",
    "Presentation",
    "align_classes",
    "check_labels",
    "has_test_images",
    "load_data",
    "permutation",
    "split_into_steps",
    "usual_input_size",
]
