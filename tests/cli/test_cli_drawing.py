"""Reports of a workflow, as shown on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from seclcompress.cli.drawing import Drawing


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def console(request: pytest.FixtureRequest) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=request.param,
        width=60,
        color_system=None,
        soft_wrap=True,
    )


def printed(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_message_is_a_line_with_every_character(console: Console) -> None:
    words = "Wrote [red]/tmp[/] " + 80 * "x"
    Drawing(console).message(words)
    assert printed(console) == words + "\n"


def test_work_is_shown_while_it_lasts(console: Console) -> None:
    with Drawing(console).working("Fitting [1] …") as told:
        told("Fitting [2]")
        Drawing(console).message("one done")
    assert "one done\n" in printed(console)
    if console.is_terminal:
        assert "Fitting [" in printed(console)
        assert "0:00:0" in printed(console)  # the time that it has taken
    else:
        assert printed(console) == "one done\n"


def test_counting(console: Console) -> None:
    with Drawing(console).counting("Reading [a] {b}", 3) as told:
        for done in range(4):
            told(done, 3)
    if console.is_terminal:
        assert "Reading [a] {b}" in printed(console)
        assert "3/3" in printed(console)
    else:
        assert printed(console) == ""
