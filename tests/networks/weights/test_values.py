"""Which dtypes and layouts come in: each is accepted exactly, accepted and said, or refused by name."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from seclcompress.errors import WeightsError
from seclcompress.networks.weights import check_finite, load_weights, read_weights

DTYPES = sorted(
    {value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str
)
#: Dtypes that become float32, and what is said about it.
TO_FLOAT32 = {
    torch.float32: "",
    torch.float16: "file: float16 became float32.",
    torch.bfloat16: "file: bfloat16 became float32.",
    torch.float64: "file: float64 became float32, rounded.",
}
REFUSED = "cannot become the network's: "


def of_dtype(dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """A tensor of any dtype, also of those that torch cannot convert to."""
    try:
        return torch.ones(shape).to(dtype)
    except (RuntimeError, NotImplementedError):
        return torch.empty(shape, dtype=dtype)


def read(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # prototypes of torch warn
        torch.save(state, path)
        return dict(read_weights(path))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_of_torch(tmp_path: Path, dtype: torch.dtype) -> None:
    network = nn.Linear(4, 4)
    before = network.weight.detach().clone()
    try:
        state = {"weight": of_dtype(dtype, (4, 4)), "bias": torch.zeros(4)}
        content = read(tmp_path / "w.pth", state)
    except WeightsError:  # the file cannot say this dtype
        assert dtype not in TO_FLOAT32
        return
    except (RuntimeError, NotImplementedError, AttributeError, KeyError):
        pytest.skip(f"torch cannot make or save {dtype}")
    if dtype in TO_FLOAT32:
        assert load_weights(network, content, "file").words() == TO_FLOAT32[dtype]
        assert torch.equal(network.weight, torch.ones(4, 4))
        return
    name = str(dtype).removeprefix("torch.")
    words = rf"{REFUSED}weight (holds {name}, and the network's is float32|is quantised)"
    with pytest.raises(WeightsError, match=words):
        load_weights(network, content, "file")
    assert torch.equal(network.weight, before)


LAYOUTS = {
    "has the layout sparse_coo: save its to_dense": lambda t: t.to_sparse(),
    "has the layout sparse_csr": lambda t: t.to_sparse_csr(),
    "has the layout sparse_csc": lambda t: t.to_sparse_csc(),
    "has the layout sparse_bsr": lambda t: t.to_sparse_bsr((2, 2)),
    "is on the meta device, without values": lambda t: t.to("meta"),
    r"is quantised \(qint8\): save its dequantize": (
        lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)
    ),
    "is a nested tensor": lambda t: torch.nested.nested_tensor([torch.ones(3), torch.ones(4)]),
}  # fmt: skip


@pytest.mark.parametrize("words", LAYOUTS)
@pytest.mark.filterwarnings("ignore")
def test_every_layout(tmp_path: Path, words: str) -> None:
    network = nn.Linear(4, 4)
    state = {"weight": LAYOUTS[words](torch.ones(4, 4)), "bias": torch.zeros(4)}
    for content in (state, read(tmp_path / "w.pth", state)):
        with pytest.raises(WeightsError, match=f"{REFUSED}weight {words}"):
            load_weights(network, content, "file")


def test_strides_and_flags_do_not_matter() -> None:
    network = nn.Linear(2, 2, dtype=torch.complex64)
    weight = torch.tensor([[1 + 1j, 2], [3, 4 - 2j]])
    load_weights(network, {"weight": weight.mH, "bias": torch.zeros(2).to(torch.complex64)}, "file")
    assert torch.equal(network.weight, weight.mH.resolve_conj())
    plain = nn.Linear(2, 2)
    load_weights(plain, {"weight": torch.ones(1).expand(2, 2), "bias": torch.zeros(2)}, "file")
    assert torch.equal(plain.weight, torch.ones(2, 2))


@pytest.mark.parametrize(
    ("have", "want", "words"),
    [
        (torch.float32, torch.float16, "float32 became float16, rounded"),
        (torch.float32, torch.bfloat16, "float32 became bfloat16, rounded"),
        (torch.float16, torch.bfloat16, "float16 became bfloat16, rounded"),
        (torch.bfloat16, torch.float16, "bfloat16 became float16, rounded"),
        (torch.float32, torch.float64, "float32 became float64."),
        (torch.complex128, torch.complex64, "complex128 became complex64, rounded"),
        (torch.complex64, torch.complex128, "complex64 became complex128."),
    ],
)
def test_other_casts_are_said(have: torch.dtype, want: torch.dtype, words: str) -> None:
    network = nn.Linear(2, 2, dtype=want)
    state = {"weight": torch.ones(2, 2).to(have), "bias": torch.zeros(2).to(have)}
    assert words in load_weights(network, state, "file").words()
    assert network.weight.dtype == want


@pytest.mark.parametrize(("have", "want"), [("complex64", "float32"), ("float32", "complex64")])
def test_real_and_complex_do_not_mix(have: str, want: str) -> None:
    network = nn.Linear(2, 2, dtype=getattr(torch, want))
    state = {k: v.to(getattr(torch, have)) for k, v in nn.Linear(2, 2).state_dict().items()}
    with pytest.raises(WeightsError, match=f"weight holds {have}, and the network's is {want}"):
        load_weights(network, state, "file")


class Indexed(nn.Module):
    """A network with a buffer of integers and a mask, as Swin has."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("index", torch.zeros(3, dtype=torch.int64))
        self.register_buffer("mask", torch.zeros(3, dtype=torch.bool))
        self.norm = nn.BatchNorm1d(2)


