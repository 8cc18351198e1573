"""The promises of whole convolutions that run multiplied out, or by their factors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from promises.convolutions import convolutions, inherited
from promises.factored import FactoredPromises
from seclcompress.cost import LayerCost
from seclcompress.substitutions import CallSize, Site
from seclcompress.substitutions.shapes.chain import ChainConv, TwoWayConv, output_size
from seclcompress.substitutions.site import CONVOLUTIONS
from seclcompress.trace import trace_network


class TwoWayPromises(FactoredPromises):
    """Promises of convolutions with the original's kernel that also run by factors.

    Their 1×1 convolutions may be of another shape.
    """

    def test_the_shape(self, options: dict[str, Any]) -> None:
        conv, built = self.built(options, 3)
        assert isinstance(built, TwoWayConv)
        dense = built.to_dense()
        assert dense.weight.shape == conv.weight.shape
        assert torch.equal(dense.bias, conv.bias)

    @given(drawn=convolutions())
    @inherited
    def test_the_size_of_the_output(
        self, options: dict[str, Any], drawn: tuple[nn.Module, Tensor]
    ) -> None:
        conv, x = drawn
        if self.family.refuse(conv, self.family.config(options)) is not None:
            return
        built = self.family.build(conv, self.family.config(options))
        if isinstance(built, TwoWayConv):
            assert output_size(built, x.shape[2:]) == list(conv(x).shape[2:])

    @pytest.mark.parametrize(
        ("execution", "training", "ran"),
        [
            ("fast", True, "fast"),
            ("fast", False, "fast"),
            ("dense", True, "dense"),
            ("dense", False, "dense"),
            ("auto", True, "asked, fast"),
            ("auto", False, "dense"),
        ],
    )
    def test_what_runs(
        self,
        options: dict[str, Any],
        execution: str,
        training: bool,
        ran: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        _, built = self.built(options, 3, stride=2)
        seen: list[str] = []
        by_factors, make = built.by_factors, built.make_weight
        monkeypatch.setattr(built, "by_factors", lambda x: seen.append("fast") or by_factors(x))
        monkeypatch.setattr(built, "make_weight", lambda: seen.append("dense") or make())
        monkeypatch.setattr(built, "quickest_in_training", lambda x: seen.append("asked") or "fast")
        built.train(training).execution = execution
        built(self.images(7, 10, batch=3))
        assert ", ".join(seen) == ran

    def test_the_mult_adds_of_its_weight(self, options: dict[str, Any]) -> None:
        """torch's counter sees products of matrices; products of single numbers come on top."""
        _, built = self.built(options, 3)
        with FlopCounterMode(display=False) as counter:
            weight = built.make_weight()
        counted = counter.get_total_flops() // 2
        assert counted <= built.mult_adds_of_weight() <= 1.2 * counted + weight.numel()

    def test_in_training_the_cheaper_one_runs(self, options: dict[str, Any]) -> None:
        """W is made once for a whole batch; its factors run at every position of every image."""
        conv, built = self.built(options, 3, padding=1)
        for sizes in ((1, 1), (40, 40)):
            x = self.images(*sizes, batch=1)
            site = Site(conv, {CallSize(sizes, sizes): 1})
            cost: LayerCost = self.family.cost(site, self.family.config(options))
            dense = cost.mult_adds["dense"] + built.mult_adds_of_weight()
            costs = 1 + built.overhead / min(conv.in_channels, conv.out_channels)
            expected = "fast" if costs * cost.mult_adds["fast"] < dense else "dense"
            assert built.quickest_in_training(x) == expected


class ChainPromises(TwoWayPromises):
    """Promises of convolutions that are thin ones in a row."""

    @given(drawn=convolutions())
    @inherited
    def test_fast_is_what_the_plain_steps_take(
        self, options: dict[str, Any], drawn: tuple[nn.Module, Tensor]
    ) -> None:
        conv, x = drawn
        config = self.family.config(options)
        if self.family.refuse(conv, config) is not None:
            return
        built = self.family.build(conv, config)
        if not isinstance(built, ChainConv):
            return
        plain = built.to_plain()
        size = CallSize(tuple(x.shape[2:]), tuple(conv(x).shape[2:]))
        promised = self.family.cost(Site(conv, {size: 1}), config).mult_adds["fast"]
        assert trace_network(nn.Sequential(plain), tuple(x.shape[1:])).total_mult_adds == promised

    def test_plain_it_keeps_its_steps(self, options: dict[str, Any]) -> None:
        for dimensions in self.dimensions:
            how = {"stride": 2, "padding": 1, "padding_mode": "replicate"}
            _, built = self.built(options, 3, dimensions, **how)
            assert isinstance(built, ChainConv)
            plain = built.to_plain()
            assert {type(step) for step in plain} == {CONVOLUTIONS[dimensions]}
            assert [step.weight.shape for step in plain] == [w.shape for w in built.weights]
            assert [step.bias is not None for step in plain] == [False] * (len(plain) - 1) + [True]
            for axis in range(dimensions):
                having = [step for step in plain if step.kernel_size[axis] == 3]
                assert len(having) == 1, "each dimension of space belongs to one step"
                assert (having[0].stride[axis], having[0].padding[axis]) == (2, 1)
                assert having[0].padding_mode == "replicate"
                others = [step for step in plain if step is not having[0]]
                assert {(s.stride[axis], s.padding[axis]) for s in others} == {(1, 0)}
