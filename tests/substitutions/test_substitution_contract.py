"""One test suite for every registered substitution: a new family is tested by being there."""

from __future__ import annotations

import copy
import math
import pickle
import shutil
import warnings
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from seclcompress import substitutions
from seclcompress.errors import SubstitutionError, UsageError
from seclcompress.substitutions import StructuredConv, StructuredLinear, structured_layers
from seclcompress.substitutions.contract import (
    CONVOLUTIONS,
    Substitution,
    SubstitutionConfig,
    as_convolution,
)
from seclcompress.substitutions.shapes import white_gain

#: Options worth testing beside the defaults.
CONFIGS: dict[str, list[dict[str, Any]]] = {
    "acdc": [{}, {"depth": 1}, {"depth": 3, "extra_riffle": True}, {"depth": 2, "init": "paper"}],
}
CASES = [(name, config) for name in substitutions.names() for config in CONFIGS.get(name, [{}])]
case = pytest.mark.parametrize(("name", "options"), CASES)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, torch.Tensor]:
    """Any convolution, and an input that it accepts."""
    dimensions = draw(st.sampled_from([2, 2, 2, 1, 3]))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    c_in = groups * draw(st.integers(1, 13 // groups))
    c_out = groups * draw(st.integers(1, 13 // groups))
    kernel = draw(st.lists(st.integers(1, 4), min_size=dimensions, max_size=dimensions))
    dilation = draw(st.integers(1, 2))
    stride = draw(st.lists(st.integers(1, 3), min_size=dimensions, max_size=dimensions))
    padding: Any = draw(st.sampled_from([0, 1, 2, "same", "valid"]))
    if padding == "same":
        stride = [1] * dimensions
    mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
    sizes = [(k - 1) * dilation + 1 + draw(st.integers(2, 5)) for k in kernel]
    torch.manual_seed(draw(st.integers(0, 999)))
    conv = CONVOLUTIONS[dimensions](
        c_in,
        c_out,
        tuple(kernel),
        stride=tuple(stride),
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=mode,
        dtype=torch.float64,
    )
    x = torch.randn(draw(st.integers(1, 2)), c_in, *sizes, dtype=torch.float64)
    return conv, x


@case
@given(drawn=convolutions())
@settings(max_examples=40)
def test_refuses_or_builds_what_it_promised(
    name: str, options: dict[str, Any], drawn: tuple[nn.Module, torch.Tensor]
) -> None:
    conv, x = drawn
    substitution = substitutions.get(name)
    config = substitution.config(options)
    reason = substitution.refuse(conv, config)
    if reason is not None:
        with pytest.raises(SubstitutionError, match="Cannot rewrite"):
            substitution.build(conv, config)
        return
    expected = conv(x)
    built = substitution.build(conv, config)
    cost = substitution.cost(conv, config, expected.shape[2:])
    assert sum(p.numel() for p in built.parameters()) == cost.parameters
    results = {}
    for training in (True, False):
        built.train(training)
        for execution in ("dense", "fast", "auto"):
            for planned in ("dense", "fast"):
                built.execution, built.planned_execution = execution, planned
                y = built(x)
                assert y.shape == expected.shape
                assert y.dtype == expected.dtype
                results[training, execution, planned] = y
    with torch.no_grad():
        results["to_dense"] = built.to_dense()(x)
    reference = results[True, "dense", "dense"]
    scale = max(1.0, float(reference.detach().abs().max()))
    for how, y in results.items():
        assert (y - reference).abs().max() < 1e-9 * scale, how
    assert all(
        type(m) in (*CONVOLUTIONS.values(), nn.Sequential) for m in built.to_dense().modules()
    )


@case
@pytest.mark.parametrize("kernel", [1, 3])
def test_float32_agrees_in_outputs_and_gradients(
    name: str, options: dict[str, Any], kernel: int
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(48, 88, kernel, padding=kernel // 2)
    substitution = substitutions.get(name)
    built = substitution.build(conv, substitution.config(options))
    x = torch.randn(2, 48, 9, 9, requires_grad=True)
    found = []
    for execution in ("dense", "fast", "auto"):
        built.execution = execution
        y = built(x)
        gradients = torch.autograd.grad(y.square().mean(), [x, *built.parameters()])
        found.append([y, *gradients])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


@case
def test_gradcheck(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 2, stride=2, dtype=torch.float64)
    substitution = substitutions.get(name)
    built = substitution.build(conv, substitution.config(options))
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    names = [n for n, _ in built.named_parameters()]

    def run(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(built, dict(zip(names, parameters, strict=True)), x)

    for execution in ("dense", "fast"):
        built.execution = execution
        assert torch.autograd.gradcheck(run, (x, *built.parameters()), fast_mode=True)


@case
def test_saved_and_loaded_it_is_the_same(name: str, options: dict[str, Any]) -> None:
    substitution = substitutions.get(name)
    conv = nn.Conv2d(6, 10, 3)
    built = substitution.build(conv, substitution.config(options)).eval()
    other = substitution.build(conv, substitution.config(options)).eval()
    x = torch.randn(1, 6, 5, 5)
    with torch.no_grad():
        expected = built(x)
        other(x)
        other.load_state_dict(safetensors.torch.load(safetensors.torch.save(built.state_dict())))
        assert torch.equal(other(x), expected)
        assert torch.equal(copy.deepcopy(built)(x), expected)
        assert torch.equal(pickle.loads(pickle.dumps(built))(x), expected)


@case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_dtype(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    substitution = substitutions.get(name)
    conv = nn.Conv2d(6, 10, 3, dtype=dtype)
    built = substitution.build(conv, substitution.config(options))
    assert {p.dtype for p in built.parameters()} == {dtype}
    assert {p.dtype for p in built.to_dense().parameters()} == {dtype}
    x = torch.randn(1, 6, 5, 5, dtype=dtype)
    results = []
    for execution in ("dense", "fast"):
        built.execution = execution
        results.append(built(x))
        assert results[-1].dtype == dtype
    loose = {torch.float16: 2e-2, torch.bfloat16: 2e-1, torch.float32: 1e-4, torch.float64: 1e-9}
    torch.testing.assert_close(*results, atol=loose[dtype], rtol=loose[dtype])


@case
def test_on_the_meta_device_and_under_autocast(name: str, options: dict[str, Any]) -> None:
    substitution = substitutions.get(name)
    config = substitution.config(options)
    built = substitution.build(nn.Conv2d(6, 10, 3, device="meta"), config)
    assert built(torch.empty(1, 6, 5, 5, device="meta")).shape == (1, 10, 3, 3)
    built = substitution.build(nn.Conv2d(6, 10, 3), config)
    x = torch.randn(1, 6, 5, 5)
    for execution in ("dense", "fast"):
        built.execution = execution
        plain = built(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = built(x)
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), plain, atol=0.1, rtol=0.1)


@case
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("execution", ["dense", "fast"])
def test_compiled_it_computes_the_same(
    name: str, options: dict[str, Any], training: bool, execution: str
) -> None:
    substitution = substitutions.get(name)
    conv = nn.Conv2d(6, 10, 3)
    built = substitution.build(conv, substitution.config(options)).train(training)
    built.execution = execution
    x = torch.randn(2, 6, 5, 5)
    torch._dynamo.reset()
    compiled = torch.compile(built, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), built(x), atol=1e-4, rtol=1e-4)
    with torch.no_grad():  # weights that change are seen
        for parameter in built.parameters():
            parameter.mul_(0.9)
    torch.testing.assert_close(compiled(x), built(x), atol=1e-4, rtol=1e-4)


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


@case
@pytest.mark.parametrize("shape", [(64, 64, 3), (64, 128, 1), (128, 32, 3), (88, 176, 1)])
def test_outputs_start_with_the_convolutions_variance(
    name: str, options: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    c_in, c_out, kernel = shape
    torch.manual_seed(1)
    substitution = substitutions.get(name)
    ratios = []
    for _ in range(4):
        conv = nn.Conv2d(c_in, c_out, kernel, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out")
        built = substitution.build(conv, substitution.config(options))
        x = torch.randn(16, c_in, 10, 10)
        with torch.no_grad():
            ratios.append(float(built(x).var() / conv(x).var()))
    assert 0.8 < sum(ratios) / len(ratios) < 1.25


@case
def test_the_bias_and_the_frozen_state_are_kept(name: str, options: dict[str, Any]) -> None:
    substitution = substitutions.get(name)
    conv = nn.Conv2d(6, 10, 3).requires_grad_(False)
    built = substitution.build(conv, substitution.config(options))
    assert not any(p.requires_grad for p in built.parameters())
    with torch.no_grad():
        zero = built(torch.zeros(1, 6, 3, 3)).flatten()
    torch.testing.assert_close(zero, conv.bias)
    conv.bias.add_(1)
    assert not torch.equal(built.pointwise.bias, conv.bias)


@case
def test_every_name_a_network_reads_of_a_convolution(name: str, options: dict[str, Any]) -> None:
    conv = nn.Conv2d(6, 10, (3, 1), stride=(1, 2), padding=(0, 1), dilation=(2, 1), groups=2)
    substitution = substitutions.get(name)
    built = substitution.build(conv, substitution.config(options))
    words = "in_channels out_channels kernel_size stride padding dilation groups padding_mode"
    for attribute in words.split():
        assert getattr(built, attribute) == getattr(conv, attribute)
        assert getattr(substitutions.plain(built), attribute) == getattr(conv, attribute)
    assert (built.pointwise.in_channels, built.pointwise.out_channels) == (6, 10)
    text = "6, 10, kernel_size=(3, 1), stride=(1, 2), execution="
    assert built.extra_repr() == text + "auto (dense)"
    built.planned_execution = "fast"
    assert built.extra_repr() == text + "auto (fast)"
    built.execution = "dense"
    assert built.extra_repr() == text + "dense"


@case
def test_space_lies_in_the_depthwise_convolution(name: str, options: dict[str, Any]) -> None:
    conv = nn.Conv2d(6, 9, 3, stride=2, padding=1, padding_mode="reflect")
    substitution = substitutions.get(name)
    space, channels = substitution.build(conv, substitution.config(options)).to_dense()
    for convolution, like in ((space, conv), (channels, nn.Conv2d(6, 9, 1))):
        for attribute in "kernel_size stride padding padding_mode".split():
            assert getattr(convolution, attribute) == getattr(like, attribute)
    assert (space.groups, space.bias) == (6, None)


@case
def test_a_plain_layer_keeps_its_own_attributes(name: str, options: dict[str, Any]) -> None:
    """A grouped 1×1 convolution becomes one without groups, and must stay one."""
    substitution = substitutions.get(name)
    built = substitution.build(nn.Conv2d(6, 9, 1, groups=3), substitution.config(options))
    x = torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(substitutions.plain(built)(x), built(x), atol=1e-5, rtol=1e-5)


def _weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of its age
        return torch.nn.utils.weight_norm(layer)


def _hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, args, output: None)
    return layer


@case
def test_what_none_can_rewrite(name: str, options: dict[str, Any]) -> None:
    class Mine(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).relu()

    class Extra(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 4)
            self.scale = nn.Parameter(torch.ones(4))

    class Linear(nn.Linear):
        forward = nn.Identity.forward

    substitution = substitutions.get(name)
    config = substitution.config(options)
    for module, words in [
        (Mine(4, 4, 3), "a Mine may compute something else"),
        (nn.Conv2d(4, 4, 3, groups=4), "depthwise already"),
        (nn.Conv2d(4, 8, 3, groups=4), "depthwise already"),
        (nn.ConvTranspose2d(4, 4, 3), "ConvTranspose2d"),
        (
            nn.MultiheadAttention(4, 2),
            "the packed projections of a MultiheadAttention",
        ),
        (Extra(), "a Extra may compute something else than a plain Linear"),
        (Linear(4, 4), "a Linear may compute something else than a plain Linear"),
        (
            nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
            "the weight of this ParametrizedConv2d is made from other parameters",
        ),
        (_weight_norm(nn.Conv2d(4, 4, 3)), "the weight of this Conv2d is made from other"),
        (_hooked(nn.Conv2d(4, 4, 3)), "it has hooks, which would be lost"),
        (nn.ReLU(), "a ReLU may compute something else"),
    ]:
        assert words in (substitution.refuse(module, config) or "")


@case
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_outputs_have_the_layout_of_a_convolutions(
    name: str, options: dict[str, Any], memory_format: torch.memory_format
) -> None:
    substitution = substitutions.get(name)
    conv = nn.Conv2d(6, 10, 3)
    built = substitution.build(conv, substitution.config(options)).eval()
    x = torch.randn(2, 6, 5, 5).to(memory_format=memory_format)
    for execution in ("dense", "fast"):
        built.execution = execution
        assert built(x).is_contiguous(memory_format=memory_format)


@case
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_scale_of_the_outputs(
    name: str, options: dict[str, Any], bias: bool, kernel: int
) -> None:
    """However the layer runs, twice in a row, and as plain layers; or nothing is changed."""
    substitution = substitutions.get(name)
    conv = nn.Conv2d(6, 9, kernel, bias=bias, dtype=torch.float64)
    built = substitution.build(conv, substitution.config(options)).eval()
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    parts = torch.randn(4, 9, dtype=torch.float64)
    blank = copy.deepcopy(built)
    with torch.no_grad():
        expected = built(x)
        for scale, shift in (parts[:2], parts[2:]):
            if built.scale_outputs(scale, shift):
                expected = expected * scale[:, None, None] + shift[:, None, None]
                blank.scale_outputs(*parts.new_zeros(2, 9))
        parts.zero_()  # what was given is the caller's
        for execution in ("dense", "fast"):
            built.execution = execution
            torch.testing.assert_close(built(x), expected)
        torch.testing.assert_close(built.to_dense()(x), expected)
        blank.load_state_dict(built.state_dict())
        torch.testing.assert_close(blank(x), expected)


@case
@pytest.mark.parametrize("bias", [True, False])
def test_a_scale_of_another_dtype(name: str, options: dict[str, Any], bias: bool) -> None:
    """Batch norms often stay in float32."""
    substitution = substitutions.get(name)
    conv = nn.Conv2d(6, 9, 1, bias=bias, dtype=torch.bfloat16)
    built = substitution.build(conv, substitution.config(options)).eval()
    x = torch.randn(2, 6, 5, 4, dtype=torch.bfloat16)
    before = built(x).detach()
    if not built.scale_outputs(torch.full((9,), 2.0), torch.ones(9)):
        return
    for execution in ("dense", "fast"):
        built.execution = execution
        torch.testing.assert_close(built(x), 2 * before + 1, atol=0.1, rtol=0.1)
    torch.testing.assert_close(built.to_dense()(x), 2 * before + 1, atol=0.1, rtol=0.1)
    with pytest.raises(ValueError, match=r"each of 9 output channels; got shapes \(1,\) and"):
        built.scale_outputs(torch.ones(1), torch.ones(9))


@case
@pytest.mark.parametrize(("dimensions", "kernel"), [(1, 1), (2, 3), (3, 1)])
@pytest.mark.parametrize(
    ("execution", "training", "fast"),
    [
        ("fast", True, True),
        ("fast", False, True),
        ("dense", True, False),
        ("dense", False, False),
        ("auto", True, True),
        ("auto", False, False),
    ],
)
def test_what_runs(
    name: str,
    options: dict[str, Any],
    dimensions: int,
    kernel: int,
    execution: str,
    training: bool,
    fast: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    substitution = substitutions.get(name)
    conv = CONVOLUTIONS[dimensions](6, 10, kernel, stride=2)
    built = substitution.build(conv, substitution.config(options))
    seen: list[Any] = []
    run = built.pointwise.map_channels
    monkeypatch.setattr(built.pointwise, "map_channels", lambda x: seen.append("fast") or run(x))
    monkeypatch.setattr(
        built.pointwise, "quickest_in_training", lambda number: seen.append(number) or "fast"
    )
    built.train(training).execution = execution
    y = built(torch.randn(3, 6, *(7, 10, 4)[:dimensions]))
    positions = [y[:, 0].numel()] if (execution, training) == ("auto", True) else []
    assert seen == positions + ["fast"] * fast


@case
def test_an_empty_batch(name: str, options: dict[str, Any]) -> None:
    substitution = substitutions.get(name)
    built = substitution.build(nn.Conv2d(6, 10, 3), substitution.config(options))
    for execution in ("dense", "fast"):
        built.execution = execution
        assert built(torch.zeros(0, 6, 5, 5)).shape == (0, 10, 3, 3)


@case
@pytest.mark.parametrize("shape", [(9, 13), (13, 9), (8, 8)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_is_a_convolution_over_its_positions(
    name: str, options: dict[str, Any], shape: tuple[int, int], bias: bool
) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(*shape, bias=bias, dtype=torch.float64)
    substitution = substitutions.get(name)
    config = substitution.config(options)
    built = substitution.build(linear, config)
    assert isinstance(built, StructuredLinear)
    assert (built.in_features, built.out_features) == shape
    cost = substitution.cost(as_convolution(linear), config, (7,))
    assert sum(p.numel() for p in built.parameters()) == cost.parameters
    plain = built.to_dense()
    assert type(plain) is nn.Linear
    assert (plain.bias is not None) == bias
    one = built.convolution.to_dense()
    assert torch.equal(plain.weight, one.weight.squeeze(-1)), "what is a matrix already is copied"
    assert len(built.products()) == bool(built.factors())
    for size in [(2, 3, 5), (4,), ()]:
        x = torch.randn(*size, shape[0], dtype=torch.float64)
        for execution in ("dense", "fast", "auto"):
            for training in (True, False):
                substitutions.set_execution(built.train(training), execution)
                torch.testing.assert_close(built(x), plain(x), atol=1e-9, rtol=1e-9)
    assert built(x[None][:0]).shape == (0, shape[1])
    for tensor in (built.train().requires_grad_(), linear):
        assert all(p.requires_grad for p in tensor.parameters())
    built(torch.randn(3, shape[0], dtype=torch.float64)).sum().backward()
    assert all(p.grad is not None for p in built.parameters())


@case
def test_a_linear_hands_on_what_its_convolution_knows(name: str, options: dict[str, Any]) -> None:
    substitution = substitutions.get(name)
    built = substitution.build(nn.Linear(24, 16), substitution.config(options))
    inside = built.convolution
    built.execution, built.planned_execution = "fast", "fast"
    assert (inside.execution, inside.planned_execution) == ("fast", "fast")
    inside.execution, inside.planned_execution = "auto", "dense"
    assert (built.execution, built.planned_execution) == ("auto", "dense")
    with pytest.raises(UsageError, match="Unknown execution 'slow'"):
        built.execution = "slow"
    assert "24" in repr(built)
    assert [id(factor) for factor in built.factors()] == [id(p) for p in inside.factors()]
    built.execution = "dense"
    built.train().keep_product(True)
    built(torch.randn(5, 24)).sum().backward()
    for product in built.products():  # of what the family makes from factors
        torch.testing.assert_close(product, built.to_dense().weight)
        assert product.requires_grad
    assert bool(built.products()) == bool(built.factors())


class InTwoSteps(substitutions.StructuredConv):
    """A family whose 1×1 convolution becomes two plain ones."""

    def __init__(self, conv: nn.Conv1d, steps: nn.Sequential) -> None:
        super().__init__(conv)
        self.steps = steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.steps(x)

    def to_dense(self) -> nn.Module:
        return copy.deepcopy(self.steps)


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_of_several_convolutions_becomes_one_matrix(bias: bool) -> None:
    wide = 2500  # more than are multiplied out at a time
    steps = nn.Sequential(nn.Conv1d(wide, 3, 1, bias=bias), nn.Conv1d(3, 7, 1, bias=bias))
    built = StructuredLinear(InTwoSteps(nn.Conv1d(wide, 7, 1), steps))
    plain = built.to_dense()
    x = torch.randn(4, wide)
    assert type(plain) is nn.Linear
    assert (plain.bias is not None) == bias
    torch.testing.assert_close(plain(x), built(x), atol=1e-5, rtol=1e-4)


@case
def test_a_linear_starts_with_the_variance_of_the_old_one(
    name: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(96, 384)
    substitution = substitutions.get(name)
    built = substitution.build(linear, substitution.config(options))
    x = torch.randn(500, 96)
    with torch.no_grad():
        ratio = float((built(x) - linear.bias).var() / (linear(x) - linear.bias).var())
    assert 0.7 < ratio < 1.4


@case
def test_an_image_without_a_batch(name: str, options: dict[str, Any]) -> None:
    substitution = substitutions.get(name)
    for kernel in (1, 3):
        built = substitution.build(nn.Conv2d(6, 10, kernel), substitution.config(options))
        x = torch.randn(1, 6, 5, 5)
        for execution in ("dense", "fast", "auto"):
            built.execution = execution
            torch.testing.assert_close(built(x[0]), built(x)[0], atol=1e-5, rtol=1e-5)


@case
def test_a_subclass_that_computes_the_same(name: str, options: dict[str, Any]) -> None:
    class Named(nn.Conv3d):
        def __init__(self) -> None:
            super().__init__(4, 9, (3, 1, 1), bias=False)

    substitution = substitutions.get(name)
    built = substitution.build(Named(), substitution.config(options))
    assert built(torch.randn(1, 4, 5, 2, 2)).shape == (1, 9, 3, 2, 2)


def test_zero_weights_do_not_make_a_dead_layer() -> None:
    conv = nn.Conv2d(4, 4, 1)
    nn.init.zeros_(conv.weight)
    built = substitutions.get("acdc").build(conv, substitutions.get("acdc").config({}))
    assert all(float(factor.detach().abs().min()) > 0.5 for factor in built.factors())


@given(c_in=st.integers(1, 300), c_out=st.integers(1, 300))
def test_the_length_is_smooth_and_enough(c_in: int, c_out: int) -> None:
    assume(c_in * c_out > 0)
    length = substitutions.get("acdc").length(nn.Conv2d(c_in, c_out, 1, device="meta"))
    assert length is not None
    assert length >= max(c_in, c_out)


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
    """11 channels are padded to 12, and the riffle puts both ends of a vector where they were."""
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


def test_options_are_checked() -> None:
    acdc = substitutions.get("acdc")
    assert acdc.config({"depth": "8", "extra_riffle": "true"}).model_dump() == {
        "depth": 8,
        "extra_riffle": True,
        "init": "signs",
    }
    for options in ({"depth": 0}, {"depth": -1}, {"depth": "x"}, {"width": 3}, {"init": "zeros"}):
        with pytest.raises(UsageError, match="It takes: depth, extra_riffle, init"):
            acdc.config(options)
    with pytest.raises(UsageError, match=r"Unknown substitution 'acdd'. Did you mean acdc"):
        substitutions.get("acdd")


class Two(StructuredConv):
    """A family that makes two convolutions of a 1×1 one, as a factored matrix does."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__(conv)
        self.inner = nn.Sequential(
            nn.Conv1d(conv.in_channels, 5, 1, bias=False, device=conv.weight.device),
            nn.Conv1d(5, conv.out_channels, 1, device=conv.weight.device),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)

    def to_dense(self) -> nn.Module:
        return copy.deepcopy(self.inner)


def test_several_convolutions_make_one_linear() -> None:
    layer = StructuredLinear(Two(as_convolution(nn.Linear(600, 3))))
    dense = layer.to_dense()
    assert type(dense) is nn.Linear
    first, second = (conv.weight.detach().double().squeeze(-1) for conv in layer.convolution.inner)
    assert torch.equal(dense.weight, (second @ first).float())
    assert torch.equal(dense.bias, layer.convolution.inner[1].bias)
    x = torch.randn(4, 600)
    torch.testing.assert_close(dense(x), layer(x))


@pytest.mark.parametrize("family", [*substitutions.names(), "two"])
def test_dense_on_the_layers_device(family: str) -> None:
    linear = nn.Linear(6, 10, device="meta")
    if family == "two":
        built: nn.Module = StructuredLinear(Two(as_convolution(linear)))
    else:
        substitution = substitutions.get(family)
        built = substitution.build(linear, substitution.config({}))
        plain = nn.Conv2d(6, 10, 3, device="meta", dtype=torch.float64)
        conv = substitution.build(plain, substitution.config({}))
        for module in (conv, conv.to_dense()):
            assert {p.device.type for p in module.parameters()} == {"meta"}
            assert {p.dtype for p in module.parameters()} == {torch.float64}
    assert {p.device.type for p in built.to_dense().parameters()} == {"meta"}


def test_a_linear_does_what_its_convolution_does() -> None:
    acdc = substitutions.get("acdc")
    linear = nn.Linear(8, 8)
    built = acdc.build(linear, acdc.config({}))
    assert built.extra_repr() == "in_features=8, out_features=8"
    left = built.fit(as_convolution(linear))
    found = built.to_dense().weight
    assert float((found - linear.weight).norm() / linear.weight.norm()) == pytest.approx(left)
    assert built.factors() == built.convolution.factors()
    built.train().keep_product(True)
    substitutions.set_execution(built, "dense")
    built(torch.randn(2, 8))
    kept = built.convolution.pointwise._product
    [product] = built.products()
    assert product is kept
    built.keep_product(False)
    built(torch.randn(2, 8))
    assert built.convolution.pointwise._product is None
    assert structured_layers(nn.Sequential(built)) == structured_layers(built) == [built]


def test_execution_is_switched_for_a_whole_network() -> None:
    acdc = substitutions.get("acdc")
    network = nn.Sequential(acdc.build(nn.Conv2d(4, 8, 1), acdc.config({})), nn.ReLU())
    substitutions.set_execution(network, "fast")
    assert network[0].execution == "fast"
    with pytest.raises(UsageError, match="Unknown execution 'quick'"):
        substitutions.set_execution(network, "quick")
    with pytest.raises(UsageError, match="Unknown planned execution 'auto'"):
        network[0].planned_execution = "auto"


class Choosy(Substitution):
    """A family whose options decide what it refuses."""

    name = "choosy"
    summary = "for tests"

    class Config(SubstitutionConfig):
        """Options."""

        most: int = 8

    def _refuse(self, conv: nn.Module, config: Any) -> str | None:
        return "it is too wide" if conv.out_channels > config.most else None

    def cost(self, conv: nn.Module, config: Any, output_size: Any) -> Any:
        raise NotImplementedError

    def _build(self, conv: nn.Module, config: Any) -> StructuredConv:
        return InTwoSteps(conv, nn.Sequential(copy.deepcopy(conv)))


def test_a_family_refuses_by_its_options() -> None:
    family, conv = Choosy(), nn.Conv1d(2, 9, 1)
    assert family.refuse(conv, family.config({})) == "it is too wide"
    with pytest.raises(SubstitutionError, match=r"as 'choosy': it is too wide\.$"):
        family.build(conv, family.config({"most": "8"}))
    assert family.refuse(conv, family.config({"most": 9})) is None
    assert isinstance(family.build(conv, family.config({"most": 9})), StructuredConv)


class NoOptions(Choosy):
    Config = SubstitutionConfig


def test_options_that_are_none_in_words() -> None:
    with pytest.raises(UsageError, match=r"'choosy': .*most.*wide.* It takes: most\.$"):
        Choosy().config({"most": "wide"})
    with pytest.raises(UsageError, match=r"'choosy': .*least.* It takes: none\.$"):
        NoOptions().config({"least": 1})


class OwnConvolution(nn.Conv2d):
    def _conv_forward(self, x: Any, weight: Any, bias: Any) -> Any:
        return -super()._conv_forward(x, weight, bias)


class OwnCall(nn.Linear):
    def __call__(self, x: Any) -> Any:
        return -super().__call__(x)


@case
def test_what_may_compute_something_else_is_kept_in_words(
    name: str, options: dict[str, Any]
) -> None:
    substitution = substitutions.get(name)
    config = substitution.config(options)
    for layer, kind in ((OwnConvolution(3, 8, 3), "convolution"), (OwnCall(24, 16), "Linear")):
        words = f"a {type(layer).__name__} may compute something else than a plain {kind}"
        assert substitution.refuse(layer, config) == words


@case
@pytest.mark.parametrize(("channels", "groups", "kept"), [(1, 1, False), (2, 2, True)])
def test_which_convolutions_are_depthwise(
    name: str, options: dict[str, Any], channels: int, groups: int, kept: bool
) -> None:
    substitution = substitutions.get(name)
    conv = nn.Conv2d(channels, 8, 3, groups=groups)
    reason = substitution.refuse(conv, substitution.config(options))
    assert reason == ("it is depthwise already" if kept else None)


def test_a_linear_as_a_convolution_costs_nothing() -> None:
    linear = nn.Linear(5, 7).requires_grad_(False)
    before = torch.get_rng_state()
    conv = as_convolution(linear)
    assert torch.equal(torch.get_rng_state(), before)
    assert conv.weight.data_ptr() == linear.weight.data_ptr()
    assert not conv.weight.requires_grad
    assert conv.bias is linear.bias
    assert as_convolution(nn.Linear(5, 7, bias=False)).bias is None
    assert as_convolution(nn.Linear(5, 7)).weight.requires_grad


def test_a_layer_of_zeros_has_the_gain_of_a_fresh_one() -> None:
    conv = nn.Conv2d(400, 300, 3)
    fresh = white_gain(conv)
    nn.init.zeros_(conv.weight)
    assert white_gain(conv) == white_gain(conv.to("meta")) == pytest.approx(1 / math.sqrt(3))
    assert fresh == pytest.approx(1 / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("acd", "Did you mean acdc?"),
        ("sep", "Did you mean separable?"),
        ("zzz", f"There are: {', '.join(substitutions.names())}."),
    ],
)
def test_unknown_families(name: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        substitutions.get(name)
    assert str(caught.value) == f"Unknown substitution '{name}'. {words}"


@pytest.mark.parametrize("channels", [(24, 7), (7, 24), (50, 21), (16, 16)], ids=str)
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_papers_first_values_have_the_old_layers_gain(
    channels: tuple[int, int], depth: int
) -> None:
    """Whichever inputs the riffles lead to whichever outputs."""
    conv = nn.Conv2d(*channels, 1, dtype=torch.float64)
    substitution = substitutions.get("acdc")
    built = substitution.build(conv, substitution.config({"depth": depth, "init": "paper"}))
    energy = float(built.to_dense().weight.square().sum()) / channels[1]
    assert energy == pytest.approx(white_gain(conv) ** 2, rel=0.1)
