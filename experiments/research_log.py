"""The figures of the research log on random 32 × 32 matrices, and the maps that they belong to.

A mean over 10 matrices and its standard deviation. The log's names: `ACDC_L` has L layers; `BDACDC_L_g`
has blocks of N ÷ g; `ShuffleNet_L_g` has L grouped maps of g groups. The stack of grouped maps has one
bias, and every layer of BDACDC has one; the number of parameters counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SIZE = 32
#: The best constant output leaves this, see `goals.log_goal`.
CONSTANT = 1 / 36
DEPTHS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Line:
    """A line of the log.

    Attributes:
        name: The log's name for it.
        family: Our family.
        options: Its options.
        bias: Whether there is a bias.
        parameters: As the log counts them. A BDACDC of 2 layers has one bias less here.
        error: Mean squared error on the examples.
        deviation: Its standard deviation over 10 matrices.
    """

    name: str
    family: str
    options: Mapping[str, Any]
    bias: bool
    parameters: int
    error: float
    deviation: float


def _stacks(name: str, family: str, permutation: str, *figures: tuple[float, float]) -> list[Line]:
    per_layer = {"acdc": 2 * SIZE, "afdf": 4 * SIZE}[family]
    return [
        Line(
            f"{name}_{depth}, {permutation}",
            family,
            {"depth": depth, "permutation": permutation},
            False,
            per_layer * depth,
            *figure,
        )
        for depth, figure in zip(DEPTHS, figures, strict=True)
    ]


def _blocks(name: str, family: str, depth: int, block: int, bias: bool, *figure: float) -> Line:
    numbers = {"acdc": 2, "afdf": 4}[family] * SIZE * depth * block + (SIZE * depth if bias else 0)
    return Line(name, family, {"depth": depth, "block": block}, bias, numbers, *figure)


def _shuffle(layers: int, groups: int, *figure: float) -> Line:
    numbers = layers * SIZE**2 // groups + SIZE
    options = {"layers": layers, "groups": groups}
    return Line(f"ShuffleNet_{layers}_{groups}", "shuffle", options, True, numbers, *figure)


LINES = (
    *_stacks(
        "ACDC",
        "acdc",
        "random",
        (0.03995, 0.00589),
        (0.02197, 0.00133),
        (0.01657, 0.00129),
        (0.01300, 0.00124),
        (0.01195, 0.00247),
        (0.00984, 0.00157),
    ),
    *_stacks(
        "ACDC",
        "acdc",
        "riffle",
        (0.03738, 0.00229),
        (0.02230, 0.00092),
        (0.01645, 0.00114),
        (0.01505, 0.00211),
        (0.01424, 0.00150),
        (0.01348, 0.00204),
    ),
    *_stacks(
        "ACDC",
        "acdc",
        "none",
        (0.04267, 0.00350),
        (0.02193, 0.00086),
        (0.01639, 0.00067),
        (0.01668, 0.00168),
        (0.01923, 0.00196),
        (0.02155, 0.00158),
    ),
    *_stacks(
        "AFDF",
        "afdf",
        "riffle",
        (0.03980, 0.00398),
        (0.01656, 0.00104),
        (0.01207, 0.00267),
        (0.01520, 0.00411),
        (0.02053, 0.00322),
        (0.01919, 0.00314),
    ),
    _shuffle(1, 2, 0.01140, 0.00057),
    _shuffle(1, 4, 0.01899, 0.00062),
    _shuffle(1, 8, 0.02321, 0.00069),
    _shuffle(1, 16, 0.02537, 0.00100),
    _shuffle(2, 2, 0.00235, 0.00021),
    _shuffle(2, 4, 0.00892, 0.00056),
    _shuffle(2, 8, 0.01685, 0.00066),
    _shuffle(2, 16, 0.02379, 0.00055),
    _blocks("BDACDC_1_32", "acdc", 1, 1, True, 0.02392, 0.00121),
    _blocks("BDACDC_1_16", "acdc", 1, 2, True, 0.02010, 0.00065),
    _blocks("BDACDC_2_32", "acdc", 2, 1, True, 0.02712, 0.00129),
    _blocks("BDACDC_2_16", "acdc", 2, 2, True, 0.02770, 0.00103),
    _blocks("BDAFDF_1_32", "afdf", 1, 1, False, 0.02510, 0.00234),
    _blocks("BDAFDF_1_16", "afdf", 1, 2, False, 0.01609, 0.00058),
    _blocks("BDAFDF_2_32", "afdf", 2, 1, False, 0.10552, 0.03741),
    _blocks("BDAFDF_2_16", "afdf", 2, 2, False, 0.00577, 0.00081),
)
