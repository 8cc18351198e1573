"""Functions that make weights from factors, in ONNX Runtime, against the layers' own weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from graphs import graph_of, run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from seclcompress import substitutions
from seclcompress.substitutions import StructuredLayer
from seclcompress.substitutions.shapes.spectral_graph import two_radices
from seclcompress.transforms import next_fast_length


def layer_of(
    name: str, inputs: int, outputs: int, kernel: int = 1, bias: bool = False, **options: Any
) -> StructuredLayer:
    family = substitutions.get(name)
    conv = nn.Conv2d(inputs, outputs, kernel, bias=bias)
    return family.build(conv, family.config(options)).eval()


def check(layer: StructuredLayer, names: set[str]) -> None:
    """All weights of these names are made, and are those of `to_dense`."""
    makings = layer.made_weights()
    assert makings.keys() == names
    dense = layer.to_dense()
    assert dense is not None
    expected = dict(dense.named_parameters())
    model, notes = graph_of(makings)
    assert notes == []
    for name, found in zip(makings, run(model), strict=True):
        wanted = expected[name].detach().numpy()
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= 2e-5 * np.abs(wanted).max(), name


@given(
    inputs=st.integers(1, 120),
    outputs=st.integers(1, 120),
    depth=st.integers(1, 4),
    permutation=st.sampled_from(["riffle", "random", "none"]),
    order=st.sampled_from(["acdc", "transposed"]),
    inverse=st.booleans(),
)
@settings(max_examples=60)
def test_stacks_of_diagonals(
    inputs: int, outputs: int, depth: int, permutation: str, order: str, inverse: bool
) -> None:
    if two_radices(next_fast_length(max(inputs, outputs))) is None:
        return  # traced, see below
    options = {"depth": depth, "permutation": permutation, "order": order}
    check(layer_of("acdc", inputs, outputs, inverse_riffle=inverse, **options), {"weight"})


@given(length=st.integers(1, 5000))
def test_radices_multiply_to_the_length(length: int) -> None:
    found = two_radices(length)
    if found is not None:
        assert found[0] * found[1] == length
        assert found[0] % 2 == 0
    else:
        assert length < 32 or length % 2 == 1


@pytest.mark.parametrize(
    ("name", "options", "names"),
    [
        ("acdc", {"depth": 2}, ["1.weight"]),  # N = 10 is short
        ("acdc", {"depth": 2, "extra_riffle": True}, ["1.weight"]),
        ("acdc", {"depth": 1, "block": 2, "depthwise": "acdc"}, ["0.weight", "1.weight"]),
        ("afdf", {"depth": 2, "permutation": "random"}, ["1.weight"]),
        ("afdf", {"depth": 1, "block": 2}, ["1.weight"]),
        ("shuffle", {"groups": 2}, ["1.weight"]),
        ("dirac", {}, ["weight"]),
        ("symmetric", {"form": "average"}, ["weight"]),
        ("symmetric", {"form": "ldl"}, ["weight"]),
    ],
    ids=str,
)
def test_other_families_are_traced(name: str, options: dict[str, Any], names: list[str]) -> None:
    check(layer_of(name, 10, 10 if name == "symmetric" else 8, 3, bias=True, **options), set(names))


def test_folded_scales_are_in_the_weight() -> None:
    layer = layer_of("acdc", 48, 64, depth=2)
    layer.scale_outputs(torch.rand(64) + 0.5, torch.randn(64))
    check(layer, {"weight"})


def test_a_linear_is_made_as_a_matrix() -> None:
    family = substitutions.get("acdc")
    layer = family.build(nn.Linear(40, 64), family.config({"depth": 2})).eval()
    check(layer, {"weight"})


def test_layers_that_are_alike_share_a_function_and_all_share_the_transform() -> None:
    one, same = (layer_of("acdc", 64, 64, depth=2) for _ in range(2))
    wider, deeper = layer_of("acdc", 32, 64, depth=2), layer_of("acdc", 64, 64, depth=3)
    random = layer_of("acdc", 64, 64, depth=2, permutation="random", permutation_seed=1)
    other = layer_of("acdc", 64, 64, depth=2, permutation="random", permutation_seed=2)
    layers = {"a": one, "b": same, "c": wider, "d": deeper, "e": random, "f": other}
    makings = {name: layer.made_weights()["weight"] for name, layer in layers.items()}
    model, _ = graph_of(makings)
    made = [node.op_type for node in model.graph if node.op_type.startswith("make_")]
    assert made == ["make_0", "make_0", "make_1", "make_2", "make_3", "make_4"]
    assert [node.op_type for node in model.graph].count("dct_64") == 1
    for layer, found in zip(layers.values(), run(model), strict=True):
        dense = layer.to_dense()
        assert dense is not None
        assert np.allclose(found, dense.weight.detach().numpy(), atol=1e-5)


def test_a_family_that_cannot_be_traced_is_written_as_it_is() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.values = nn.Parameter(torch.arange(4.0))

        def forward(self) -> torch.Tensor:
            return torch.tensor(sorted(self.values.tolist(), reverse=True))

    model, (note,) = graph_of({"odd.weight": Odd()})
    assert "odd.weight" in note
    assert "multiplied out" in note
    assert [list(found) for found in run(model)] == [[3.0, 2.0, 1.0, 0.0]]
