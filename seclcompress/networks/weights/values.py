"""The door for values: which dtypes and layouts may become a network's, and how they are cast.

Nothing passes that is not on the list, and nothing is rounded without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from seclcompress.errors import WeightsError

#: The floating-point dtypes that are accepted, with their bits of precision.
FLOATING = {torch.bfloat16: 8, torch.float16: 11, torch.float32: 24, torch.float64: 53}
_INTEGERS = (
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
)
#: The bits of precision of the complex dtypes that are accepted.
_COMPLEX = {torch.complex64: 24, torch.complex128: 53}
_NAMED = 3
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Cast:
    """A change of dtype.

    Attributes:
        before: The dtype in the file.
        after: The network's dtype.
        rounds: Whether some numbers of the first cannot be represented in the second.
    """

    before: torch.dtype
    after: torch.dtype
    rounds: bool

    def __str__(self) -> str:
        rounded = ", rounded" if self.rounds else ""
        return f"{dtype_name(self.before)} became {dtype_name(self.after)}{rounded}"


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype's name, such as `float32`."""
    return str(dtype).removeprefix("torch.")


def oddity(tensor: Tensor) -> str | None:
    """What keeps a tensor from being plain numbers in order, in words; None if nothing does."""
    if tensor.is_nested:
        return "is a nested tensor"
    if tensor.is_quantized:
        return f"is quantised ({dtype_name(tensor.dtype)}): save its dequantize()"
    if tensor.layout is not torch.strided:
        layout = str(tensor.layout).removeprefix("torch.")
        return f"has the layout {layout}: save its to_dense()"
    if tensor.is_meta:
        return "is on the meta device, without values"
    return None


def admit(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str
) -> tuple[dict[str, Tensor], list[Cast]]:
    """Casts tensors to a network's dtypes.

    Args:
        state: Tensors by name, with the network's shapes.
        own: The network's tensors by name.
        source: Where the tensors come from, for messages.

    Returns:
        New tensors by name, and the different casts.

    Raises:
        WeightsError: If a dtype or layout cannot become the network's, or a value is NaN or infinite,
            also if the cast has made it so. The message names the first few tensors.
    """
    admitted: dict[str, Tensor] = {}
    casts: dict[Cast, None] = {}
    complaints = []
    for name, value in state.items():
        wanted = own[name].dtype
        complaint = oddity(value) or _refusal(name, value, wanted)
        if complaint is not None:
            complaints.append(f"{name} {complaint}")
            continue
        admitted[name] = value.detach().to(wanted, copy=True)
        if value.dtype != wanted:
            casts[Cast(value.dtype, wanted, _rounds(value.dtype, wanted))] = None
    if complaints:
        more = f"; and {len(complaints) - _NAMED} more" if len(complaints) > _NAMED else ""
        raise WeightsError(
            f"{source} has weights that cannot become the network's: "
            f"{'; '.join(complaints[:_NAMED])}{more}."
        )
    _check_finite(admitted, state, source)
    return admitted, list(casts)


def _refusal(name: str, value: Tensor, wanted: torch.dtype) -> str | None:
    """Why a dtype cannot become another one; None if it can."""
    have = value.dtype
    if have == wanted and (have in FLOATING or have in _INTEGERS or have in _COMPLEX):
        return None
    if have == wanted == torch.bool:
        return None
    if (have in FLOATING and wanted in FLOATING) or (have in _COMPLEX and wanted in _COMPLEX):
        return None
    words = f"holds {dtype_name(have)}, and the network's is {dtype_name(wanted)}"
    counts = name.rpartition(".")[2] == COUNTER and have in FLOATING
    if wanted in _INTEGERS and (have in _INTEGERS or counts):
        same = bool((value.to(wanted).to(torch.float64) == value.to(torch.float64)).all())
        return None if same else f"{words}, which cannot hold its values"
    if have.is_floating_point and have not in FLOATING and wanted in FLOATING:
        return f"{words}: numbers of so few bits need scales that the network does not have"
    return words


def _rounds(before: torch.dtype, after: torch.dtype) -> bool:
    """Whether a cast between dtypes of one kind rounds; bfloat16 has the exponents of float32."""
    for bits in (FLOATING, _COMPLEX):
        if before in bits and after in bits:
            return bits[before] > bits[after] or (before, after) == (torch.bfloat16, torch.float16)
    return False


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Refuses weights with NaN or infinite values.

    Args:
        state: Tensors by name, in their final dtype: a cast can make a value infinite.
        source: Where the tensors come from, for the message.

    Raises:
        WeightsError: If there are some; the message names the first few tensors.
    """
    _check_finite(state, state, source)


def _check_finite(state: Mapping[str, Tensor], before: Mapping[str, Tensor], source: str) -> None:
    bad, cast = [], ""
    for key, value in state.items():
        if value.is_meta or not (value.is_floating_point() or value.is_complex()):
            continue
        count = _strange_values(value)
        if not count:
            continue
        bad.append(f"{key} ({count} of {value.numel()})")
        earlier = before[key].dtype
        if earlier != value.dtype and not cast:
            cast = f" as {dtype_name(value.dtype)}, which the file's {dtype_name(earlier)} became"
    if bad:
        more = f" and {len(bad) - _NAMED} more tensors" if len(bad) > _NAMED else ""
        raise WeightsError(
            f"{source} has values that are NaN or infinite{cast}: {', '.join(bad[:_NAMED])}{more}."
        )


def _strange_values(value: Tensor) -> int:
    """How many values are NaN or infinite."""
    # isfinite does not support 8-bit floats; float32 represents them exactly.
    wide = value.float() if value.element_size() == 1 else value
    return int((~torch.isfinite(wide)).sum())
