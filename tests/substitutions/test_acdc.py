"""SECL: a depthwise convolution followed by a stack of ACDC layers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st
from promises import FactoredPromises, SplitPromises
from torch import nn

from seclcompress import artefact, substitutions, workflows
from seclcompress.errors import UsageError
from seclcompress.settings import PlanOptions
from seclcompress.stack import stack_matrix
from seclcompress.substitutions import CallSize, Site
from seclcompress.substitutions.acdc import stack_length
from seclcompress.substitutions.shapes import white_gain
from seclcompress.substitutions.shapes.permutation import Permutation


class TestAcdc(SplitPromises, FactoredPromises):
    family = substitutions.get("acdc")
    cases = (
        {"depth": 3},
        {},
        {"depth": 1},
        {"depth": 3, "extra_riffle": True},
        {"depth": 2, "init": "paper"},
        {"depth": 3, "permutation": "random", "permutation_seed": 7, "inverse_riffle": True},
        {"depth": 2, "permutation": "none", "extra_riffle": True, "inverse_riffle": True},
        {"depth": 3, "order": "transposed", "extra_riffle": True},
        {"depth": 2, "block": 3, "order": "transposed"},
        {"depth": 2, "block": 2, "init": "paper", "permutation": "random"},
    )


class TestAcdcWithFiltersFromDiagonals(SplitPromises, FactoredPromises):
    """SECL-LR: the filters are made from 2k numbers each."""

    family = substitutions.get("acdc")
    cases = ({"depth": 2, "depthwise": "acdc"},)
    dimensions = (2,)


@given(c_in=st.integers(1, 300), c_out=st.integers(1, 300))
def test_the_length_is_smooth_and_enough(c_in: int, c_out: int) -> None:
    length = stack_length(nn.Conv2d(c_in, c_out, 1, device="meta"))
    assert max(c_in, c_out) <= length < 1.2 * max(c_in, c_out) + 2
    for prime in (2, 3, 5, 7):
        while length % prime == 0:
            length //= prime
    assert length == 1


def test_a_padded_length_is_noted() -> None:
    acdc = substitutions.get("acdc")
    calls = {CallSize((1,), (1,)): 1}
    notes = {
        n: acdc.cost(Site(nn.Conv1d(n, 8, 1), calls), acdc.config({})).note for n in (416, 420)
    }
    assert notes == {416: "N is 420, as 416 has a large prime factor", 420: ""}


def test_too_wide_for_a_search() -> None:
    acdc = substitutions.get("acdc")
    conv = nn.Conv1d(2**20 + 1, 1, 1, device="meta")
    words = "it has 1,048,577 channels; a stack takes at most 1,048,576"
    assert acdc.refuse(conv, acdc.config({})) == words


def test_options_are_checked() -> None:
    acdc = substitutions.get("acdc")
    assert acdc.config({"depth": "8", "extra_riffle": "true"}).model_dump() == {
        "depth": 8,
        "extra_riffle": True,
        "init": "signs",
        "permutation": "riffle",
        "permutation_seed": 0,
        "inverse_riffle": False,
        "order": "acdc",
        "block": 1,
        "depthwise": "full",
    }
    for options in (
        {"depth": 0},
        {"depth": -1},
        {"depth": "x"},
        {"width": 3},
        {"init": "zeros"},
        {"permutation": "cut"},
        {"permutation": "random", "permutation_seed": -1},
        {"order": "reversed"},
        {"block": 0},
        {"depthwise": "plain"},
    ):
        with pytest.raises(UsageError, match="It takes: depth, extra_riffle, init"):
            acdc.config(options)


def test_a_seed_without_a_random_permutation_is_an_error() -> None:
    acdc = substitutions.get("acdc")
    for permutation in ("riffle", "none"):
        words = f"permutation_seed=3 has no effect with permutation={permutation}"
        with pytest.raises(UsageError, match=words):
            acdc.config({"permutation": permutation, "permutation_seed": 3})


def test_zero_weights_do_not_make_a_dead_layer() -> None:
    conv = nn.Conv2d(4, 4, 1)
    nn.init.zeros_(conv.weight)
    built = substitutions.get("acdc").build(conv, substitutions.get("acdc").config({}))
    factors = built.parameter_groups()["factors"]
    assert all(float(factor.detach().abs().min()) > 0.5 for factor in factors)


@pytest.fixture
def layer() -> nn.Module:
    torch.manual_seed(0)
    acdc = substitutions.get("acdc")
    return acdc.build(nn.Conv2d(6, 10, 3, bias=False), acdc.config({"depth": 3})).eval()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("execution", ["dense", "fast", "auto"])
def test_compiled_by_inductor(execution: str) -> None:
    acdc = substitutions.get("acdc")
    built = acdc.build(nn.Conv2d(6, 10, 3), acdc.config({"depth": 3}))
    built.execution = execution
    x = torch.randn(2, 6, 5, 5)
    for training in (True, False):
        torch._dynamo.reset()
        compiled = torch.compile(built.train(training))
        torch.testing.assert_close(compiled(x), built(x), atol=1e-4, rtol=1e-4)


def test_random_signs_are_exactly_orthogonal() -> None:
    substitution = substitutions.get("acdc")
    conv = nn.Conv2d(64, 64, 1, bias=False, dtype=torch.float64)
    w = substitution.build(conv, substitution.config({})).pointwise.make_weight()
    square = w @ w.T / (w @ w.T)[0, 0]
    torch.testing.assert_close(square, torch.eye(64, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("init", ["signs", "paper"])
@pytest.mark.parametrize("shape", [(11, 11), (22, 11), (11, 22), (58, 30)])
def test_the_stack_starts_with_the_size_of_the_old_matrix(
    init: str, shape: tuple[int, int]
) -> None:
    """It does so with 11 channels, padded to N = 12. (The riffle leaves both ends in their places.)"""
    acdc = substitutions.get("acdc")
    torch.manual_seed(0)
    conv = nn.Conv2d(*shape, 1, dtype=torch.float64)
    config = acdc.config({"init": init, "depth": 3})
    sizes = [
        acdc.build(conv, config).pointwise.make_weight().square().sum()
        for _ in range(1 if init == "paper" else 300)
    ]
    ratio = float(torch.stack(sizes).detach().mean() / conv.weight.detach().square().sum())
    assert ratio == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("channels", [(24, 7), (7, 24), (50, 21), (16, 16)], ids=str)
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_papers_first_values_have_the_old_layers_gain(
    channels: tuple[int, int], depth: int
) -> None:
    """The gain is right for every pattern in which the riffles connect inputs with outputs."""
    conv = nn.Conv2d(*channels, 1, dtype=torch.float64)
    substitution = substitutions.get("acdc")
    built = substitution.build(conv, substitution.config({"depth": depth, "init": "paper"}))
    energy = float(built.to_dense().weight.square().sum()) / channels[1]
    assert energy == pytest.approx(white_gain(conv) ** 2, rel=0.1)


def test_the_fused_kernel_runs_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fused(x: torch.Tensor, *operands: object, scale: None) -> torch.Tensor:
        seen.append(x.dtype)
        return x.new_zeros(1, 10, 4, 4)

    known = (torch.float32, torch.bfloat16)
    monkeypatch.setattr("seclcompress.kernel.worthwhile", lambda n, dtype, device: dtype in known)
    monkeypatch.setattr("seclcompress.kernel.acdc_stack", fused)
    acdc = substitutions.get("acdc")
    for extra in (False, True):
        config = acdc.config({"depth": 3, "extra_riffle": extra})
        pointwise = acdc.build(nn.Conv2d(6, 10, 1), config).pointwise
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            pointwise.map_channels(torch.ones(1, 6, 4, 4, dtype=dtype))
    assert seen == [torch.float32, torch.bfloat16], "no other dtype, and no extra riffle"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("extra", [False, True])
def test_inputs_of_another_dtype_than_the_factors(dtype: torch.dtype, extra: bool) -> None:
    acdc = substitutions.get("acdc")
    config = acdc.config({"depth": 3, "extra_riffle": extra})
    pointwise = acdc.build(nn.Conv2d(6, 10, 1), config).pointwise
    x = torch.randn(2, 6, 4, 4, dtype=dtype)
    a, d = pointwise.factors()
    w = stack_matrix(a, d, 6, 10, extra_riffle=extra)
    torch.testing.assert_close(pointwise.make_weight(), w)
    y = pointwise.map_channels(x)
    assert y.dtype == dtype
    expected = torch.nn.functional.conv2d(
        x.float(), pointwise.make_weight()[:, :, None, None], pointwise.bias
    )
    loose = 0.05 if dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(y.float(), expected, atol=loose, rtol=loose)
    layer = acdc.build(nn.Conv2d(6, 10, 1, bias=False), config)
    results = []
    for execution in ("dense", "fast"):
        layer.execution = execution
        results.append(layer(x))
        assert results[-1].dtype == dtype
    torch.testing.assert_close(*results, atol=loose, rtol=loose)


@pytest.mark.parametrize("execution", ["dense", "fast"])
def test_derivatives_beyond_backward(layer: nn.Module, execution: str) -> None:
    """The kernel supports backward only; forward mode and torch.func use torch.fft."""
    layer = layer.double().requires_grad_(False)
    layer.execution = execution
    x, direction = torch.randn(2, 1, 6, 5, 5, dtype=torch.float64)
    _, tangent = torch.func.jvp(layer, (x,), (direction,))
    step = 1e-6
    difference = (layer(x + step * direction) - layer(x - step * direction)) / (2 * step)
    torch.testing.assert_close(tangent, difference, atol=1e-6, rtol=1e-5)

    def loss(a: torch.Tensor) -> torch.Tensor:
        values = {"pointwise.a": a}
        return torch.func.functional_call(layer, values, (x,)).square().sum()

    gradient = torch.func.grad(loss)(layer.pointwise.a.detach())
    again = layer.pointwise.a.detach().clone().requires_grad_()
    loss(again).backward()
    torch.testing.assert_close(gradient, again.grad)


@pytest.mark.parametrize(("fused", "most"), [(True, 163), (False, 133)])
def test_training_runs_over_whichever_is_less(
    monkeypatch: pytest.MonkeyPatch, fused: bool, most: int
) -> None:
    """A vector costs 12 (4·512 + 5·512·9), or five times that by torch.fft. W takes 128 vectors."""
    monkeypatch.setattr("seclcompress.kernel.supports", lambda n, dtype, device: fused and dtype)
    acdc = substitutions.get("acdc")
    for size in ((512, 128), (128, 512)):
        layer = acdc.build(nn.Conv2d(*size, 1), acdc.config({})).pointwise
        assert layer.quickest_in_training(most) == "fast"
        assert layer.quickest_in_training(most + 1) == "dense"
    separable = substitutions.get("separable")
    plain = separable.build(nn.Conv2d(512, 512, 1), separable.config({})).pointwise
    assert plain.quickest_in_training(1) == "dense"


def _matrices(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """C, riffle and identity as matrices of row vectors, from scipy and from a loop."""
    unit = torch.eye(n, dtype=torch.float64)
    c = torch.from_numpy(scipy.fft.dct(unit.numpy(), norm="ortho"))
    p = torch.zeros(n, n, dtype=torch.float64)
    half = (n + 1) // 2
    for place in range(n):
        p[place, 2 * place if place < half else 2 * (place - half) + 1] = 1
    return c, p, unit


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("permutation", ["riffle", "none", "random"])
@pytest.mark.parametrize("order", ["acdc", "transposed"])
@pytest.mark.parametrize("block", [1, 3])
def test_every_form_is_its_formula(
    order: str, permutation: str, inverse: bool, extra: bool, block: int
) -> None:
    """A C [Q] D C⁻¹ P, or P C D [Q] C⁻¹ A, with the inverses of P and Q where asked for."""
    torch.manual_seed(0)
    n = 9
    acdc = substitutions.get("acdc")
    options = {
        "depth": 3,
        "order": order,
        "permutation": permutation,
        "inverse_riffle": inverse,
        "extra_riffle": extra,
        "block": block,
    }
    built = acdc.build(nn.Conv1d(n, n, 1, dtype=torch.float64), acdc.config(options)).pointwise
    c, riffled, unit = _matrices(n)
    random = unit[:, np.random.RandomState(0).permutation(n)]
    p = {"riffle": riffled, "none": unit, "random": random}[permutation]
    q = riffled if extra else unit
    p, q = (p.mT, q.mT) if inverse else (p, q)
    whole = unit
    for a_l, d_l in zip(built.a.detach(), built.d.detach(), strict=True):
        a, d = (
            torch.diag(x) if block == 1 else torch.block_diag(*x.reshape(-1, block, block))
            for x in (a_l, d_l)
        )
        factors = [a, c, q, d, c.mT, p] if order == "acdc" else [p, c, d, q, c.mT, a]
        whole = torch.linalg.multi_dot([whole, *factors])
    torch.testing.assert_close(built.make_weight().detach(), whole.mT)
    x = torch.randn(4, n, dtype=torch.float64)
    torch.testing.assert_close(built.transform(x).detach(), x @ whole)


def test_a_random_permutation_is_the_same_for_ever() -> None:
    """A saved network is only its diagonals and this seed."""
    assert Permutation("random", 8, 1)(torch.arange(8)).tolist() == [7, 2, 1, 6, 0, 4, 3, 5]
    forth = Permutation("random", 100, 2)
    x = torch.randn(3, 100)
    assert torch.equal(forth(forth(x), inverse=True), x)
    assert not forth.state_dict()
    assert not torch.equal(forth(x), Permutation("random", 100, 3)(x))


def test_a_random_permutation_survives_saving(tmp_path: Path) -> None:
    """The folder is loaded through a skeleton without values; the permutation needs them."""
    options = PlanOptions(config={"depth": 1, "permutation": "random", "permutation_seed": 4})
    workflows.convert("wrn10_0.5", tmp_path / "out", options=options)
    one, two = (artefact.load(tmp_path / "out") for _ in range(2))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(one(x), two(x))
    built = one.group3[0].conv2.pointwise
    a, d = (x.detach().double().numpy() for x in (built.a[0], built.d[0]))
    n = a.shape[0]
    c, _, _ = _matrices(n)
    found = np.diag(a) @ c.numpy() @ np.diag(d) @ c.numpy().T
    found = found[:, np.random.RandomState(4).permutation(n)]
    torch.testing.assert_close(
        built.make_weight().detach().double(),
        torch.from_numpy(found.T.copy()),
        atol=1e-5,
        rtol=1e-4,
    )


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({"depth": 1}, 46_442),
        ({"depth": 11}, 100_202),
        ({"depth": 12}, 105_578),
        ({"depth": 1, "depthwise": "acdc"}, 38_714),
        ({"depth": 11, "depthwise": "acdc"}, 92_474),
        ({"depth": 11, "permutation": "random"}, 100_202),
        ({"depth": 11, "order": "transposed"}, 100_202),
    ],
)
def test_the_papers_parameters_of_wrn40_2(options: dict[str, object], parameters: int) -> None:
    """SECL-LR has 3 · 2,576 parameters less: six numbers for the nine of a filter."""
    asked = PlanOptions(config=options, keep=("*.shortcut",))
    counted = workflows.count("wrn40_2", options=asked).count
    assert counted.columns["dense"].parameters == parameters


@pytest.mark.parametrize(
    ("channels", "depth", "block", "parameters"),
    [
        (32, 1, 1, 64),  # ACDC_1, BDACDC_1_32, and so on; the log's block ones have a bias as well
        (32, 32, 1, 2048),
        (32, 1, 2, 160 - 32),
        (32, 2, 2, 320 - 64),
        (64, 1, 8, 1088 - 64),
        (64, 2, 4, 1152 - 128),
    ],
)
def test_parameters_of_blocks_are_the_logs(
    channels: int, depth: int, block: int, parameters: int
) -> None:
    acdc = substitutions.get("acdc")
    site = Site(nn.Conv1d(channels, channels, 1, bias=False), {CallSize((1,), (1,)): 1})
    config = acdc.config({"depth": depth, "block": block})
    cost = acdc.cost(site, config)
    assert cost.parameters == parameters
    each = 4 * channels + 2 * channels * (block - 1) + 5 * channels * {32: 5, 64: 6}[channels]
    assert cost.mult_adds == {"dense": channels**2, "fast": depth * each}
    assert sum(p.numel() for p in acdc.build(site, config).parameters()) == parameters


def test_a_length_of_whole_blocks() -> None:
    acdc = substitutions.get("acdc")
    conv = nn.Conv1d(22, 10, 1, bias=False)
    config = acdc.config({"depth": 1, "block": 4})
    cost = acdc.cost(Site(conv, {CallSize((1,), (1,)): 1}), config)
    assert cost.note == "N is 24, as 22 is not a fast number of blocks of 4"
    assert cost.parameters == 2 * 24 * 4
    words = "blocks of 23 are larger than its 22 channels"
    assert acdc.refuse(conv, acdc.config({"block": 23})) == words


def test_kernels_without_filters_from_diagonals() -> None:
    acdc = substitutions.get("acdc")
    config = acdc.config({"depthwise": "acdc"})
    words = "a kernel of 1×3 is no square, as depthwise=acdc needs one"
    assert acdc.refuse(nn.Conv2d(4, 6, (1, 3)), config) == words
    assert acdc.refuse(nn.Conv3d(4, 6, 3), config) is not None
    for taken in (nn.Conv2d(4, 6, 1), nn.Conv3d(4, 6, 1), nn.Conv1d(4, 6, 1), nn.Linear(4, 6)):
        assert acdc.refuse(taken, config) is None


@pytest.mark.parametrize("size", [3, 5])
def test_filters_from_diagonals_start_with_norm_one(size: int) -> None:
    acdc = substitutions.get("acdc")
    conv = nn.Conv2d(20, 20, size, dtype=torch.float64)
    built = acdc.build(conv, acdc.config({"depth": 1, "depthwise": "acdc"}))
    filters = built.depthwise.make_weight().detach()
    torch.testing.assert_close(filters.flatten(1).norm(dim=1), torch.ones(20, dtype=torch.float64))
    a, d = (x.detach()[3] for x in (built.depthwise.a, built.depthwise.d))
    c, _, _ = _matrices(size)
    expected = torch.diag(a) @ c @ torch.diag(d) @ c.mT
    torch.testing.assert_close(filters[3, 0], expected)


def test_a_strangers_blocks_do_not_fill_the_memory() -> None:
    """A layer of 1,000 numbers has values even in a skeleton; 2 · 1024 · 1000² would take 16 GB."""
    acdc = substitutions.get("acdc")
    conv = nn.Conv1d(1, 1000, 1)
    assert acdc.refuse(conv, acdc.config({"depth": 1024, "block": 1000})) == (
        "1024 layers with blocks of 1000 have 2,048,000,000 numbers, more than 4 matrices of 1000×1000"
    )
    huge = nn.Conv1d(1, 2**20, 1, device="meta")
    for options in ({"depth": 1024, "permutation": "random"}, {"depth": 1024, "block": 1024}):
        built = acdc.build(huge, acdc.config(options))
        assert all(p.is_meta for p in built.parameters())
        assert acdc.cost(Site(huge, {}), acdc.config(options)).parameters == sum(
            p.numel() for p in built.parameters()
        )


@pytest.mark.parametrize("family", ["acdc", "afdf"])
@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (9, 9)])
def test_the_matrix_is_made_from_its_narrower_side(
    family: str, block: int, shape: tuple[int, int]
) -> None:
    """Where there are fewer outputs the transposed stack makes it, which has transposed blocks."""
    torch.manual_seed(0)
    chosen = substitutions.get(family)
    options = {"depth": 2, "block": block, "permutation": "random", "permutation_seed": 1}
    conv = nn.Conv1d(*shape, 1, bias=False, dtype=torch.float64)
    pointwise = chosen.build(conv, chosen.config(options)).pointwise
    x = torch.eye(shape[0], dtype=torch.float64)
    torch.testing.assert_close(pointwise.make_weight().mT, pointwise.transform(x))


def test_only_the_papers_form_counts_as_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seclcompress.kernel.supports", lambda n, dtype, device: True)
    acdc = substitutions.get("acdc")
    for options, fused in (
        ({}, True),
        ({"depthwise": "acdc", "init": "paper"}, True),
        ({"extra_riffle": True}, False),
        ({"permutation": "none"}, False),
        ({"inverse_riffle": True}, False),
        ({"order": "transposed"}, False),
        ({"block": 2}, False),
    ):
        pointwise = acdc.build(nn.Conv2d(8, 8, 3), acdc.config({"depth": 2, **options})).pointwise
        assert pointwise.fused(torch.float32) is fused
