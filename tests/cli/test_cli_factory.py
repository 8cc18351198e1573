"""What is said next of a network that a person's own code builds can be typed as it stands."""

from __future__ import annotations

import html
import shlex
from pathlib import Path

from conftest import Invoke

FACTORY = "conftest:awkward"
AWKWARD = (FACTORY, "--input-size", 16, "--depth", 2)
NEEDS = f"It is built by your own code, so every command that takes it needs --factory {FACTORY}."


def test_convert_says_what_comes_next(invoke: Invoke) -> None:
    words = invoke("convert", *AWKWARD, "-o", "out").stderr
    assert f"Wrote out. Its new layers are untrained: distill it next. {NEEDS}" in words
    invoke("count", "out", code=1)
    invoke("count", "out", "--factory", FACTORY)
    assert "--factory" not in invoke("convert", "wrn10_1", "-o", "named").stderr


def test_slim_says_what_comes_next(invoke: Invoke) -> None:
    words = invoke("slim", *AWKWARD[:3], "--budget", "parameters=80k", "-o", "out").stderr
    assert NEEDS in words


def test_a_pages_commands_name_it(invoke: Invoke) -> None:
    """They are run as they stand on the page."""
    trained = ("--data", "digits", "--epochs", 1, "--train-images", 20, "--batch-size", 10)
    trust = ("--factory", FACTORY)
    invoke("train", *AWKWARD[:3], *trained, "-o", "ORIGINAL")
    invoke("convert", "ORIGINAL", *trust, "--depth", 2, "-o", "student")
    teacher = ("--teacher", "ORIGINAL", "--untrained-teacher")
    invoke("distill", "student", *teacher, *trust, *trained, "-o", "out")
    invoke("report", "out", *trust, "-o", "page.html")
    page = html.unescape(Path("page.html").read_text())
    commands = [
        shlex.split(line)[1:]
        for line in page.replace("<", "\n").replace(">", "\n").splitlines()
        if line.startswith("seclcompress ")
    ]
    takes = [one for one in commands if one[0] in ("convert", "distill", "evaluate", "report")]
    takes = [one for one in takes if len(one) > 1]  # its footer names the program
    assert {one[0] for one in takes} == {"convert", "distill", "evaluate", "report"}
    for one in takes:
        assert "--factory" in one, one
        assert one[one.index("--factory") + 1] == FACTORY
