"""The promises of replacements whose weight is made from factors: a cached weight is never stale."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from promises.affine import AffinePromises
from promises.costly import costly
from seclcompress.substitutions import StructuredLayer
from seclcompress.substitutions.shapes import Factored


def factored_parts(layer: nn.Module) -> list[Factored]:
    return [part for part in layer.modules() if isinstance(part, Factored)]


class FactoredPromises(AffinePromises):
    """Promises of weights that are made from factors, and cached in eval mode."""

    def kept(self, options: dict[str, Any]) -> StructuredLayer:
        """A layer in eval mode that has run once, and so has a cached weight."""
        _, built = self.built(options)
        built.eval().execution = "dense"
        with torch.no_grad():
            built(self.images(5, 5))
        return built

    def agrees(self, layer: StructuredLayer) -> bool:
        """Whether the dense execution, which may use a cached weight, agrees with the factors."""
        example = next(layer.parameters())
        x = self.images(5, 5, dtype=example.dtype)
        dense = layer.to_dense()
        assert dense is not None
        layer.execution = "dense"
        with torch.no_grad():
            return torch.allclose(layer(x), dense(x), atol=1e-4, rtol=1e-4)

    def test_it_is_kept_in_eval_mode_only(
        self, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, built = self.built(options)
        built.eval().execution = "dense"
        parts = factored_parts(built)
        assert parts
        made: list[str] = []
        for part in parts:
            make = part.make_weight
            monkeypatch.setattr(part, "make_weight", lambda make=make: made.append("") or make())
        x = self.images(5, 5)
        with torch.no_grad():
            built(x), built(x)
        assert len(made) == len(parts)
        built(x)
        assert len(made) == 2 * len(parts), "where gradients flow the weight is made anew"
        built.train()
        with torch.no_grad():
            built(x), built(x)
        assert len(made) == 4 * len(parts), "in training too"

    def test_gradients_flow_in_eval_mode(self, options: dict[str, Any]) -> None:
        layer = self.kept(options)
        layer(self.images(5, 5)).square().sum().backward()
        assert all(float(p.grad.abs().sum()) > 0 for p in layer.parameters())

    @pytest.mark.parametrize(
        "how", [{"foreach": True}, {"foreach": False}, {"fused": True}], ids=str
    )
    @pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
    def test_after_a_step(
        self, options: dict[str, Any], optimizer: type, how: dict[str, bool]
    ) -> None:
        layer = self.kept(options)
        step = optimizer(layer.parameters(), lr=0.05, **how)
        layer(self.images(5, 5)).square().sum().backward()
        step.step()
        assert self.agrees(layer)

    @pytest.mark.parametrize("assign", [True, False])
    def test_after_a_load(self, options: dict[str, Any], assign: bool) -> None:
        layer = self.kept(options)
        layer.load_state_dict({k: v * 1.5 for k, v in layer.state_dict().items()}, assign=assign)
        assert self.agrees(layer)

    def test_after_a_conversion(self, options: dict[str, Any]) -> None:
        layer = self.kept(options)
        assert self.agrees(layer.double())
        assert self.agrees(layer.float())
        assert self.agrees(layer.to(memory_format=torch.channels_last))

    def test_after_writes_in_place_past_autograd_and_swaps(self, options: dict[str, Any]) -> None:
        for part_number in range(len(factored_parts(self.kept(options)))):
            layer = self.kept(options)
            factor = factored_parts(layer)[part_number].factors()[0]
            with torch.no_grad():
                factor.copy_(torch.randn_like(factor))
            assert self.agrees(layer)
            factor.data.mul_(2)
            assert self.agrees(layer)
            name = next(n for n, p in layer.named_parameters() if p is factor)
            owner, _, last = name.rpartition(".")
            setattr(layer.get_submodule(owner), last, nn.Parameter(torch.randn_like(factor)))
            assert self.agrees(layer)
        averaged = torch.optim.swa_utils.AveragedModel(layer)
        averaged.update_parameters(layer)
        assert self.agrees(averaged.module)

    def test_after_any_parameter_changed(self, options: dict[str, Any]) -> None:
        """`factors` names all that `make_weight` reads."""
        for name, _ in self.kept(options).named_parameters():
            layer = self.kept(options)
            with torch.no_grad():
                layer.get_parameter(name).mul_(1.5)
            assert self.agrees(layer), name

    def test_after_autocast(self, options: dict[str, Any]) -> None:
        """No weight of half precision is kept for full precision, or gets into plain layers."""
        _, layer = self.built(options)
        layer.eval().execution = "dense"
        untouched = copy.deepcopy(layer)
        x = self.images(5, 5)
        with torch.no_grad():
            with torch.autocast(x.device.type, torch.bfloat16):
                layer(x)
                converted = [layer.to_dense(), layer.to_plain()]
            assert torch.equal(layer(x), untouched(x))
        for module in converted:
            assert {p.dtype for p in module.parameters()} == {torch.float32}

    def test_all_factors_are_in_a_group(self, options: dict[str, Any]) -> None:
        """Otherwise they would train with the decay and the learning rate of everything else."""
        _, layer = self.built(options)
        grouped = {id(p) for group in layer.parameter_groups().values() for p in group}
        factors = {id(p) for part in factored_parts(layer) for p in part.factors()}
        ungrouped = {id(p) for p in layer.parameters() if id(p) in factors - grouped}
        assert ungrouped <= {id(p) for p in self.in_the_rest(layer)}

    def in_the_rest(self, layer: StructuredLayer) -> list[nn.Parameter]:
        """Factors that a family treats as ordinary weights; by default none."""
        return []

    def test_a_copy_has_its_own_and_carries_none(self, options: dict[str, Any]) -> None:
        _, unused = self.built(options)
        unused.eval().execution = "dense"
        size = len(pickle.dumps(unused))
        with torch.no_grad():
            unused(self.images(5, 5))
        assert len(pickle.dumps(unused)) == size
        other = copy.deepcopy(unused)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(1.5)
        assert self.agrees(other)
        assert self.agrees(unused)

    def test_under_functional_call_and_vmap(self, options: dict[str, Any]) -> None:
        layer = self.kept(options)
        x = self.images(5, 5, batch=1)
        names = [name for name, _ in layer.named_parameters()]
        twice = {name: torch.stack([p, 2 * p]).detach() for name, p in layer.named_parameters()}

        def run(*values: Tensor) -> Tensor:
            return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x)

        with torch.no_grad():
            plain = run(*[twice[name][1] for name in names])
            assert not torch.allclose(plain, layer(x))
            both = torch.func.vmap(run)(*twice.values())
            expected = torch.stack([layer(x), plain])
            torch.testing.assert_close(both, expected, atol=1e-3, rtol=1e-3)
        assert self.agrees(layer)

    @costly
    def test_compiled_without_gradients(self, options: dict[str, Any]) -> None:
        """Compiled code does not cache the weight: comparing values would break the graph."""
        layer = self.kept(options)
        torch._dynamo.reset()
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        x = self.images(5, 5)
        with torch.no_grad():
            for _ in range(2):
                torch.testing.assert_close(compiled(x), layer(x), atol=1e-4, rtol=1e-4)
                for part in factored_parts(layer):
                    part.factors()[0].mul_(0.5)

    def test_under_inference_mode(self, options: dict[str, Any]) -> None:
        _, layer = self.built(options)
        layer.eval().execution = "dense"
        x = self.images(5, 5)
        with torch.inference_mode():
            expected = layer(x)
        torch.testing.assert_close(layer(x), expected)
        with torch.inference_mode():
            made_inside = copy.deepcopy(layer)
            torch.testing.assert_close(made_inside(x), expected)
            for part in factored_parts(made_inside):
                part.factors()[0].mul_(2)
            assert self.agrees(made_inside)

    def test_on_the_meta_device_nothing_is_compared(self, options: dict[str, Any]) -> None:
        layer = self.kept(options).to("meta")
        x = torch.empty(1, self.channels[0], 5, 5, device="meta")
        for _ in range(2):
            with torch.no_grad():
                assert layer(x).shape[:2] == (1, self.channels[1])

    def test_products_are_kept_on_demand_and_with_gradients(self, options: dict[str, Any]) -> None:
        _, layer = self.built(options)
        parts = factored_parts(layer)
        x = self.images(5, 5)
        layer.train().execution = "dense"
        for product, part in zip(layer.products(), parts, strict=True):
            assert torch.equal(product, part.make_weight())
        layer(x)
        made = layer.products()
        layer.keep_product(True)
        with torch.no_grad():
            layer(x)
        assert all(product.requires_grad for product in layer.products())
        layer(x)
        kept = copy.deepcopy(layer).products(), layer.products()
        for products in kept:
            for product, fresh in zip(products, made, strict=True):
                torch.testing.assert_close(product, fresh)
        # The last pass's tensors are returned once, because backward frees their graph.
        layer(x).square().sum().backward()
        sum(product.square().sum() for product in layer.products())
        layer.keep_product(False)
        layer(x)
        for product, part in zip(layer.products(), parts, strict=True):
            assert torch.equal(product, part.make_weight())

    def test_a_fit_comes_nearer_than_the_first_values(self, options: dict[str, Any]) -> None:
        torch.manual_seed(0)
        conv, built = self.built(options)
        frozen = [p.requires_grad for p in built.parameters()]
        fit = built.fit(conv)
        if fit is None:
            return
        assert fit.left < 1, "random factors are √2 away"
        assert [p.requires_grad for p in built.parameters()] == frozen
        assert all(p.grad is None for p in built.parameters())
        zero, other = self.built(options)
        nn.init.zeros_(zero.weight)
        before = [p.detach().clone() for p in other.parameters()]
        nothing = other.fit(zero)
        assert nothing is not None
        with torch.no_grad():
            y = other(self.images(5, 5))
        assert y.isfinite().all()
        held = torch.equal(y, other(torch.zeros_like(self.images(5, 5))))
        unchanged = all(torch.equal(*pair) for pair in zip(before, other.parameters(), strict=True))
        assert nothing.left == (0 if held else 1), "it computes zeros, or says that it does not"
        assert held or unchanged
