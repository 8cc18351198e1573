"""The promises of replacements, by shape. A family's test names its cases and inherits the promises.

    class TestLowRank(SplitPromises, FactoredPromises):
        family = substitutions.get("low_rank")
        cases = ({}, {"rank": 3})

`tests/conftest.py` runs each promise over the cases.
"""

from promises.affine import AffinePromises
from promises.block import BlockPromises
from promises.factored import FactoredPromises
from promises.full import FullPromises
from promises.replacement import ReplacementPromises
from promises.split import SplitPromises
from promises.two_way import ChainPromises, TwoWayPromises

__all__ = [
    "AffinePromises",
    "BlockPromises",
    "ChainPromises",
    "FactoredPromises",
    "FullPromises",
    "ReplacementPromises",
    "SplitPromises",
    "TwoWayPromises",
]
