"""The example projects run to their ends and say what they promise; the notebooks are the same."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from scripts import ROOT, run_script

SCRIPTS = sorted((ROOT / "examples").glob("[0-9]_*.py"))


def run(name: str, where: Path) -> str:
    done = run_script(f"examples/{name}.py", where)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def figures(pattern: str, text: str) -> tuple[float, ...]:
    found = re.search(pattern, text)
    assert found is not None, text
    return tuple(float(figure.replace(",", "")) for figure in found.groups())


def test_there_is_one_for_each_job_and_none_is_long() -> None:
    assert [script.stem[:2] for script in SCRIPTS] == ["1_", "2_", "3_", "4_", "5_"]
    for script in [*SCRIPTS, ROOT / "examples" / "shapes.py"]:
        assert len(script.read_text(encoding="utf-8").splitlines()) < 80, script


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_notebook_is_made_from_the_script(script: Path) -> None:
    pytest.importorskip("jupytext")
    spec = importlib.util.spec_from_file_location(
        "make_notebooks", ROOT / "examples" / "make_notebooks.py"
    )
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    committed = script.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert committed == made.notebook_of(script), "Run `make notebooks`."


@pytest.mark.exhaustive  # docs/how_to has a page of the same steps, which is slow
def test_my_network(tmp_path: Path) -> None:
    said = run("1_my_network", tmp_path)
    [original] = figures(r"original: ([\d.]+) %", said)
    [small] = figures(r"small one: ([\d.]+) %", said)
    assert "287,972 parameters became 15,140" in said
    assert original > 90
    assert small > 85
    assert "scores of a black picture: [" in said


@pytest.mark.exhaustive  # docs/how_to has a page of the same steps, which is slow
def test_within_two_points(tmp_path: Path) -> None:
    said = run("2_within_two_points", tmp_path)
    [wanted] = figures(r"at least ([\d.]+) %", said)
    tried = re.findall(r"^([\d,]+) parameters: ([\d.]+) %", said, flags=re.MULTILINE)
    held_out = [float(accuracy) for _, accuracy in tried]
    assert held_out[-1] >= wanted  # the first that is good enough is the last that is trained
    assert all(accuracy < wanted for accuracy in held_out[:-1])
    assert f"{tried[-1][0]} parameters instead of 287,972" in said


@pytest.mark.slow
def test_parameter_budget(tmp_path: Path) -> None:
    said = run("3_parameter_budget", tmp_path)
    before, original, after, small = figures(
        r"\n([\d,]+) parameters: ([\d.]+) %\n([\d,]+) parameters: ([\d.]+) %", said
    )
    assert before == 1_147_332
    assert 99_500 < after <= 100_000
    assert original > 70  # chance is 25
    assert small > 60


@pytest.mark.slow
def test_ship(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    said = run("4_ship", tmp_path)
    names = ("dense float32", "dense int8", "factors int8")
    [bytes_, right] = zip(
        *(figures(rf"{name}: ([\d,]+) bytes, ([\d.]+) %", said) for name in names), strict=True
    )
    assert list(bytes_) == sorted(bytes_, reverse=True)
    assert min(right) > 75
    assert "a picture of a cross: " in said


@pytest.mark.exhaustive  # docs/how_to has a page of the same steps, which is slow
def test_compare_families(tmp_path: Path) -> None:
    said = run("5_compare_families", tmp_path)
    for family in ("hashed", "low_rank", "monarch", "acdc"):
        parameters, _, accuracy = figures(
            rf"\n{family}: ([\d,]+) parameters, ([\d,]+) Mult-Adds, ([\d.]+) %", said
        )
        assert abs(parameters - 20_000) < 2_000
        assert accuracy > 50
    page = tmp_path / "example-run" / "compare_families" / "families.html"
    assert page.read_text(encoding="utf-8").startswith("<!")
