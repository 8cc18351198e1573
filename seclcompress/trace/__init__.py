"""One forward pass that tells where each layer stands: sizes, Mult-Adds, and what nobody counts.

The pass runs on the meta device where the network allows it, so it computes nothing and needs no
memory, whatever the network's size.
"""

from seclcompress.trace.model import ModuleCall, Trace
from seclcompress.trace.operations import FREE_OPERATIONS
from seclcompress.trace.run import eval_mode, floating_dtype, trace_network

__all__ = [
    "FREE_OPERATIONS",
    "ModuleCall",
    "Trace",
    "eval_mode",
    "floating_dtype",
    "trace_network",
]
