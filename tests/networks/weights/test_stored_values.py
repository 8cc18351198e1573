"""What a safetensors file holds, from its header alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from seclcompress.errors import WeightsError
from seclcompress.networks.weights import dtype_name, stored_values

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)


def test_values_are_counted_by_torchs_names_of_dtypes(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    tensors = {
        str(number): torch.zeros(number, 2).to(dtype) for number, dtype in enumerate(DTYPES, 1)
    }
    save_file({**tensors, "scalar": torch.tensor(1.0), "none": torch.zeros(0, 5)}, file)
    expected = {dtype_name(dtype): 2 * number for number, dtype in enumerate(DTYPES, 1)}
    expected["float32"] += 1
    found = stored_values(file)
    assert found == expected
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_what_is_no_such_file(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    for content in (b"", b"{}", b"\xff" * 8 + b"{", b"\x02" + b"\0" * 7 + b"{]"):
        file.write_bytes(content)
        with pytest.raises(
            WeightsError, match=r"a\.safetensors is not a readable safetensors file"
        ):
            stored_values(file)
    with pytest.raises(WeightsError, match="There is no weights file"):
        stored_values(tmp_path)
