"""Accuracy and loss on test images."""

from __future__ import annotations

import copy

import pytest
import torch
from runs import (
    data_of,
    digits,
    same_weights,
    small,
)
from torch import Tensor, nn

from seclcompress.data import Data
from seclcompress.data.in_memory import Decoded
from seclcompress.processes import Processes
from seclcompress.train import accuracy_before, evaluate


@pytest.fixture
def data() -> Data:
    return digits()


def test_a_student_before_training(data: Data) -> None:
    student = small()
    with torch.no_grad():
        student[1].running_var.fill_(1e-12)
    before = copy.deepcopy(student)
    kept = accuracy_before(student, data, 50, Processes(), estimate_batch_norm=False)
    anew = accuracy_before(student, data, 50, Processes(), estimate_batch_norm=True)
    assert anew.loss < kept.loss
    assert same_weights(before, student)


def test_top_one_and_top_five() -> None:
    four = Decoded(torch.zeros(4, 3, 8, 8), torch.tensor([0, 4, 5, 9]))

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.arange(10.0, 0, -1).expand(len(x), -1)

    told: list[tuple[int, int]] = []
    tested = evaluate(
        Constant(),
        data_of(four, four, list("abcdefghij"), (3, 8, 8)),
        batch_size=3,
        on_batch=lambda *counts: told.append(counts),
    )
    assert (tested.accuracy, tested.top5_accuracy, tested.images) == (25, 50, 4)
    assert told == [(3, 4), (4, 4)]
