"""The kept dense matrix is never stale."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from seclcompress import substitutions
from seclcompress.stack import dense_matrix


@pytest.fixture
def layer() -> nn.Module:
    torch.manual_seed(0)
    acdc = substitutions.get("acdc")
    return acdc.build(nn.Conv2d(6, 10, 3, bias=False), acdc.config({"depth": 3})).eval()


def agrees(layer: nn.Module) -> bool:
    """Whether dense, which may use a kept matrix, computes what the factors say."""
    x = torch.randn(2, 6, 5, 5, dtype=next(layer.parameters()).dtype)
    with torch.no_grad():
        layer.execution = "fast"
        expected = layer(x)
        layer.execution = "dense"
        return torch.allclose(layer(x), expected, atol=1e-4)


def test_it_is_kept_in_eval_mode_only(layer: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    make = type(layer.pointwise).make_weight
    monkeypatch.setattr(
        type(layer.pointwise), "make_weight", lambda self: made.append(1) or make(self)
    )
    x = torch.randn(1, 6, 5, 5)
    with torch.no_grad():
        layer(x), layer(x)
    assert len(made) == 1
    layer(x)
    assert len(made) == 2, "where gradients flow the matrix is made anew"
    layer.train()
    with torch.no_grad():
        layer(x), layer(x)
    assert len(made) == 4, "in training too"


def test_gradients_flow_in_eval_mode(layer: nn.Module) -> None:
    with torch.no_grad():
        layer(torch.randn(1, 6, 5, 5))
    layer(torch.randn(1, 6, 5, 5)).sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in layer.parameters())


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("foreach", [True, False])
def test_after_a_step(layer: nn.Module, optimizer: type, foreach: bool) -> None:
    assert agrees(layer)
    step = optimizer(layer.parameters(), lr=0.5, foreach=foreach)
    layer(torch.randn(1, 6, 5, 5)).square().sum().backward()
    step.step()
    assert agrees(layer)


@pytest.mark.parametrize("assign", [True, False])
def test_after_a_load(layer: nn.Module, assign: bool) -> None:
    assert agrees(layer)
    layer.load_state_dict({k: v * 1.5 for k, v in layer.state_dict().items()}, assign=assign)
    assert agrees(layer)


def test_after_a_conversion(layer: nn.Module) -> None:
    assert agrees(layer)
    assert agrees(layer.double())
    assert agrees(layer.float())
    assert agrees(layer.to(memory_format=torch.channels_last))


def test_a_copy_has_its_own(layer: nn.Module) -> None:
    assert agrees(layer)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    assert agrees(other)
    assert agrees(layer)


def test_a_copy_carries_no_matrix(layer: nn.Module) -> None:
    x = torch.randn(1, 6, 5, 5)
    fresh = len(pickle.dumps(layer))
    with torch.no_grad():
        layer(x)
    assert len(pickle.dumps(layer)) == fresh
    layer.train().keep_product(True)
    layer(x)
    copied = copy.deepcopy(layer)
    [product] = copied.products()
    torch.testing.assert_close(product, copied.pointwise.make_weight())


def test_a_product_is_kept_only_on_demand_and_with_gradients(layer: nn.Module) -> None:
    x = torch.randn(1, 6, 5, 5)
    [product] = layer.products()
    assert torch.equal(product, layer.pointwise.make_weight())
    layer.execution = "dense"
    layer.train()(x)
    assert layer.pointwise._product is None
    layer.keep_product(True)
    with torch.no_grad():
        layer(x)
    assert layer.products()[0].requires_grad
    assert layer.pointwise.eval().train().training


def test_after_writes_in_place_and_swaps(layer: nn.Module) -> None:
    assert agrees(layer)
    with torch.no_grad():
        layer.pointwise.a.copy_(torch.randn_like(layer.pointwise.a))
    assert agrees(layer)
    layer.pointwise.d = nn.Parameter(torch.randn_like(layer.pointwise.d))
    assert agrees(layer)
    averaged = torch.optim.swa_utils.AveragedModel(layer)
    averaged.update_parameters(layer)
    assert agrees(averaged.module)


def test_after_a_write_past_autograd(layer: nn.Module) -> None:
    assert agrees(layer)
    layer.pointwise.a.data.mul_(2)
    assert agrees(layer)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_after_a_fused_step(layer: nn.Module, optimizer: type) -> None:
    assert agrees(layer)
    step = optimizer(layer.parameters(), lr=0.5, fused=True)
    layer(torch.randn(1, 6, 5, 5)).square().sum().backward()
    step.step()
    assert agrees(layer)


def test_under_functional_call_and_vmap(layer: nn.Module) -> None:
    assert agrees(layer)
    x = torch.randn(1, 6, 5, 5)
    names = [name for name, _ in layer.named_parameters()]
    twice = {name: torch.stack([p, 2 * p]).detach() for name, p in layer.named_parameters()}
    layer.execution = "dense"

    def run(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x)

    with torch.no_grad():
        plain = run(*[twice[name][1] for name in names])
        assert not torch.allclose(plain, layer(x))
        both = torch.func.vmap(run)(*twice.values())
        expected = torch.stack([layer(x), plain])
        torch.testing.assert_close(both, expected, atol=1e-3, rtol=1e-4)
    assert agrees(layer)


def test_compiled_without_gradients(layer: nn.Module) -> None:
    """Nothing is kept there: to compare values would break the graph."""
    layer.execution = "dense"
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x = torch.randn(1, 6, 5, 5)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(compiled(x), layer(x), atol=1e-4, rtol=1e-4)
            layer.pointwise.a.mul_(0.5)


def test_under_inference_mode(layer: nn.Module) -> None:
    x = torch.randn(1, 6, 5, 5)
    with torch.inference_mode():
        expected = layer(x)
    torch.testing.assert_close(layer(x), expected)
    with torch.inference_mode():
        made_inside = copy.deepcopy(layer)
        torch.testing.assert_close(made_inside(x), expected)
        made_inside.pointwise.a.mul_(2)
        assert agrees(made_inside)


def test_on_the_meta_device_nothing_is_compared(layer: nn.Module) -> None:
    layer = layer.to("meta")
    for _ in range(2):
        with torch.no_grad():
            assert layer(torch.empty(1, 6, 5, 5, device="meta")).shape == (1, 10, 3, 3)


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
    w = dense_matrix(a, d, 6, 10, extra_riffle=extra)
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
    """The kernel knows backward alone; forward mode and torch.func go by torch.fft."""
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
    """A vector costs 12 (4·512 + 5·512·9), five times that by torch.fft; W is made from 128."""
    monkeypatch.setattr("seclcompress.kernel.supports", lambda n, dtype, device: fused and dtype)
    acdc = substitutions.get("acdc")
    for size in ((512, 128), (128, 512)):
        layer = acdc.build(nn.Conv2d(*size, 1), acdc.config({})).pointwise
        assert layer.quickest_in_training(most) == "fast"
        assert layer.quickest_in_training(most + 1) == "dense"
    separable = substitutions.get("separable")
    plain = separable.build(nn.Conv2d(512, 512, 1), separable.config({})).pointwise
    assert plain.quickest_in_training(1) == "dense"
