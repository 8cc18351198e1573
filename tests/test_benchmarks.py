"""The scripts that print published figures run, on a CPU, as far as a test can wait."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from compiled_kernel import needs_kernel
from scripts import run_script


@pytest.mark.slow
@needs_kernel
@pytest.mark.parametrize("what", ["layer", "weight"])
def test_the_kernel_is_timed_in_several_processes(what: str, tmp_path: Path) -> None:
    small = ("--sizes", "64", "88", "--layers", "1", "--seconds", "0.01", "--processes", "2")
    more = ("--weight",) if what == "weight" else ("--positions", "1", "49", "--channels-last")
    done = run_script("benchmarks/kernel.py", tmp_path, *small, *more)
    assert done.returncode == 0, done.stderr
    head, counted, threads, *lines = done.stdout.splitlines()
    assert "float32" in head
    assert counted.startswith("Medians of 2 processes")
    assert threads == "1 thread"
    assert len(lines) == 4
    assert all(re.search(r"ratio +\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)", line) for line in lines)


@pytest.mark.slow
def test_fused_networks_are_timed_side_by_side(tmp_path: Path) -> None:
    small = ("wrn10_1", "--depth", "1", "--rounds", "2", "--size", "32")
    done = run_script("benchmarks/fused.py", tmp_path, *small)
    assert done.returncode == 0, done.stderr
    for name in ("original", "dense fused", "chosen fused"):
        assert re.search(
            rf"^{name} +\d+\.\d\d ms .* original ÷ this +\d", done.stdout, re.MULTILINE
        )


@pytest.mark.slow
def test_the_best_of_a_size_is_made_in_pieces(tmp_path: Path) -> None:
    small = ("--data", "digits", "--work", "work", "--network", "wrn10_1", "--size", "16000")
    small += ("--epochs", "1", "--teacher-epochs", "1", "--train-images", "64")
    script = "benchmarks/best_100k.py"
    long = ("--data", "digits", "--work", "long", "--network", "wrn10_1", "--teacher-epochs", "500")
    for goes_on in (False, True):
        some = run_script(script, tmp_path, *long, "--minutes", "0.3")
        assert some.returncode == 3, some.stderr
        assert "of 500 epochs and" in some.stdout
        assert ("Going on after epoch" in some.stdout) == goes_on
    assert not (tmp_path / "long/teacher").exists()
    other = run_script(script, tmp_path, *long, "--epochs", "2")
    assert "choose another --work" in other.stderr
    one = run_script(script, tmp_path, *small, "--students", "narrower, defaults")
    assert one.returncode == 0, one.stderr
    # The mixed one measures hundreds of candidates; the next test has it.
    quick = ["separable, recipe", "acdc, recipe", "separable, defaults", "acdc, defaults"]
    small += ("--students", *quick, "narrower, defaults")
    done = run_script(script, tmp_path, *small)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^\| (\w+, \w+) \| ([\d,]+) \|.*\| 1 \| \d", done.stdout, re.MULTILINE)
    assert len(found) == len({name for name, _ in found}) == 5
    assert all(14_000 < int(number.replace(",", "")) <= 16_000 for _, number in found)
    table = run_script(script, tmp_path, "--report", "work/results.jsonl")
    assert table.stdout.strip() in done.stdout
    again = run_script(script, tmp_path, *small)
    assert (again.returncode, "epoch" in again.stdout.partition("| student")[0]) == (0, False)


@pytest.mark.slow
def test_executions_are_timed_in_training(tmp_path: Path) -> None:
    small = ("--channels", "8", "--positions", "8", "--side", "4", "--rounds", "2")
    families = ("--families", "acdc", "low_rank on=kernel", "kronecker")
    done = run_script("benchmarks/training_executions.py", tmp_path, *small, *families)
    assert done.returncode == 0, done.stderr
    figures = re.findall(
        r"^\| (.+?) \| 8 \| 4² \| \d+\.\d\d \| [\d.]+ \| [\d.]+ \| [\d.]+ \|$",
        done.stdout,
        re.MULTILINE,
    )
    assert figures == ["acdc", "low_rank on=kernel", "kronecker"]


@pytest.mark.exhaustive
def test_the_best_of_a_size_may_mix_families(tmp_path: Path) -> None:
    small = ("--data", "digits", "--work", "work", "--network", "wrn10_1", "--size", "16000")
    small += ("--epochs", "1", "--teacher-epochs", "1", "--train-images", "64")
    mixed = "separable+low_rank+kronecker+tensor_train, recipe"
    done = run_script("benchmarks/best_100k.py", tmp_path, *small, "--students", mixed)
    assert done.returncode == 0, done.stderr
    (number,) = re.findall(rf"^\| {re.escape(mixed)} \| ([\d,]+) \|", done.stdout, re.MULTILINE)
    assert 15_000 < int(number.replace(",", "")) <= 16_000


@pytest.mark.slow
def test_batch_norm_is_compared_with_float64(tmp_path: Path) -> None:
    done = run_script("benchmarks/batch_norm.py", tmp_path, "--rounds", "2")
    assert done.returncode == 0, done.stderr
    found = re.findall(r"(\w+) +error of the mean (\S+), of the gradient (\S+) ", done.stdout)
    assert [layout for layout, *_ in found] == ["contiguous", "channels_last"] * 4
    assert all(
        float(mean) < 1e-5 and float(slope) < 1e-4
        for layout, mean, slope in found
        if layout == "contiguous"
    )
