"""One forward pass that records the sizes of every layer's calls, Mult-Adds, and uncounted operations.

The pass runs on the meta device if the network allows that. It then computes no values and needs no
memory for them, whatever the network's size.
"""

from seclcompress.trace.copies import copied_network, whole_copy
from seclcompress.trace.model import ModuleCall, Trace
from seclcompress.trace.operations import FREE_OPERATIONS
from seclcompress.trace.run import eval_mode, floating_dtype, products_in_sight, trace_network

__all__ = [
    "FREE_OPERATIONS",
    "ModuleCall",
    "Trace",
    "copied_network",
    "eval_mode",
    "floating_dtype",
    "products_in_sight",
    "trace_network",
    "whole_copy",
]
