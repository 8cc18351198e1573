"""Small networks whose Mult-Adds were worked out by hand; with and without a look at a value.

Where a network looks at a value, the trace runs with values, and torch's fused kernels must not hide
their products.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Invoke
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import flop_registry, register_flop_formula
from torchvision.ops import DeformConv2d

from seclcompress.errors import NetworkError
from seclcompress.plan import PlanOptions, make_plan
from seclcompress.trace import trace_network
from seclcompress.witness import fvcore_mult_adds

POSITIONS = 32 * 32
STEM = POSITIONS * (16 * 27 + 64 * 144)
LAST = 64 * 10


class Base(nn.Module):
    """Two convolutions, something of a subclass, and a Linear; it may look at a value."""

    looks = False

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.body = nn.Conv2d(16, 64, 3, padding=1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        if self.looks:
            assert not torch.isnan(x).any()
        return self.more(self.body(self.stem(x)))

    def more(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))

    def tokens(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


class Lstm(Base):
    mine = 2 * 32 * (4 * 32 * (64 + 32)) + LAST

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(64, 32, batch_first=True, bidirectional=True)

    def more(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x.mean(2).transpose(1, 2))[0][:, -1])


class Gru(Base):
    mine = 32 * 3 * 64 * 128 + LAST

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(64, 64, batch_first=True)

    def more(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x.mean(2).transpose(1, 2))[0][:, -1])


class LstmCell(Base):
    mine = 32 * 4 * 64 * 128 + LAST

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTMCell(64, 64)

    def more(self, x: Tensor) -> Tensor:
        x, state = x.mean(2), None
        for step in range(x.shape[2]):
            state = self.rnn(x[:, :, step], state)
        assert state is not None
        return self.fc(state[0])


class Attention(Base):
    mine = 2 * POSITIONS**2 * 64 + LAST

    def more(self, x: Tensor) -> Tensor:
        x = self.tokens(x).reshape(1, -1, 4, 16).transpose(1, 2)
        x = F.scaled_dot_product_attention(x, x, x)
        return self.fc(x.transpose(1, 2).flatten(2).mean(1))


class MultiHead(Base):
    mine = 2 * POSITIONS**2 * 64 + 4 * POSITIONS * 4096 + LAST

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)

    def more(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        return self.fc(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Encoder(Base):
    mine = 2 * (2 * POSITIONS**2 * 64 + 4 * POSITIONS * 4096 + 2 * POSITIONS * 64 * 128) + LAST

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def more(self, x: Tensor) -> Tensor:
        return self.fc(self.encoder(self.tokens(x)).mean(1))


class Deformable(Base):
    mine = POSITIONS * 18 * 576 + POSITIONS * 64 * 576 + LAST

    def __init__(self) -> None:
        super().__init__()
        self.offsets = nn.Conv2d(64, 18, 3, padding=1)
        self.deformed = DeformConv2d(64, 64, 3, padding=1)

    def more(self, x: Tensor) -> Tensor:
        return super().more(self.deformed(x, self.offsets(x)))


class Bilinear(Base):
    mine = 64**3 + LAST

    def __init__(self) -> None:
        super().__init__()
        self.bilinear = nn.Bilinear(64, 64, 64)

    def more(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3))
        return self.fc(self.bilinear(x, x))


class Vectors(Base):
    mine = LAST + 64

    def more(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3))[0]
        return (self.fc.weight @ x + self.fc.bias)[None] * torch.dot(x, x)


class Distances(Base):
    mine = 64 * 10

    def more(self, x: Tensor) -> Tensor:
        return torch.cdist(x.mean((2, 3)), self.fc.weight)


class Transposed(Base):
    mine = POSITIONS * 64 * 32 * 16 + 4 * POSITIONS * 32 * 16 + 320

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1)
        self.again = nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1, groups=32)
        self.fc = nn.Linear(32, 10)

    def more(self, x: Tensor) -> Tensor:
        return super().more(self.again(self.up(x)))


class Normed(Base):
    mine = POSITIONS * 64 * 576 + LAST

    def __init__(self) -> None:
        super().__init__()
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(64, 64, 3, padding=1))

    def more(self, x: Tensor) -> Tensor:
        return super().more(self.normed(x))


class Grid(Base):
    mine = LAST

    def more(self, x: Tensor) -> Tensor:
        grid = F.affine_grid(torch.eye(2, 3)[None].to(x), list(x.shape), align_corners=False)
        return super().more(F.grid_sample(x, grid, align_corners=False))


class Elementwise(Base):
    mine = LAST

    def more(self, x: Tensor) -> Tensor:
        x = torch.addcmul(x, x, x, value=0.5).lerp(x, 0.1).nan_to_num().square()
        x = F.interpolate(x[:, :, None], scale_factor=(1, 2, 2), mode="trilinear")[:, :, 0]
        return super().more(x)


class Shifted(Base):
    """A multiplication and a sum by hand are no contraction: this is a convention."""

    mine = LAST

    def more(self, x: Tensor) -> Tensor:
        return super().more((x[:, :, None] * torch.ones(64, 64, 1, 1)).sum(1))


NETWORKS = [
    *(Lstm, Gru, LstmCell, Attention, MultiHead, Encoder, Deformable, Bilinear, Vectors, Distances),
    *(Transposed, Normed, Grid, Elementwise),
]


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("network", [*NETWORKS, Shifted])
def test_mult_adds(network: Any, looks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Base, "looks", looks)
    made = network()
    traced = trace_network(made, (3, 32, 32))
    assert traced.unknown == {}
    assert traced.total_mult_adds == STEM + network.mine


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", NETWORKS)
def test_fvcore_agrees(network: Any) -> None:
    assert fvcore_mult_adds(network(), (3, 32, 32))[0] == STEM + network.mine


def test_the_switches_are_as_they_were() -> None:
    def state() -> tuple[bool, ...]:
        return (
            torch.backends.mha.get_fastpath_enabled(),
            torch.backends.mkldnn.flags is not None and torch.backends.mkldnn.is_available(),
            torch._C._get_mkldnn_enabled(),
            torch.backends.cudnn.enabled,
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
        )

    before = state()
    trace_network(Encoder(), (3, 32, 32))
    assert state() == before


class Fourier(Base):
    def more(self, x: Tensor) -> Tensor:
        return super().more(torch.fft.irfft2(torch.fft.rfft2(x) * 2))


def test_nothing_agrees_while_something_may_be_uncounted(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    assert set(trace_network(Fourier(), (3, 32, 32)).unknown) == {"_fft_r2c", "_fft_c2r"}
    order = "count test_counting_by_hand:{} --input-size 32 --verify"
    result = invoke(*order.format("Fourier").split(), code=1)
    words = " ".join(result.stderr.split())
    assert "Nothing can be verified: _fft_c2r, _fft_r2c may multiply" in words
    assert "agree" not in words + result.stdout
    for name in ("Deformable", "Lstm", "Vectors"):
        result = invoke(*order.format(name).split())
        assert "agree" in result.stdout + result.stderr


def test_a_formula_of_the_persons_own() -> None:
    @torch.library.custom_op("seclcompress_test::own_product", mutates_args=())
    def own_product(x: Tensor, w: Tensor) -> Tensor:
        return x @ w

    @own_product.register_fake
    def _(x: Tensor, w: Tensor) -> Tensor:
        return x.new_empty(*x.shape[:-1], w.shape[1])

    class Own(Base):
        def more(self, x: Tensor) -> Tensor:
            return torch.ops.seclcompress_test.own_product(x.mean((2, 3)), self.fc.weight.t())

    assert trace_network(Own(), (3, 32, 32)).unknown == {"own_product": 1}
    packet = torch.ops.seclcompress_test.own_product
    register_flop_formula(packet)(lambda x, w, out_shape, **more: 2 * x[0] * x[1] * w[1])
    try:
        traced = trace_network(Own(), (3, 32, 32))
    finally:
        del flop_registry[packet]
    assert traced.unknown == {}
    assert traced.total_mult_adds == STEM + LAST


class TestKinds:
    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (nn.DataParallel, r"wrapped in DataParallel. Give what is inside: its .module"),
            (torch.jit.script, "is a TorchScript program"),
            (lambda n: torch.jit.trace(n, torch.zeros(1, 3, 8, 8)), "is a TorchScript program"),
            (
                lambda n: torch.export.export(n, (torch.zeros(1, 3, 8, 8),)).module(),
                "a program of torch.export",
            ),
            (
                lambda n: nn.Sequential(n, torch.jit.script(nn.Linear(10, 10))),
                "1 is a TorchScript program",
            ),
            (
                lambda n: nn.Sequential(nn.LazyConv2d(4, 3)),
                "0 is a LazyConv2d, which has no size yet",
            ),
        ],
    )
    @pytest.mark.filterwarnings("ignore")
    def test_are_named(self, make: Any, words: str) -> None:
        plain = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
        ).eval()
        with pytest.raises(NetworkError, match=words):
            trace_network(make(plain), (3, 8, 8))

    def test_two_inputs_are_named(self) -> None:
        class Two(Base):
            def forward(self, left: Tensor, right: Tensor) -> Tensor:
                return super().forward(left - right)

        with pytest.raises(NetworkError, match=r"takes 2 arguments \(left, right\)") as caught:
            trace_network(Two(), (3, 8, 8))
        assert "--input-size" not in str(caught.value)

    @pytest.mark.parametrize("make", [torch.compile, torch.fx.symbolic_trace])
    def test_compiled_and_symbolically_traced_ones_are_counted(self, make: Any) -> None:
        plain = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3))
        network = make(plain)
        traced = trace_network(network, (3, 8, 8))
        assert traced.total_mult_adds == trace_network(plain, (3, 8, 8)).total_mult_adds
        make_plan(network, traced, PlanOptions(), may_be_empty=True)
