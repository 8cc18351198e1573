"""The promises of every replacement, whatever its shape."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import safetensors.torch
import torch
from hypothesis import given
from torch import Tensor, nn

from promises.convolutions import convolutions, inherited
from promises.costly import costly
from seclcompress import substitutions
from seclcompress.cost import EXECUTIONS
from seclcompress.errors import SubstitutionError, UsageError
from seclcompress.settings.training import GROUPS
from seclcompress.substitutions import CallSize, Site, StructuredLayer, StructuredLinear
from seclcompress.substitutions.contract import Substitution
from seclcompress.substitutions.site import CONVOLUTIONS
from seclcompress.trace import trace_network

#: The modules that `to_plain` may return, beside convolutions and Linears.
PLAIN = (nn.Sequential, nn.ReLU, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
WORDS = "in_channels out_channels kernel_size stride padding dilation groups padding_mode"
EVERY_WAY = (*EXECUTIONS, "auto")


class ReplacementPromises:
    """Promises of all replacements.

    A family's test sets `family` and `cases`. It sets `channels`, `kernels` and `dimensions` if the
    family cannot take the defaults, and `linear` to words of the reason if it refuses Linears.
    """

    family: ClassVar[Substitution]
    cases: ClassVar[Sequence[dict[str, Any]]] = ({},)
    channels: ClassVar[tuple[int, int]] = (6, 10)
    kernels: ClassVar[Sequence[int]] = (1, 3)
    dimensions: ClassVar[Sequence[int]] = (1, 2, 3)
    linear: ClassVar[str | None] = None
    #: Whether it replaces depthwise convolutions instead of ungrouped ones.
    depthwise: ClassVar[bool] = False

    def built(
        self, options: dict[str, Any], kernel: int | None = None, dimensions: int = 2, **how: Any
    ) -> tuple[nn.Module, StructuredLayer]:
        """A convolution that the family can replace, and its replacement."""
        kernel = self.kernels[-1] if kernel is None else kernel
        if self.depthwise:
            how["groups"] = self.channels[0]
        conv = CONVOLUTIONS[dimensions](*self.channels, kernel, **how)
        return conv, self.family.build(conv, self.family.config(options))

    def images(self, *sizes: int, dtype: torch.dtype = torch.float32, batch: int = 2) -> Tensor:
        return torch.randn(batch, self.channels[0], *sizes, dtype=dtype)

    @given(drawn=convolutions())
    @inherited
    def test_refuses_or_builds_what_it_promised(
        self, options: dict[str, Any], drawn: tuple[nn.Module, Tensor]
    ) -> None:
        conv, x = drawn
        config = self.family.config(options)
        reason = self.family.refuse(conv, config)
        if reason is not None:
            assert isinstance(reason, str)
            assert reason
            with pytest.raises(SubstitutionError, match="Cannot rewrite"):
                self.family.build(conv, config)
            return
        expected = conv(x)
        built = self.family.build(conv, config).eval()
        assert isinstance(built, StructuredLayer)
        size = CallSize(tuple(x.shape[2:]), tuple(expected.shape[2:]))
        cost = self.family.cost(Site(conv, {size: 1}), config)
        twice = self.family.cost(Site(conv, {size: 2}), config)
        assert sum(p.numel() for p in built.parameters()) == cost.parameters == twice.parameters
        assert tuple(cost.mult_adds) == self.family.executions == built.executions
        assert twice.mult_adds == {way: 2 * number for way, number in cost.mult_adds.items()}
        for execution in EVERY_WAY:
            for planned in EXECUTIONS:
                built.execution, built.planned_execution = execution, planned
                y = built(x)
                assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
        with torch.no_grad():
            built.execution = "auto"
            plain = built.to_plain()
            torch.testing.assert_close(plain(x), built(x), atol=1e-9, rtol=1e-9)
        counted = trace_network(nn.Sequential(plain), tuple(x.shape[1:])).total_mult_adds
        assert counted in cost.mult_adds.values(), "Mult-Adds of what to_plain makes"
        allowed = (*CONVOLUTIONS.values(), *PLAIN)
        assert all(type(module) in allowed for module in plain.modules())
        shared = {p.data_ptr() for p in built.parameters()} & {
            p.data_ptr() for p in plain.parameters()
        }
        assert not shared, "what to_plain makes has weights of its own"

    def test_something_is_taken(self, options: dict[str, Any]) -> None:
        """A family that refuses all layers would keep all other promises."""
        for dimensions in self.dimensions:
            for kernel in self.kernels:
                self.built(options, kernel, dimensions)

    def test_saved_and_loaded_it_is_the_same(self, options: dict[str, Any]) -> None:
        (_, built), (_, other) = self.built(options), self.built(options)
        built.eval(), other.eval()
        x = self.images(5, 5)
        with torch.no_grad():
            expected = built(x)
            other(x)
            state = safetensors.torch.load(safetensors.torch.save(built.state_dict()))
            other.load_state_dict(state)
            assert torch.equal(other(x), expected)
            assert torch.equal(copy.deepcopy(built)(x), expected)
            assert torch.equal(pickle.loads(pickle.dumps(built))(x), expected)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_any_dtype(self, options: dict[str, Any], dtype: torch.dtype) -> None:
        _, built = self.built(options, dtype=dtype)
        built.eval()
        assert {p.dtype for p in built.parameters()} == {dtype}
        assert {p.dtype for p in built.to_plain().parameters()} == {dtype}
        x = self.images(5, 5, dtype=dtype)
        loose = {
            torch.float16: 2e-2,
            torch.bfloat16: 2e-1,
            torch.float32: 1e-4,
            torch.float64: 1e-9,
        }
        expected = built.to_plain()(x)
        for execution in EXECUTIONS:
            built.execution = execution
            y = built(x)
            assert y.dtype == dtype
            torch.testing.assert_close(y, expected, atol=loose[dtype], rtol=loose[dtype])

    def test_on_the_meta_device(self, options: dict[str, Any]) -> None:
        _, built = self.built(options, device="meta", dtype=torch.float64)
        dense = built.to_dense()
        for module in (built, built.to_plain(), *([] if dense is None else [dense])):
            assert {p.device.type for p in module.parameters()} == {"meta"}
            assert {p.dtype for p in module.parameters()} == {torch.float64}
        x = torch.empty(1, self.channels[0], 5, 5, device="meta", dtype=torch.float64)
        assert built(x).shape[:2] == (1, self.channels[1])

    def test_under_autocast(self, options: dict[str, Any]) -> None:
        _, built = self.built(options)
        built.eval()
        x = self.images(5, 5)
        for execution in EXECUTIONS:
            built.execution = execution
            plain = built(x)
            with torch.autocast(x.device.type, torch.bfloat16):
                half = built(x)
            assert half.dtype == torch.bfloat16
            torch.testing.assert_close(half.float(), plain, atol=0.1, rtol=0.1)

    @costly
    @pytest.mark.parametrize(
        ("training", "execution"),
        [
            (True, "fast"),
            (False, "dense"),
            pytest.param(True, "dense", marks=pytest.mark.exhaustive),
            pytest.param(False, "fast", marks=pytest.mark.exhaustive),
        ],
    )
    def test_compiled_it_computes_the_same(
        self, options: dict[str, Any], training: bool, execution: str
    ) -> None:
        _, built = self.built(options)
        built.train(training).execution = execution
        x = self.images(5, 5)
        torch._dynamo.reset()
        compiled = torch.compile(built, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), built(x), atol=1e-4, rtol=1e-4)
        with torch.no_grad():  # compiled code sees changed weights
            for parameter in built.parameters():
                parameter.mul_(0.9)
        torch.testing.assert_close(compiled(x), built(x), atol=1e-4, rtol=1e-4)

    def test_gradients_reach_every_parameter(self, options: dict[str, Any]) -> None:
        _, built = self.built(options)
        built.train()(self.images(5, 5)).square().sum().backward()
        assert all(p.grad is not None for p in built.parameters())

    def test_the_mode_is_kept_and_new_values_are_trained(self, options: dict[str, Any]) -> None:
        for frozen in (True, False):
            conv, _ = self.built(options)
            conv.requires_grad_(not frozen).train(frozen)
            built = self.family.build(conv, self.family.config(options))
            assert {p.requires_grad for p in built.parameters()} == {True}
            assert {m.training for m in built.modules()} == {frozen}
            assert {m.training for m in built.to_plain().modules()} == {frozen}

    def test_every_name_a_network_reads_of_a_convolution(self, options: dict[str, Any]) -> None:
        how = {"stride": (1, 2), "padding": (0, 1), "dilation": (2, 1)}
        conv, built = self.built(options, **how)
        for attribute in WORDS.split():
            assert getattr(built, attribute) == getattr(conv, attribute)
        plain = substitutions.plain_layers(built)
        assert all(hasattr(plain, attribute) for attribute in WORDS.split())
        assert repr(built).startswith(f"{type(built).__name__}(")
        text = (
            f"{self.channels[0]}, {self.channels[1]}, kernel_size={conv.kernel_size}, stride=(1, 2)"
        )
        several = len(built.executions) > 1
        assert built.extra_repr() == text + (", execution=auto (dense)" if several else "")
        built.planned_execution = "fast"
        assert built.extra_repr() == text + (", execution=auto (fast)" if several else "")
        built.execution = "dense"
        assert built.extra_repr() == text + (", execution=dense" if several else "")

    def test_executions_are_those_of_the_vocabulary(self, options: dict[str, Any]) -> None:
        _, built = self.built(options)
        assert set(built.executions) <= set(EXECUTIONS)
        assert built.executions == self.family.executions
        with pytest.raises(UsageError, match="Unknown execution 'slow'"):
            built.execution = "slow"
        with pytest.raises(UsageError, match="Unknown planned execution 'auto'"):
            built.planned_execution = "auto"

    @pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
    def test_outputs_have_the_layout_of_a_convolutions(
        self, options: dict[str, Any], memory_format: torch.memory_format
    ) -> None:
        _, built = self.built(options)
        x = self.images(5, 5).to(memory_format=memory_format)
        for execution in EXECUTIONS:
            built.eval().execution = execution
            assert built(x).is_contiguous(memory_format=memory_format)

    def test_an_image_without_a_batch_and_a_batch_without_images(
        self, options: dict[str, Any]
    ) -> None:
        for kernel in self.kernels:
            _, built = self.built(options, kernel)
            x = self.images(5, 5)
            for execution in EVERY_WAY:
                built.eval().execution = execution
                torch.testing.assert_close(built(x[0]), built(x)[0], atol=1e-5, rtol=1e-5)
                assert built(x[:0]).shape == (0, *built(x).shape[1:])

    def test_groups_of_parameters(self, options: dict[str, Any]) -> None:
        _, built = self.built(options)
        assert built.affine == self.family.affine
        own = {id(p) for p in built.parameters()}
        grouped = [id(p) for group in built.parameter_groups().values() for p in group]
        assert set(grouped) <= own, "they are the layer's own"
        assert len(grouped) == len(set(grouped)), "none is in two groups"
        assert set(built.parameter_groups()) <= set(GROUPS)

    def test_what_inference_runs(self, options: dict[str, Any]) -> None:
        _, built = self.built(options)
        built.eval()
        x = self.images(6, 5)
        with torch.no_grad():
            for execution in EXECUTIONS:
                built.execution = "auto"
                ready = built.ready(execution)
                assert ready is not built
                assert built.execution == "auto", "the layer itself is not switched"
                shared = {p.data_ptr() for p in ready.parameters()}
                assert not shared & {p.data_ptr() for p in built.parameters()}
                torch.testing.assert_close(ready(x), built(x), atol=1e-5, rtol=1e-5)
                structured = isinstance(ready, StructuredLayer)
                assert structured == (execution == "fast" and "fast" in built.executions)

    @costly
    def test_a_start_from_the_original(self, options: dict[str, Any]) -> None:
        conv, built = self.built(options)
        before = copy.deepcopy(built)
        fit = built.fit(conv)
        if fit is None:
            pairs = zip(before.parameters(), built.parameters(), strict=True)
            assert all(torch.equal(one, two) for one, two in pairs), "nothing was changed"
            return
        assert 0 <= fit.left <= 1.5
        assert fit.of
        assert built(self.images(5, 5)).isfinite().all()

    def test_planning_needs_no_random_numbers(self, options: dict[str, Any]) -> None:
        """A network is planned before its seed is set; its weights must not notice."""
        before = torch.get_rng_state()
        conv, config = nn.Conv2d(*self.channels, 3, device="meta"), self.family.config(options)
        if self.family.refuse(conv, config) is None:
            self.family.cost(Site(conv, {CallSize((5, 5), (3, 3)): 1}), config)
        assert torch.equal(before, torch.get_rng_state())

    def test_a_linear_is_taken_or_refused_in_words(self, options: dict[str, Any]) -> None:
        linear = nn.Linear(*self.channels)
        reason = self.family.refuse(linear, self.family.config(options))
        if self.linear is not None:
            assert reason is not None
            assert self.linear in reason
            return
        assert reason is None
        built = self.family.build(linear, self.family.config(options)).eval()
        assert isinstance(built, StructuredLinear)
        assert (built.in_features, built.out_features) == self.channels
        for plain in (built.to_plain(), built.to_dense()):
            allowed = (nn.Linear, nn.Sequential)
            assert all(type(module) in allowed for module in plain.modules())
            for size in [(2, 3, 5), (4,), ()]:
                x = torch.randn(*size, self.channels[0])
                for execution in EVERY_WAY:
                    built.execution = execution
                    torch.testing.assert_close(built(x), plain(x), atol=1e-4, rtol=1e-4)
