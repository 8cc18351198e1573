"""Which networks of torchvision every run of the slow tests takes, and which run on demand only.

Networks of one builder that differ only in depth, width or resolution have the same kinds of layers,
joined in the same ways: a test over all of torchvision takes the smallest of each kind in
`make test-slow`, and the larger ones in `make test-exhaustive`. `test_thinned.py` checks that a larger
one has no kind of layer that its representative lacks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

#: The networks that differ from a smaller one in depth, width or resolution alone, by the smaller one,
#: or by two that have their layers together. A network that is not named here represents itself: what
#: a new torchvision brings is tested at once.
LARGER: dict[str, tuple[str, ...]] = {
    name: tuple(larger.split())
    for name, larger in {
        "convnext_tiny": "convnext_small convnext_base convnext_large",
        "deeplabv3_resnet50": "deeplabv3_resnet101",
        "densenet121": "densenet161 densenet169 densenet201",
        "efficientnet_b0": "efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4",
        "efficientnet_b5": "efficientnet_b6 efficientnet_b7",
        "efficientnet_v2_s": "efficientnet_v2_m efficientnet_v2_l",
        "fcn_resnet50": "fcn_resnet101",
        "mnasnet0_5": "mnasnet0_75 mnasnet1_0 mnasnet1_3",
        "regnet_x_400mf": """
            regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_16gf regnet_x_32gf
        """,
        "regnet_y_400mf": """
            regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf regnet_y_8gf regnet_y_16gf regnet_y_128gf
        """,
        "regnet_x_8gf regnet_y_400mf": "regnet_y_32gf",  # a group as wide as the first stage
        "resnet18": "resnet34",
        "resnet50": "resnet101 resnet152 wide_resnet50_2 wide_resnet101_2",
        "resnext50_32x4d": "resnext101_32x8d resnext101_64x4d",
        "shufflenet_v2_x0_5": "shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0",
        "swin3d_t": "swin3d_s swin3d_b",
        "swin_t": "swin_s swin_b",
        "swin_v2_t": "swin_v2_s swin_v2_b",
        "vgg11": "vgg13 vgg16 vgg19",
        "vgg11_bn": "vgg13_bn vgg16_bn vgg19_bn",
        "vit_b_16": "vit_l_16 vit_h_14",
        "vit_b_32": "vit_l_32",
    }.items()
}
#: Representatives whose kinds of layers the others have together, and which take long. A test of many
#: seconds a network may leave them to `make test-exhaustive` as well.
ALIKE = tuple(
    """
    efficientnet_b5 mobilenet_v3_large regnet_x_400mf regnet_x_8gf resnet50 vgg11 vit_b_16
    """.split()
)
_LARGER = {name for names in LARGER.values() for name in names}


def representatives(names: Iterable[str]) -> list[str]:
    """The names that are not those of a larger network of the same kind, in their order."""
    return [name for name in names if name not in _LARGER]


def slow_or_exhaustive(
    names: Collection[str], quick: Collection[str] = (), rare: Collection[str] = ()
) -> list[Any]:
    """Parameters of a test over many networks.

    Args:
        names: All networks.
        quick: Those of them that also run in `make test`.
        rare: Representatives that this test takes for exhaustive all the same.

    Returns:
        Unmarked those that are quick, marked slow other representatives, and marked exhaustive the rest.
    """
    represented = {*representatives(names)} - {*rare}
    return [
        name
        if name in quick
        else pytest.param(
            name, marks=pytest.mark.slow if name in represented else pytest.mark.exhaustive
        )
        for name in names
    ]
