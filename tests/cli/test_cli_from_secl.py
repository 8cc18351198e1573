"""`convert --from-secl`: exit codes and words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Invoke
from their_networks import theirs

from seclcompress import artefact


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save({"net": theirs(extra=True).state_dict(), "epoch": 199}, tmp_path / "secl.pth")
    return tmp_path / "secl.pth"


@pytest.mark.parametrize("extra", [True, False])
def test_it_computes_what_theirs_computes(
    invoke: Invoke, tmp_path: Path, file: Path, extra: bool
) -> None:
    flags = ["--option", "extra_riffle=true"] if extra else []
    result = invoke("convert", "wrn10_1", "--from-secl", file, "-o", "out", *flags)
    words = " ".join((result.stdout + result.stderr).split())
    assert "6 convolutions are ACDC stacks, trained as they are in" in words
    assert ("taken without. Where its accuracy" in words) is not extra
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        ours, expected = artefact.load(tmp_path / "out")(x), theirs(extra=True)(x)
    assert torch.allclose(ours, expected, atol=1e-5, rtol=1e-5) is extra


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--weights", "x.pth"], "the file decides what --weights would"),
        (["--depth", 3], "the file decides what --option depth would"),
        (["--option", "init=paper"], "the file decides what --option init would"),
        (["--substitution", "afdf"], "the file decides what --substitution would"),
        (["--stem"], "the file decides what --stem would"),
        (["--keep", "group1"], "the file decides what --keep would"),
        (["--assign", "group1=afdf"], "the file decides what --assign would"),
        (["--start", "original"], "the file decides what --start would"),
        (["--dry-run"], "the file decides what --dry-run would"),
        (["--write-plan", "plan.json"], "the file decides what --write-plan would"),
        (["--option", "extra_riffle=perhaps"], "extra_riffle: Input should be a valid boolean"),
    ],
)
def test_what_the_file_decides_is_an_error_in_words(
    invoke: Invoke, tmp_path: Path, file: Path, flags: list[object], words: str
) -> None:
    result = invoke("convert", "wrn10_1", "--from-secl", file, "-o", "out", *flags, code=2)
    assert words in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_none_of_theirs(invoke: Invoke, tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.ones(1)}, tmp_path / "mine.pth")
    result = invoke("convert", "wrn10_1", "--from-secl", "mine.pth", "-o", "out", code=1)
    words = "mine.pth is no checkpoint of the SECL authors' wide residual networks"
    assert words in " ".join(result.stderr.split())
    result = invoke("convert", "wrn10_1", "--from-secl", "none.pth", "-o", "out", code=1)
    assert "There is no weights file none.pth" in " ".join(result.stderr.split())


def test_as_plain_weights_it_is_named(invoke: Invoke, file: Path) -> None:
    result = invoke("convert", "wrn10_1", "--weights", file, "-o", "out", code=1)
    words = " ".join(result.stderr.split())
    assert "does not fit" in words
    assert (
        "It is a file of the SECL authors' programs: take it over with convert --from-secl" in words
    )