def test_integers_and_masks() -> None:
    network = Indexed()
    state = network.state_dict()
    narrow = state | {"index": torch.tensor([1, 2, 3], dtype=torch.int16)}
    assert load_weights(network, narrow, "file").words() == "file: int16 became int64."
    assert network.index.tolist() == [1, 2, 3]
    counted = state | {"norm.num_batches_tracked": torch.tensor(7.0)}
    load_weights(network, counted, "file")
    assert network.norm.num_batches_tracked == 7
    for name, value, words in (
        ("index", torch.tensor([2**64 - 1] * 3, dtype=torch.uint64), "cannot hold its values"),
        ("index", torch.ones(3), "holds float32, and the network's is int64"),
        ("mask", torch.ones(3, dtype=torch.uint8), "holds uint8, and the network's is bool"),
        ("norm.num_batches_tracked", torch.tensor(7.5), "cannot hold its values"),
        ("norm.num_batches_tracked", torch.tensor(float("nan")), "cannot hold its values"),
    ):
        with pytest.raises(WeightsError, match=f"{name} .*{words}"):
            load_weights(network, state | {name: value}, "file")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.tensor(float("nan")), r"NaN or infinite: weight \(9 of 9\)"),
        (torch.tensor(float("inf")), r"NaN or infinite: weight \(9 of 9\)"),
        (
            torch.tensor(2.0**140, dtype=torch.float64),
            r"NaN or infinite as float32, which the file's float64 became: weight \(9 of 9\)",
        ),
        (torch.tensor(float("nan"), dtype=torch.bfloat16), r"NaN or infinite as float32"),
    ],
)
def test_values_are_looked_at_after_the_cast(
    tmp_path: Path, suffix: str, value: Tensor, words: str
) -> None:
    network = nn.Linear(3, 3)
    before = network.weight.detach().clone()
    state = {"weight": value.repeat(3, 3), "bias": torch.zeros(3)}
    path = tmp_path / f"w{suffix}"
    (torch.save if suffix == ".pth" else safetensors.torch.save_file)(state, path)
    with pytest.raises(WeightsError, match=words):
        load_weights(network, read_weights(path), "file")
    assert torch.equal(network.weight, before)


def test_complex_values_are_looked_at() -> None:
    for bad in (complex("nan"), complex(0, float("inf"))):
        with pytest.raises(WeightsError, match=r"NaN or infinite: w \(1 of 2\)"):
            check_finite({"w": torch.tensor([1, bad])}, "file")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_of_8_bits_are_looked_at_too(dtype: torch.dtype) -> None:
    values = torch.tensor([1.0, -2.0, 0.0])
    check_finite({"w": values.to(dtype)}, "file")
    values[1] = float("nan")
    with pytest.raises(WeightsError, match=r"NaN or infinite: w \(1 of 3\)"):
        check_finite({"w": values.to(dtype)}, "file")
