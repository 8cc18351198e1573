"""The scripts of experiments/ run, on a CPU, as far as a test can wait."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT, run_script


@pytest.mark.slow
def test_table_1_goes_on_where_it_stopped(tmp_path: Path) -> None:
    small = ("--data", "digits", "--work", "work", "--network", "wrn10_1", "--epochs", "1")
    small += ("--train-images", "100", "--device", "cpu", "--amp", "off", "--no-compile")
    none = run_script("experiments/table1.py", tmp_path, *small, "--minutes", "0.1")
    assert none.returncode == 3  # no time is left to start anything
    assert not (tmp_path / "work/teacher").exists()
    done = run_script("experiments/table1.py", tmp_path, *small)
    assert done.returncode == 0, done.stderr
    assert "| teacher | 77,850 |" in done.stdout
    assert "| SECL, distilled | 10,634 |" in done.stdout
    again = run_script("experiments/table1.py", tmp_path, *small)
    assert again.returncode == 0
    assert done.stdout.count("Making ") == 2
    assert "Making " not in again.stdout  # nothing is done twice


@pytest.mark.slow
def test_the_study_runs_each_of_its_lines(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "experiments")!r})
import study
study.NETWORK = "wrn10_1"
study.TEACHER = {{"epochs": 1, "train_images": 64}}
study.BUDGET = {{"epochs": 1, "train_images": 64, "batch_size": 32, "lr": 0.1}}
sys.argv = ["study.py", "--data", "digits", "--work", "work", "--picture", "curves.png"]
study.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr
    assert "not run" not in done.stdout
    assert done.stdout.count("\n| ") >= 15
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_frontier_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    small = ("--data", "digits", "--work", "work", "--network", "wrn10_1", "--sizes", "12000")
    narrowed = "recovered/slim/svd+separable"
    small += (
        "--families",
        "acdc",
        "narrower",
        "symmetric",
        narrowed,
        "--epochs",
        "1",
        "--jobs",
        "1",
    )
    small += ("--teacher-epochs", "1", "--train-images", "64", "--batch-size", "32")
    none = run_script("experiments/frontier.py", tmp_path, *small, "--minutes", "0.1")
    assert none.returncode == 3, none.stderr  # time for the teacher alone
    assert (tmp_path / "work/teacher").is_dir()
    done = run_script("experiments/frontier.py", tmp_path, *small, "--picture", "frontier.png")
    assert done.returncode == 0, done.stderr
    assert "| acdc | block=1, depth=14 | 11,978 | 2,476,672 |" in done.stdout
    assert "| narrower | wrn10_0.9 | 11,923 |" in done.stdout
    assert "symmetric cannot have 12,000: the nearest has 33,786 (form=triangle-8)." in done.stdout
    assert re.search(
        rf"^\| {re.escape(narrowed)} \| from \d+\.\d % \| 1[01],\d", done.stdout, re.MULTILINE
    )
    assert done.stdout.count('"seed": 0') == done.stdout.count('"seed": 1') == 3
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")
    again = run_script("experiments/frontier.py", tmp_path, *small)
    assert again.returncode == 0
    assert '"seed"' not in again.stdout
    table = run_script("experiments/frontier.py", tmp_path, "--report", "work/results.jsonl")
    assert table.stdout.strip() in again.stdout


@pytest.mark.slow
def test_plans_are_compared_with_uniform_networks(tmp_path: Path) -> None:
    small = ("--data", "digits", "--work", "work", "--networks", "wrn10_1", "--epochs", "1")
    small += ("--teacher-epochs", "1", "--train-images", "64", "--measures", "output")
    small += ("--uniform", "acdc:depth=4", "--pictures", "32")
    done = run_script("experiments/plans.py", tmp_path, *small)
    assert done.returncode == 0, done.stderr
    assert "as many parameters as acdc:depth=4 everywhere:" in done.stdout
    alike = re.search(
        r"^\| uniform \| acdc \|  \| 0 \| (acdc 4, ){5}acdc 4 \|", done.stdout, re.MULTILINE
    )
    assert alike, done.stdout
    table = done.stdout.rpartition("}")[2]
    assert table.count("| output | acdc |") == table.count("| output | acdc+separable |") == 1
    again = run_script("experiments/plans.py", tmp_path, *small)
    assert again.stdout.strip() in done.stdout, "nothing but the table: each line is there already"
    small = (*small[:-2], "--pictures", "8", "--epochs", "0", "--beside", "--measures", "recovered")
    small = (*small, "--limits", "parameters+mult_adds", "--work", "recovered")
    alone = run_script("experiments/plans.py", tmp_path, *small)
    assert alone.returncode == 0, alone.stderr
    (found,) = re.findall(r"^\| recovered \| acdc \| .*", alone.stdout, re.MULTILINE)
    assert re.fullmatch(
        r"\| recovered \| acdc \| parameters\+mult_adds \| 0 \| .* \| \d+\.\d\d \|  \|", found
    )
