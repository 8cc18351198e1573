"""Reading a file of weights, within bounds that are known before memory is asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from seclcompress.errors import WeightsError
from seclcompress.networks.weights.archive import check_archive
from seclcompress.networks.weights.kinds import Kind, check_regular, kind_of
from seclcompress.networks.weights.pickled import kind_in_words, unpickle

_LARGEST_HEADER = 2 * 2**20  # bytes; the largest torchvision network has a header of 0.1 MB
#: How many times as large as the network a file may be: it may hold weights, their average and an
#: optimizer's state, all in double precision. A small file may always be read.
_TIMES, _ALWAYS = 16, 2**28  # bytes


def reading_limit(network: nn.Module) -> int:
    """The size in bytes up to which a file of weights for a network is read."""
    own = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    return max(_TIMES * own, _ALWAYS)


def read_weights(path: Path, *, limit: int | None = None) -> Mapping[Any, Any]:
    """Reads a file of weights, whatever its ending.

    Args:
        path: A file in the format of safetensors or of torch.save, with tensors, plain containers and
            some harmless types only.
        limit: The size in bytes up to which the file is read (see `reading_limit`); None for any size.

    Returns:
        What the file holds, on the CPU: tensors by parameter name, or such dictionaries under further
        keys. The tensors of an archive are mapped, not read.

    Raises:
        WeightsError: If the file is missing, too large, damaged, of another kind, or holds pickled
            code.
    """
    kind = kind_of(path)
    if kind is Kind.SAFETENSORS:
        return read_safetensors(path, limit=limit)
    _check_size(path, limit)
    if path.suffix == ".safetensors":  # torch.load would hand it to the safetensors library
        raise WeightsError(
            f"{path} is {kind.value} that is called .safetensors. Rename it, as to .pth."
        )
    if kind is Kind.ZIP:
        check_archive(path)
    content = unpickle(path, legacy=kind is Kind.LEGACY)
    if not isinstance(content, Mapping) or not content:
        empty = isinstance(content, Mapping)
        what = "an empty dictionary" if empty else kind_in_words(content)
        raise WeightsError(f"{path} holds {what}, not weights by name.")
    return content


def read_safetensors(path: Path, *, limit: int | None = None) -> dict[str, Tensor]:
    """Reads a safetensors file.

    Args:
        path: The file, whatever its ending.
        limit: The size in bytes up to which the file is read; None for any size.

    Returns:
        Tensors by name, on the CPU and independent of the file.

    Raises:
        WeightsError: If the file is missing, too large, damaged or of another kind.
    """
    check_regular(path)
    _check_size(path, limit)
    try:
        _check_header(path)
        # The library maps the file: writing over it would change these tensors, or end this process.
        return {name: value.clone() for name, value in safetensors.torch.load_file(path).items()}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}.") from error
    except (RuntimeError, NotImplementedError) as error:  # a dtype that this torch does not make
        reason = (str(error).splitlines() or [""])[0]
        raise WeightsError(f"{path} is not a readable safetensors file: {reason}.") from error


#: How safetensors abbreviates torch's dtypes, where that is not plain.
_KINDS = {"BF": "bfloat", "F": "float", "I": "int", "U": "uint", "C": "complex"}
_NAMES = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"}


def stored_values(path: Path) -> dict[str, int]:
    """Counts the values in a safetensors file by dtype; of the file, only the header is read.

    Args:
        path: The file, whatever its ending.

    Returns:
        The number of values by torch's name of the dtype, the most frequent first.

    Raises:
        WeightsError: If the file is missing, damaged or of another kind.
    """
    check_regular(path)
    counts: Counter[str] = Counter()
    try:
        _check_header(path)
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dictionary
                tensor = file.get_slice(name)
                counts[_torch_name(str(tensor.get_dtype()))] += math.prod(tensor.get_shape())
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}.") from error
    return dict(counts.most_common())


def _torch_name(dtype: str) -> str:
    if dtype in _NAMES:
        return _NAMES[dtype]
    letters = dtype.rstrip("0123456789")
    return _KINDS[letters] + dtype[len(letters) :] if letters in _KINDS else dtype.lower()


def _check_size(path: Path, limit: int | None) -> None:
    """Refuses a file that is much larger than the network; a sparse one takes no room on a disk."""
    size = path.stat().st_size
    if limit is not None and size > limit:
        raise WeightsError(
            f"{path} has {size:,} bytes, far more than the network can take (at most {limit:,} are "
            "read, with all that a checkpoint has besides): refused. Save the weights alone, or name "
            "the network that they belong to."
        )


def _check_header(path: Path) -> None:
    """Refuses a file with a header, the list of its tensors, that would take gigabytes to parse."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > _LARGEST_HEADER:
        raise ValueError(f"its header has {length:,} bytes, more than {_LARGEST_HEADER:,}")
