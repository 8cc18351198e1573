"""Networks that run with fewer and larger operators: convolutions split in two, residual sums and ReLU.

For inference on CPUs with the compiled kernel. A symbolic trace (torch.fx) finds, in a network's own
order, filters over space (a depthwise convolution), the 1×1 convolution or stack behind them, the sum
with a residual, and ReLU. What is found runs as a module, by `kernel.convolve` where weights are dense.
"""

from seclcompress.fusing.graph import NotTraceableError, Tracer, fuse, traced
from seclcompress.fusing.modules import FusedConv, FusedStack, fused_layer

__all__ = [
    "FusedConv",
    "FusedStack",
    "NotTraceableError",
    "Tracer",
    "fuse",
    "fused_layer",
    "traced",
]
