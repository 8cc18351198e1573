"""The hash in a graph's integers is the hash in torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graphs import graph_of, run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from seclcompress.substitutions.hashed import HashedPointwise, HashedTable
from seclcompress.substitutions.shapes import Making


def making_of(rows: int, columns: int, size: int, seed: int) -> nn.Module:
    # Its own numbers, so that the weight says which place each entry has.
    table = HashedTable(torch.arange(1.0, size + 1), rows, columns, seed)
    return Making(HashedPointwise(None, table), (rows, columns), None).eval()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 2000), st.integers(0, 2**31 - 1))
def test_every_entry_has_its_place(rows: int, columns: int, size: int, seed: int) -> None:
    making = making_of(rows, columns, min(size, rows * columns), seed)
    model, notes = graph_of({"w": making})
    assert notes == []
    (found,) = run(model)
    assert np.array_equal(found, making().detach().numpy())


@pytest.mark.parametrize("shape", [(512, 512), (1000, 2048)])
def test_large_ones(shape: tuple[int, int]) -> None:
    making = making_of(*shape, 26_214, 2**31 - 1)
    (found,) = run(graph_of({"w": making})[0])
    assert np.array_equal(found, making().detach().numpy())


def test_layers_alike_share_their_places() -> None:
    """The places are computed once, and no tensor of the file is as large as the weight."""
    model, _ = graph_of({name: making_of(64, 64, 400, 0) for name in ("a", "b", "c")})
    called = [node.op_type for node in model.graph]
    assert called.count("places_64_64_400_0") == 1
    stored = [v.const_value.size for v in model.graph.initializers.values() if v.const_value]
    assert sorted(stored) == [400, 400, 400]
