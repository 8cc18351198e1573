"""The door for tensors: which dtypes and layouts a network takes, and whether values are finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seclcompress.errors import WeightsError

#: Floating-point dtypes that a network of floating-point numbers takes. 8-bit ones are exact in float32.
_FLOATING = frozenset(
    getattr(torch, name)
    for name in (
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e4m3fnuz",
        "float8_e5m2fnuz",
    )
    if hasattr(torch, name)
)
_WHOLE = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})
_NAMED = 3


def reason_to_refuse(mine: Tensor, read: Tensor) -> str | None:
    """Why a tensor of a file cannot become one of a network's; None if it can.

    Args:
        mine: The network's tensor.
        read: The file's tensor.
    """
    if read.is_nested or read.layout != torch.strided:
        return f"is {'nested' if read.is_nested else str(read.layout).removeprefix('torch.')}, not dense"
    if read.is_quantized:
        return f"is quantised ({_name(read.dtype)}); dequantise it first"
    if read.is_meta:
        return "has no values (it is on the meta device)"
    if mine.dtype == read.dtype:
        return None
    allowed = _FLOATING if mine.is_floating_point() else frozenset[torch.dtype]()
    if not mine.is_floating_point() and not mine.is_complex() and mine.dtype != torch.bool:
        allowed = _WHOLE
    if read.dtype not in allowed:
        return f"holds {_name(read.dtype)} where the network has {_name(mine.dtype)}"
    return None


def converted(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Converts tensors to the dtypes of a network's, and checks the values afterwards.

    Args:
        own: The network's tensors.
        state: The file's tensors under the same names, none of them refused.
        source: The file, for messages.

    Returns:
        The converted tensors, and a sentence on conversions that round.

    Raises:
        WeightsError: If a value is not finite after the conversion, or a whole number does not fit.
    """
    made, rounded = {}, set()
    for name, read in state.items():
        mine = own[name]
        made[name] = read.to(mine.dtype)
        if mine.dtype != read.dtype and not _is_exact(read.dtype, mine.dtype):
            rounded.add(f"{_name(read.dtype)} to {_name(mine.dtype)}")
            whole = not read.is_floating_point()
            if whole and not torch.equal(made[name].to(read.dtype), read):
                raise WeightsError(
                    f"{source}: {name} has values that {_name(mine.dtype)} cannot hold."
                )
    check_finite(made, source)
    notes = [f"{source}: rounded {', '.join(sorted(rounded))}."] if rounded else []
    return made, notes


def _is_exact(read: torch.dtype, mine: torch.dtype) -> bool:
    """Whether every value of a dtype is one of another dtype, too."""
    if read.is_floating_point:
        return torch.promote_types(read, mine) == mine if read.itemsize > 1 else mine.itemsize > 1
    return mine.itemsize > read.itemsize


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Refuses weights with NaN or infinite values, complex ones included.

    Raises:
        WeightsError: If there are some; the message names the first few tensors.
    """
    bad = []
    for key, value in state.items():
        if (value.is_floating_point() or value.is_complex()) and not value.is_meta:
            # isfinite does not support 8-bit floats; float32 represents them exactly.
            wide = value.float() if value.element_size() == 1 else value
            count = int((~torch.isfinite(wide)).sum())
            if count:
                bad.append(f"{key} ({count} of {value.numel()})")
    if bad:
        more = f" and {len(bad) - _NAMED} more tensors" if len(bad) > _NAMED else ""
        raise WeightsError(
            f"{source} has values that are NaN or infinite: {', '.join(bad[:_NAMED])}{more}."
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
