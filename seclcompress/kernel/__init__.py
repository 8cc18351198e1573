"""A fused CPU kernel for stacks of ACDC layers.

It is optional: where the package was installed without a compiler, `available()` is False and the
rest of seclcompress computes the same with torch.fft.
"""

from seclcompress.kernel.ops import acdc_stack, available, dense_weight, supports

__all__ = ["acdc_stack", "available", "dense_weight", "supports"]
