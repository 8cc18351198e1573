"""Checks of the operators' operands, and the errors that they raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

# The tensors' dtype -> its number in csrc/kernel.h, and the dtype of the computation.
TYPES = {
    torch.float32: (0, torch.float32),
    torch.float64: (1, torch.float64),
    torch.bfloat16: (2, torch.float32),
}


def refuse(what: str, why: str, remedy: str) -> ValueError:
    """The error for an operand: what it is, with its values, why it is refused, and what to do."""
    return ValueError(f"seclcompress.kernel: {what}: {why}. {remedy}")


def check_dtype(name: str, value: Tensor) -> None:
    """Raises ValueError unless the kernel knows the operand's dtype."""
    if value.dtype not in TYPES:
        known = ", ".join(map(str, TYPES))
        raise refuse(f"{name} is {value.dtype}", f"the kernel knows {known}", f"Convert {name}")


def check_parameter(name: str, value: Tensor, x: Tensor, known_as: str = "x") -> None:
    """Raises ValueError unless the dtype and device of a parameter fit those of x.

    Args:
        name: The parameter's name in the error.
        value: The parameter. It has the dtype of x or that of the computation.
        x: The operand to compare with.
        known_as: The name of x in the error.
    """
    if value.dtype == x.dtype and value.device == x.device:
        return
    allowed = [x.dtype] if x.dtype not in TYPES else sorted({x.dtype, TYPES[x.dtype][1]}, key=str)
    if value.dtype not in allowed:
        names = " or ".join(map(str, allowed))
        raise refuse(
            f"{name} is {value.dtype} and {known_as} is {x.dtype}",
            f"{name} must be {names}",
            f"Convert one of them with .to({x.dtype})",
        )
    if value.device != x.device:
        raise refuse(
            f"{name} is on {value.device} and {known_as} on {x.device}",
            "all operands must be on one device",
            f"Move it with .to({str(x.device)!r})",
        )


def check_factors(a: Tensor, d: Tensor) -> int:
    """Returns N; raises ValueError unless a and d have the shapes of a stack's diagonals."""
    factors = a.shape
    if len(factors) != 2 or factors != d.shape or factors[0] < 1:
        raise refuse(
            f"a has shape {tuple(factors)} and d {tuple(d.shape)}",
            "both must be (layers, N) with at least one layer",
            "Stack the diagonals of the layers along dimension 0",
        )
    return factors[1]


def check_channels(name: str, channels: int, n: int) -> None:
    """Raises ValueError unless a stack of length n can have this number of channels."""
    if not 1 <= channels <= n:
        raise refuse(
            f"{name} is {channels}", f"it must be 1 to N = {n}", "Give the stack a larger N"
        )


def check_stack(
    x: Tensor,
    a: Tensor,
    d: Tensor,
    out_channels: int,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
) -> None:
    """Raises ValueError unless the operands of `acdc_stack` fit together."""
    check_dtype("x", x)
    n, image = check_factors(a, d), x.shape
    if len(image) < 2 or not 1 <= image[1] <= n:
        raise refuse(
            f"x has shape {tuple(image)}",
            f"it must be (batch, channels, *spatial) with 1 to N = {n} channels",
            "Give the stack a larger N or x fewer channels",
        )
    check_channels("out_channels", out_channels, n)
    check_parameter("a", a, x)
    check_parameter("d", d, x)
    for name, value in (("bias", bias), ("scale", scale)):
        if value is None:
            continue
        if value.shape != (out_channels,):
            raise refuse(
                f"{name} has shape {tuple(value.shape)}",
                f"it must be (out_channels,) = ({out_channels},)",
                "Pass one number for each output channel",
            )
        check_parameter(name, value, x)
