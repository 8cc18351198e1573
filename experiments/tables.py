"""The journal's tables: Add10, Airfoil, Poker and Census; and one real table that needs no file.

Add10 is scikit-learn's Friedman #1: ten uniform inputs, of which five matter. Diabetes is held by
scikit-learn. The others are read where their files are, as the UCI repository names them: nothing is
downloaded.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor

Rows = NDArray[np.object_]


class MissingFileError(Exception):
    """A table's file is not in the folder."""


@dataclass(frozen=True)
class Table:
    """Numbers to learn from, and numbers to be tested on.

    Attributes:
        train: Inputs of shape (rows, columns), in the mean 0 with deviation 1, and targets: classes, or
            values in the mean 0 with deviation 1; of shape (rows,).
        test: The same of other rows, scaled as those of training.
        classes: The number of classes; None where the targets are values.
    """

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int | None

    @property
    def columns(self) -> int:
        """The number of inputs."""
        return self.train[0].shape[1]


def load(name: str, folder: Path | None) -> Table:
    """Reads a table.

    Args:
        name: One of `TABLES`.
        folder: Where the files are.

    Raises:
        MissingFileError: If its file is not there.
        ValueError: If a line has another number of columns than the table.
    """
    return TABLES[name](folder)


def _add10(folder: Path | None) -> Table:
    del folder
    inputs, values = datasets.make_friedman1(
        n_samples=10_000, n_features=10, noise=1.0, random_state=0
    )
    return _values(inputs, values)


def _diabetes(folder: Path | None) -> Table:
    del folder
    return _values(*datasets.load_diabetes(return_X_y=True))


def _airfoil(folder: Path | None) -> Table:
    rows = np.array([line.split() for line in _lines(folder, "airfoil_self_noise.dat")], float)
    return _values(rows[:, :-1], rows[:, -1])


def _poker(folder: Path | None) -> Table:
    """The suits and ranks of five cards are names and no numbers."""
    train = _comma_separated(folder, "poker-hand-training-true.data", 11)
    test = _comma_separated(folder, "poker-hand-testing.data", 11)
    return _classes(train, test, numbers=[])


def _census(folder: Path | None) -> Table:
    """Whether an adult earns over 50,000 dollars; `adult.test` begins with a line that is no row."""
    train = _comma_separated(folder, "adult.data", 15)
    test = _comma_separated(folder, "adult.test", 15, leave_out="|")
    test[:, -1] = [word.rstrip(".") for word in test[:, -1]]
    return _classes(train, test, numbers=[0, 2, 4, 10, 11, 12])


TABLES: dict[str, Callable[[Path | None], Table]] = {
    "add10": _add10,
    "diabetes": _diabetes,
    "airfoil": _airfoil,
    "poker": _poker,
    "census": _census,
}


def _lines(folder: Path | None, name: str) -> Iterator[str]:
    file = None if folder is None else folder / name
    if file is None or not file.is_file():
        raise MissingFileError(f"{name} is not in {folder or 'a folder: name one with --folder'}.")
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip():
            yield line


def _comma_separated(folder: Path | None, name: str, columns: int, leave_out: str = "#") -> Rows:
    lines = (line for line in _lines(folder, name) if not line.startswith(leave_out))
    rows = list(csv.reader(lines, skipinitialspace=True))
    for number, row in enumerate(rows, 1):
        if len(row) != columns:
            raise ValueError(f"Row {number} of {name} has {len(row)} columns instead of {columns}.")
    return np.array(rows, object)


def _values(inputs: NDArray[np.float64], values: NDArray[np.float64]) -> Table:
    """Four fifths of the rows, by chance, are for training."""
    order = np.random.default_rng(0).permutation(len(inputs))
    train, test = order[: len(order) * 4 // 5], order[len(order) * 4 // 5 :]
    scale, target = StandardScaler().fit(inputs[train]), StandardScaler().fit(values[train, None])

    def of(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        scaled = scale.transform(inputs[rows]), target.transform(values[rows, None])[:, 0]
        return _tensor(scaled[0]), _tensor(scaled[1])

    return Table(of(train), of(test), None)


def _classes(train: Rows, test: Rows, numbers: list[int]) -> Table:
    """Words become a one in a column of their own; the last column is the class."""
    words = [column for column in range(train.shape[1] - 1) if column not in numbers]
    columns = make_column_transformer(
        (StandardScaler(), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), words),
    ).fit(train[:, :-1])
    names = sorted(set(train[:, -1]) | set(test[:, -1]))
    number = {name: place for place, name in enumerate(names)}

    def of(rows: Rows) -> tuple[Tensor, Tensor]:
        labels = torch.tensor([number[name] for name in rows[:, -1]])
        return _tensor(columns.transform(rows[:, :-1])), labels

    return Table(of(train), of(test), len(names))


def _tensor(array: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))
