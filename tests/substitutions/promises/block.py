"""The promises of replacements that are several layers with nonlinearities between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from promises.replacement import ReplacementPromises
from seclcompress import rewrite
from seclcompress.substitutions.shapes import BlockConv


class BlockPromises(ReplacementPromises):
    """Promises of blocks: they are never treated as a matrix."""

    def test_it_is_not_affine_and_says_so(self, options: dict[str, Any]) -> None:
        _, built = self.built(options)
        built.eval()
        assert isinstance(built, BlockConv)
        assert not built.affine
        assert built.to_dense() is None
        assert built.products() == []
        one, two = self.images(5, 5), self.images(5, 5)
        with torch.no_grad():
            halves = (built(one) + built(two)) / 2
            assert not torch.allclose(built((one + two) / 2), halves, atol=1e-3)

    def test_a_network_multiplied_out_has_its_plain_layers(self, options: dict[str, Any]) -> None:
        _, built = self.built(options)
        network = nn.Sequential(built, nn.Flatten()).eval()
        dense = rewrite.to_dense(network)
        x = self.images(5, 5)
        with torch.no_grad():
            torch.testing.assert_close(dense(x), network(x))
        assert type(dense[0]) is nn.Sequential

    def test_running_statistics_travel(self, options: dict[str, Any]) -> None:
        _, built = self.built(options)
        built.train()(3 * self.images(5, 5, batch=8) + 1)
        x = self.images(5, 5)
        with torch.no_grad():
            torch.testing.assert_close(built.eval().to_plain()(x), built(x))

    def test_norms_are_a_group_of_their_own(self, options: dict[str, Any]) -> None:
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        for dimensions in self.dimensions:
            _, built = self.built(options, 3, dimensions)
            norms = [m for m in built.modules() if isinstance(m, kinds)]
            assert norms
            assert len(built.parameter_groups().get("norms", [])) == 2 * len(norms)
