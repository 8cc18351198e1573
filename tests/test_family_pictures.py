"""The pictures of docs/families.md: one for every family, drawn by experiments/family_pictures.py."""

from __future__ import annotations

import re
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scripts import ROOT, run_script

from seclcompress import substitutions

sys.path.insert(0, str(ROOT / "experiments"))  # as where Python runs a script of that folder

import family_pictures


@pytest.mark.parametrize("name", substitutions.names())
def test_every_family_has_its_section_and_picture(name: str) -> None:
    text = (ROOT / "docs" / "families.md").read_text(encoding="utf-8")
    heading = rf"^###? {name}(?=:|\n).*?(?=^##|\Z)"
    [section] = re.findall(heading, text, flags=re.MULTILINE | re.DOTALL)
    assert re.search(rf"^!\[[^\]]+\]\(families/{name}\.png\)$", section, flags=re.MULTILINE)
    file = ROOT / "docs" / "families" / f"{name}.png"
    assert file.stat().st_size < family_pictures.LARGEST
    with Image.open(file) as image:
        assert image.width > image.height > 150


def test_no_picture_is_of_nothing() -> None:
    there = {path.stem for path in (ROOT / "docs" / "families").glob("*.png")}
    assert there == set(substitutions.names())


@pytest.mark.parametrize("name", substitutions.names())
def test_what_is_shown_of_a_family(name: str) -> None:
    family = substitutions.get(name)
    shown = family_pictures.panels(family)
    assert all(matrix.dim() == 2 and matrix.any() for _, matrix in shown)
    if name in ("bottleneck", "cp"):  # not for a matrix
        assert len(shown) == 3  # their layers
        return
    assert [tuple(matrix.shape) for _, matrix in shown] == [(32, 32)] * len(shown)
    title, matrix = shown[-1]
    held = re.fullmatch(r"fitted, (\d+)% held", title)
    assert held is not None
    wanted = family_pictures.given_matrix()
    left = float((matrix - wanted).square().sum() / wanted.square().sum())
    assert int(held[1]) == pytest.approx(100 * (1 - left), abs=0.6)


def test_groups_are_shown_as_blocks() -> None:
    conv = torch.nn.Conv2d(4, 6, 3, groups=2)
    [(title, matrix)] = family_pictures._layers(conv)
    assert title == "3×3, 2 groups"
    assert matrix.shape == (6, 4 * 9)
    assert not matrix[:3, 18:].any()
    assert not matrix[3:, :18].any()
    assert torch.equal(matrix[3:, 18:], conv.weight.detach()[3:].flatten(1))


@pytest.mark.slow
def test_the_script_draws_what_it_is_asked_for(tmp_path: Path) -> None:
    script = "experiments/family_pictures.py"
    done = run_script(script, tmp_path, "--out", "pictures", "--only", "separable", "dirac")
    assert done.returncode == 0, done.stderr
    pictures = tmp_path / "pictures"
    assert sorted(path.name for path in pictures.iterdir()) == ["dirac.png", "separable.png"]
    for path in pictures.iterdir():
        assert 1000 < path.stat().st_size < family_pictures.LARGEST
        pixels = np.asarray(Image.open(BytesIO(path.read_bytes())).convert("RGB"), dtype=int)
        assert pixels.std() > 10  # not blank
