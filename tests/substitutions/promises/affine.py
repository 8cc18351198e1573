"""The promises of affine replacements, which compute `W x + b` alike in training and eval mode."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

from promises.convolutions import convolutions, inherited
from promises.costly import costly
from promises.replacement import EVERY_WAY, ReplacementPromises
from seclcompress import substitutions
from seclcompress.cost import EXECUTIONS
from seclcompress.substitutions import CallSize, Site
from seclcompress.substitutions.shapes.convolve import convolve
from seclcompress.substitutions.site import CONVOLUTIONS
from seclcompress.trace import trace_network


class AffinePromises(ReplacementPromises):
    """Promises of affine replacements: every execution and the multiplied-out layer agree."""

    @given(drawn=convolutions())
    @inherited
    def test_however_it_runs_it_computes_the_same(
        self, options: dict[str, Any], drawn: tuple[nn.Module, Tensor]
    ) -> None:
        conv, x = drawn
        config = self.family.config(options)
        if self.family.refuse(conv, config) is not None:
            return
        built = self.family.build(conv, config)
        assert built.affine
        results = {}
        for training in (True, False):
            built.train(training)
            for execution in EVERY_WAY:
                for planned in EXECUTIONS:
                    built.execution, built.planned_execution = execution, planned
                    results[training, execution, planned] = built(x)
        dense = built.to_dense()
        assert dense is not None
        allowed = (*CONVOLUTIONS.values(), nn.Sequential)
        assert all(type(module) in allowed for module in dense.modules())
        with torch.no_grad():
            results["to_dense"] = dense(x)
            results["to_plain"] = built.to_plain()(x)
            whole = built.whole_weight()
            if whole is not None:
                weight, bias, groups = whole
                results["whole_weight"] = convolve(x, weight, bias, built, groups)
        reference = results["to_dense"]
        scale = max(1.0, float(reference.abs().max()))
        for how, y in results.items():
            assert (y - reference).abs().max() < 1e-9 * scale, how
        size = CallSize(tuple(x.shape[2:]), tuple(reference.shape[2:]))
        promised = self.family.cost(Site(conv, {size: 1}), config).mult_adds["dense"]
        counted = trace_network(nn.Sequential(dense), tuple(x.shape[1:])).total_mult_adds
        assert counted == promised, "Mult-Adds of what to_dense makes"

    def test_graphs_can_make_the_same_weights(self, options: dict[str, Any]) -> None:
        """What exported files hold instead of weights makes the weights of `to_dense`."""
        for kernel in self.kernels:
            _, built = self.built(options, kernel=kernel)
            built.eval()
            built.scale_outputs(torch.randn(built.out_channels), torch.randn(built.out_channels))
            dense = built.to_dense()
            assert dense is not None
            expected = dict(dense.named_parameters())
            for name, making in built.made_weights().items():
                made = making()
                assert made.shape == expected[name].shape
                assert torch.allclose(made, expected[name], atol=1e-5, rtol=1e-4), name

    def test_it_is_affine(self, options: dict[str, Any]) -> None:
        _, built = self.built(options, dtype=torch.float64)
        one, two = self.images(5, 5, dtype=torch.float64), self.images(5, 5, dtype=torch.float64)
        for training in (True, False):
            built.train(training)
            found = built(0.3 * one + 0.7 * two)
            torch.testing.assert_close(found, 0.3 * built(one) + 0.7 * built(two))

    def test_float32_agrees_in_outputs_and_gradients(self, options: dict[str, Any]) -> None:
        for kernel in self.kernels:
            torch.manual_seed(0)
            _, built = self.built(options, kernel, padding=kernel // 2)
            x = self.images(9, 9).requires_grad_()
            found = []
            for execution in EVERY_WAY:
                built.execution = execution
                y = built(x)
                found.append([y, *torch.autograd.grad(y.square().mean(), [x, *built.parameters()])])
            for other in found[1:]:
                for first, second in zip(found[0], other, strict=True):
                    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)

    def test_gradcheck(self, options: dict[str, Any]) -> None:
        torch.manual_seed(0)
        _, built = self.built(options, stride=2, dtype=torch.float64)
        x = self.images(5, 4, dtype=torch.float64, batch=1).requires_grad_()
        names = [name for name, _ in built.named_parameters()]

        def run(x: Tensor, *parameters: Tensor) -> Tensor:
            values = dict(zip(names, parameters, strict=True))
            return torch.func.functional_call(built, values, x)

        for execution in EXECUTIONS:
            built.execution = execution
            assert torch.autograd.gradcheck(run, (x, *built.parameters()), fast_mode=True)

    def test_outputs_start_with_the_convolutions_variance(self, options: dict[str, Any]) -> None:
        wide, narrow = max(self.channels) * 8, min(self.channels) * 8
        shapes = {(wide, wide), (wide, narrow), (narrow, wide)}
        if self.channels[0] == self.channels[1]:
            shapes = {(wide, wide)}
        for c_in, c_out in sorted(shapes):
            for kernel in self.kernels:
                torch.manual_seed(1)
                ratios = []
                for _ in range(4):
                    groups = c_in if self.depthwise else 1
                    conv = nn.Conv2d(c_in, c_out, kernel, bias=False, groups=groups)
                    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
                    built = self.family.build(conv, self.family.config(options))
                    x = torch.randn(16, c_in, 10, 10)
                    with torch.no_grad():
                        ratios.append(float(built(x).var() / conv(x).var()))
                assert 0.8 < sum(ratios) / len(ratios) < 1.25, (c_in, c_out, kernel)

    def test_the_bias_is_the_convolutions_own_and_not_shared(self, options: dict[str, Any]) -> None:
        conv, built = self.built(options)
        built.eval()
        zero = torch.zeros(1, self.channels[0], 4, 4)
        with torch.no_grad():
            before = built(zero)
            torch.testing.assert_close(before[0, :, 0, 0], conv.bias)
            conv.bias.add_(1)
            assert torch.equal(built(zero), before)
            _, without = self.built(options, bias=False)
            assert torch.equal(without(zero), torch.zeros_like(before))

    def test_a_layer_of_zeros_is_not_replaced_by_a_dead_one(self, options: dict[str, Any]) -> None:
        conv, _ = self.built(options)
        nn.init.zeros_(conv.weight)
        built = self.family.build(conv, self.family.config(options))
        with torch.no_grad():
            assert float(built(self.images(8, 8)).var()) > 0.01

    @pytest.mark.parametrize("bias", [True, False])
    def test_a_scale_of_the_outputs(self, options: dict[str, Any], bias: bool) -> None:
        """A scale applies in every execution, also a second one, and in plain layers; or not at all."""
        for kernel in self.kernels:
            _, built = self.built(options, kernel, bias=bias, dtype=torch.float64)
            built.eval()
            x = self.images(5, 4, dtype=torch.float64)
            parts = torch.randn(4, self.channels[1], dtype=torch.float64)
            blank = copy.deepcopy(built)
            with torch.no_grad():
                expected = built(x)
                for scale, shift in (parts[:2], parts[2:]):
                    if built.scale_outputs(scale, shift):
                        expected = expected * scale[:, None, None] + shift[:, None, None]
                        blank.scale_outputs(*parts.new_zeros(2, self.channels[1]))
                parts.zero_()  # the caller may change its tensors afterwards
                for execution in EXECUTIONS:
                    built.execution = execution
                    torch.testing.assert_close(built(x), expected)
                torch.testing.assert_close(built.to_dense()(x), expected)
                torch.testing.assert_close(built.to_plain()(x), expected)
                blank.load_state_dict(built.state_dict())
                torch.testing.assert_close(blank(x), expected)

    def test_a_linear_starts_with_the_variance_of_the_old_one(
        self, options: dict[str, Any]
    ) -> None:
        if self.linear is not None:
            return
        torch.manual_seed(0)
        sides = (96, 96) if self.channels[0] == self.channels[1] else (96, 384)
        linear = nn.Linear(*sides)
        built = self.family.build(linear, self.family.config(options))
        x = torch.randn(500, 96)
        with torch.no_grad():
            ratio = float((built(x) - linear.bias).var() / (linear(x) - linear.bias).var())
        assert 0.7 < ratio < 1.4

    @costly
    def test_a_linear_hands_on_what_its_convolution_knows(self, options: dict[str, Any]) -> None:
        if self.linear is not None:
            return
        linear = nn.Linear(*self.channels)
        built = self.family.build(linear, self.family.config(options))
        inside = built.convolution
        built.execution, built.planned_execution = "fast", "fast"
        assert (inside.execution, inside.planned_execution) == ("fast", "fast")
        inside.execution, inside.planned_execution = "auto", "dense"
        assert (built.execution, built.planned_execution) == ("auto", "dense")
        assert (built.affine, built.executions) == (inside.affine, inside.executions)
        assert (
            built.extra_repr() == f"in_features={self.channels[0]}, out_features={self.channels[1]}"
        )
        assert {
            name: [id(p) for p in group] for name, group in built.parameter_groups().items()
        } == {name: [id(p) for p in group] for name, group in inside.parameter_groups().items()}
        assert substitutions.structured_layers(nn.Sequential(built)) == [built]
        fit = built.fit(linear)
        if fit is not None:
            found = built.to_dense().weight
            left = float((found - linear.weight).detach().norm() / linear.weight.detach().norm())
            assert left == pytest.approx(fit.left, abs=1e-5)
