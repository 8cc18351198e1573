"""Weights from a file: what kind of file it is, what is in it, which of that fits a network.

The files follow the way of the data: `reading`, `choosing`, `dtypes`, `loading`. No pickled code is
run, no mismatch is ignored, and what was decided is told.
"""

from seclcompress.networks.weights.dtypes import check_finite
from seclcompress.networks.weights.loading import LoadedWeights, load_weights, put_state
from seclcompress.networks.weights.reading import read_weights, reading_limit, tensors_in

__all__ = [
    "LoadedWeights",
    "check_finite",
    "load_weights",
    "put_state",
    "read_weights",
    "reading_limit",
    "tensors_in",
]
