"""What the kernel's operands must be, and the errors that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

# What the tensors hold -> its number in csrc/kernel.h and what is computed with.
TYPES = {
    torch.float32: (0, torch.float32),
    torch.float64: (1, torch.float64),
    torch.bfloat16: (2, torch.float32),
}


def refuse(what: str, why: str, remedy: str) -> ValueError:
    """The error that says where, what with its values, why, and what to do."""
    return ValueError(f"seclcompress.kernel.acdc_stack: {what}: {why}. {remedy}")


def check_parameter(name: str, value: Tensor, x: Tensor) -> None:
    """Raises ValueError unless the dtype and device of a parameter go with those of x."""
    allowed = [x.dtype] if x.dtype not in TYPES else sorted({x.dtype, TYPES[x.dtype][1]}, key=str)
    if value.dtype not in allowed:
        names = " or ".join(map(str, allowed))
        raise refuse(
            f"{name} is {value.dtype} and x is {x.dtype}",
            f"{name} must be {names}",
            f"Convert one of them with .to({x.dtype})",
        )
    if value.device != x.device:
        raise refuse(
            f"{name} is on {value.device} and x on {x.device}",
            "all operands must be on one device",
            f"Move it with .to({str(x.device)!r})",
        )


def check_stack(
    x: Tensor, a: Tensor, d: Tensor, out_channels: int, **affine: Tensor | None
) -> None:
    """Raises ValueError unless the operands fit together; `affine` by name, as `bias`."""
    if x.dtype not in TYPES:
        known = ", ".join(map(str, TYPES))
        raise refuse(f"x is {x.dtype}", f"the kernel knows {known}", "Convert x")
    if a.dim() != 2 or a.shape != d.shape or a.shape[0] < 1:
        raise refuse(
            f"a has shape {tuple(a.shape)} and d {tuple(d.shape)}",
            "both must be (layers, N) with at least one layer",
            "Stack the diagonals of the layers along dimension 0",
        )
    n = a.shape[1]
    if x.dim() < 2 or not 1 <= x.shape[1] <= n:
        raise refuse(
            f"x has shape {tuple(x.shape)}",
            f"it must be (batch, channels, *spatial) with 1 to N = {n} channels",
            "Give the stack a larger N or x fewer channels",
        )
    if not 1 <= out_channels <= n:
        raise refuse(
            f"out_channels is {out_channels}",
            f"it must be 1 to N = {n}",
            "Give the stack a larger N",
        )
    for name, value in affine.items():
        if value is not None and (value.dim() != 1 or value.shape[0] != out_channels):
            raise refuse(
                f"{name} has shape {tuple(value.shape)}",
                f"it must be (out_channels,) = ({out_channels},)",
                "Pass one number for each output channel",
            )
    for name, value in {"a": a, "d": d, **affine}.items():
        if value is not None:
            check_parameter(name, value, x)
