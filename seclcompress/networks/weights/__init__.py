"""Weights from a file into a network, without running code of the file or guessing in silence.

The files of this package follow the way of the data. `kinds` finds out what kind of file it is, by its
bytes; `reading`, `archive` and `pickled` read it within bounds; `matching`, `heads` and `choice` find
the dictionary of tensors that fits the network; `values` says which values may become the network's;
and `loading` puts them there.
"""

from seclcompress.networks.weights.kinds import check_regular
from seclcompress.networks.weights.loading import Loaded, load_weights, put_state
from seclcompress.networks.weights.reading import (
    read_safetensors,
    read_weights,
    reading_limit,
    stored_values,
)
from seclcompress.networks.weights.values import FLOATING, check_finite, dtype_name

__all__ = [
    "FLOATING",
    "Loaded",
    "check_finite",
    "check_regular",
    "dtype_name",
    "load_weights",
    "put_state",
    "read_safetensors",
    "read_weights",
    "reading_limit",
    "stored_values",
]
