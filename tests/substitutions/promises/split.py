"""The promises of replacements that are split into a part for space and one for channels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from promises.affine import AffinePromises
from promises.costly import costly
from seclcompress import substitutions
from seclcompress.substitutions.shapes import SplitConv
from seclcompress.substitutions.site import CONVOLUTIONS


class SplitPromises(AffinePromises):
    """Promises of split replacements."""

    def test_space_lies_in_the_depthwise_part(self, options: dict[str, Any]) -> None:
        conv, built = self.built(options, 3, stride=2, padding=1, padding_mode="reflect")
        assert isinstance(built, SplitConv)
        for plain in (built.to_dense(), built.to_plain()):
            space, *channels = plain
            for part, like in ((space, conv), *((one, nn.Conv2d(1, 1, 1)) for one in channels)):
                for attribute in "kernel_size stride padding padding_mode".split():
                    assert getattr(part, attribute) == getattr(like, attribute)
            assert (space.groups, space.bias) == (self.channels[0], None)
            assert channels[-1].bias is not None
        assert len(built.to_dense()) == 2
        assert (built.pointwise.in_channels, built.pointwise.out_channels) == self.channels

    def test_depthwise_layers_are_left_alone(self, options: dict[str, Any]) -> None:
        config = self.family.config(options)
        for conv in (nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 3, groups=4)):
            assert self.family.refuse(conv, config) == "it is depthwise already"

    def test_a_scale_of_another_dtype(self, options: dict[str, Any]) -> None:
        """The batch norms of a network in bfloat16 often stay in float32."""
        c_out = self.channels[1]
        for bias in (True, False):
            _, built = self.built(options, bias=bias, dtype=torch.bfloat16)
            built.eval()
            x = self.images(5, 4, dtype=torch.bfloat16)
            before = built(x).detach()
            assert built.scale_outputs(torch.full((c_out,), 2.0), torch.ones(c_out))
            for execution in ("dense", "fast"):
                built.execution = execution
                torch.testing.assert_close(built(x), 2 * before + 1, atol=0.1, rtol=0.1)
            torch.testing.assert_close(built.to_dense()(x), 2 * before + 1, atol=0.1, rtol=0.1)
            words = rf"each of {c_out} output channels; got shapes \(1,\) and"
            with pytest.raises(ValueError, match=words):
                built.scale_outputs(torch.ones(1), torch.ones(c_out))

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
        self,
        options: dict[str, Any],
        execution: str,
        training: bool,
        fast: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """In training, `auto` passes the positions of the whole batch to `quickest_in_training`.

        A family with one execution always runs that.
        """
        several = "fast" in self.family.executions
        for dimensions in self.dimensions:
            for kernel in self.kernels:
                conv = CONVOLUTIONS[dimensions](*self.channels, kernel, stride=2)
                built = self.family.build(conv, self.family.config(options))
                seen: list[Any] = []
                map_channels = built.pointwise.map_channels
                with monkeypatch.context() as patch:
                    patch.setattr(
                        built.pointwise,
                        "map_channels",
                        lambda x, run=map_channels, seen=seen: seen.append("fast") or run(x),
                    )
                    patch.setattr(
                        built.pointwise,
                        "quickest_in_training",
                        lambda number, seen=seen: seen.append(number) or "fast",
                    )
                    built.train(training).execution = execution
                    y = built(self.images(*(7, 10, 4)[:dimensions], batch=3))
                positions = [y[:, 0].numel()] if (execution, training) == ("auto", True) else []
                assert seen == (positions + ["fast"] * fast if several else [])

    def test_a_grouped_pointwise_convolution(self, options: dict[str, Any]) -> None:
        """It becomes an ungrouped map, and so must its plain layers be ungrouped."""
        if 1 not in self.kernels:
            return
        _, built = self.built(options, 1, groups=2)
        built.eval()
        x = self.images(4, 4)
        for plain in (substitutions.multiplied_out(built), substitutions.plain_layers(built)):
            torch.testing.assert_close(plain(x), built(x), atol=1e-5, rtol=1e-5)

    @costly
    def test_a_fit_moves_both_parts(self, options: dict[str, Any]) -> None:
        """Filters times matrix come nearer to the original's weights than at the start."""
        if 3 not in self.kernels:
            return
        torch.manual_seed(0)
        conv, built = self.built(options, 3, min(self.dimensions, default=2))

        def distance() -> float:
            filters, *matrices = built.to_dense()
            matrix = matrices[0].weight.flatten(1)
            composed = matrix[:, :, None] * filters.weight.flatten(1)[None]
            target = conv.weight.flatten(2)
            return float(((composed - target).norm() / target.norm()).detach())

        before = distance()
        filters = built.to_dense()[0].weight.clone()
        built.fit(conv)
        assert distance() < min(1.0, before)
        assert not torch.equal(built.to_dense()[0].weight, filters)
