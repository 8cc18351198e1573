"""The promises of replacements that are one convolution with the original's kernel."""

from __future__ import annotations

from typing import Any

from promises.affine import AffinePromises
from promises.factored import FactoredPromises
from promises.replacement import WORDS
from seclcompress.substitutions.shapes import FullConv
from seclcompress.substitutions.site import CONVOLUTIONS


class FullPromises(FactoredPromises, AffinePromises):
    """Promises of full convolutions."""

    def test_plain_it_is_a_convolution_of_the_same_geometry(self, options: dict[str, Any]) -> None:
        for dimensions in self.dimensions:
            how = {"stride": 2, "padding": 1, "padding_mode": "replicate"}
            conv, built = self.built(options, 3, dimensions, **how)
            assert isinstance(built, FullConv)
            for plain in (built.to_dense(), built.to_plain()):
                assert type(plain) is CONVOLUTIONS[dimensions]
                for attribute in WORDS.split():
                    assert getattr(plain, attribute) == getattr(conv, attribute)
