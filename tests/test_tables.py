"""experiments/tables.py and sparsifier_tables.py: tables as the UCI repository writes them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from scripts import ROOT, run_script

sys.path.insert(0, str(ROOT / "experiments"))  # as where Python runs a script of that folder

import tables

AIRFOIL = "".join(
    f"{800 + row}\t0\t0.3048\t{71.3 - row}\t0.0027\t{126 + row}\n" for row in range(10)
)
POKER = "1,10,1,11,1,13,1,12,1,1,9\n2,11,2,13,2,10,2,12,2,1,9\n3,12,3,11,3,13,3,10,3,1,0\n"
CENSUS = (
    "39, State-gov, 77516, Bachelors, 13, Single, Clerk, Own, White, Male, 2174, 0, 40, ?, <=50K\n"
    "50, Private, 83311, Bachelors, 13, Married, Sales, Own, White, Female, 0, 0, 13, Cuba, >50K\n"
)


def test_values_are_scaled_by_what_is_trained_on(tmp_path: Path) -> None:
    (tmp_path / "airfoil_self_noise.dat").write_text(AIRFOIL, encoding="utf-8")
    table = tables.load("airfoil", tmp_path)
    assert table.classes is None
    assert table.columns == 5
    assert table.train[0].shape == (8, 5)
    assert table.test[0].shape == (2, 5)
    inputs, targets = table.train
    torch.testing.assert_close(targets.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(inputs[:, 0].std(correction=0), torch.tensor(1.0))
    # The noise rises with the frequency, row by row; both are scaled, and stay in line.
    torch.testing.assert_close(inputs[:, 0], targets)
    torch.testing.assert_close(table.test[0][:, 0], table.test[1])


def test_cards_are_names_and_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "poker-hand-training-true.data").write_text(POKER, encoding="utf-8")
    (tmp_path / "poker-hand-testing.data").write_text("4,1,4,2,4,3,4,4,4,5,8\n", encoding="utf-8")
    table = tables.load("poker", tmp_path)
    assert table.classes == 3  # 0, 8 and 9 occur
    assert table.train[1].tolist() == [2, 2, 0]
    assert table.test[1].tolist() == [1]
    assert table.train[0].sum(1).tolist() == [10.0] * 3  # one column each is one
    assert not table.test[0].any()  # cards that training never saw are none of its columns


def test_what_earns_how_much(tmp_path: Path) -> None:
    (tmp_path / "adult.data").write_text(CENSUS + "\n", encoding="utf-8")
    answers = CENSUS.replace("50K\n", "50K.\n")
    (tmp_path / "adult.test").write_text("|1x3 Cross validator\n" + answers, encoding="utf-8")
    table = tables.load("census", tmp_path)
    assert table.classes == 2
    assert table.train[1].tolist() == table.test[1].tolist() == [0, 1]
    assert torch.equal(table.train[0], table.test[0])


@pytest.mark.parametrize("name", ["airfoil", "poker", "census"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(tables.MissingFileError, match=r"\.(dat|data) is not in "):
        tables.load(name, tmp_path)
    with pytest.raises(tables.MissingFileError, match="--folder"):
        tables.load(name, None)


def test_a_row_of_another_length_is_named(tmp_path: Path) -> None:
    (tmp_path / "poker-hand-training-true.data").write_text(POKER + "1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="Row 4 of .* has 2 columns instead of 11"):
        tables.load("poker", tmp_path)


def test_five_of_the_ten_inputs_of_add10_matter() -> None:
    table = tables.load("add10", None)
    assert table.columns == 10
    assert len(table.train[1]) == 8000
    inputs, targets = table.train
    shares = ((inputs * targets[:, None]).mean(0)).abs()
    assert shares[5:].max() < 0.05 < shares[[0, 1, 3, 4]].min()


@pytest.mark.slow
def test_neurons_go_and_a_stopped_experiment_goes_on(tmp_path: Path) -> None:
    small = ("--work", "work", "--tables", "diabetes", "poker", "--width", "20", "--layers", "2")
    small += ("--epochs", "4", "--seeds", "1", "--prices", "10")
    done = run_script("experiments/sparsifier_tables.py", tmp_path, *small)
    assert done.returncode == 0, done.stderr
    assert "poker is left out: poker-hand-training-true.data is not in" in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith("| diabetes")]
    assert len(rows) == 2  # a price, and the blocks
    least = [int(width) for width in rows[0].split(" | ")[3].split("+")]
    assert len(least) == 2
    assert sum(least) < 40
    lines = (tmp_path / "work/results.jsonl").read_text(encoding="utf-8")
    again = run_script("experiments/sparsifier_tables.py", tmp_path, *small)
    assert again.stdout == done.stdout
    assert (tmp_path / "work/results.jsonl").read_text(encoding="utf-8") == lines
