"""A stack of ACDC layers as one operator: a fused kernel on CPUs, torch.fft elsewhere.

The kernel is optional. If the package was installed without a compiler, `available()` is False and
torch.fft computes everything.
"""

from seclcompress.kernel.convolve import convolve, pack_matrix, unpack_matrix
from seclcompress.kernel.matrix import acdc_matrix
from seclcompress.kernel.ops import acdc_stack, available, description, supports, worthwhile

__all__ = [
    "acdc_matrix",
    "acdc_stack",
    "available",
    "convolve",
    "description",
    "pack_matrix",
    "supports",
    "unpack_matrix",
    "worthwhile",
]
