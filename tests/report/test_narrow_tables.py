"""Tables on terminals of 40 and 80 columns: nothing is cut, no name is broken without need."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console, RenderableType

from seclcompress import workflows
from seclcompress.recover import LayerRecovery
from seclcompress.report.budgets import plan_tables
from seclcompress.report.counts import layers_table
from seclcompress.report.recovery import recovery_table
from seclcompress.report.slimming import slim_tables
from seclcompress.report.tuning import Trial, trials_table

WIDTHS = pytest.mark.parametrize("width", [40, 80])
LONG = "features.denseblock4.denselayer16.conv2"


def printed(table: RenderableType, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    text = str(console.file.getvalue())  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    return text


@WIDTHS
@pytest.mark.parametrize("name", ["group3.0.shortcut", LONG])
def test_a_recovery(width: int, name: str) -> None:
    layers = [
        LayerRecovery(name=name, rewritten=True, before=2.823, after=0.52),
        LayerRecovery(name="fc", rewritten=False, before=0.437, after=0.0123),
    ]
    text = printed(recovery_table(layers, width), width)
    assert re.search(rf"{re.escape(name)}\s+new:? +282.3 %[ →]+52.0 %", text)
    assert re.search(r"fc\s+kept:? +43.7 %[ →]+1.2 %", text)


@WIDTHS
def test_a_plan_for_a_budget(width: int) -> None:
    found = workflows.plan("wrn10_1", "parameters=40k", families=["separable"])
    text = printed(plan_tables(found, width), width)
    assert "group3.0.shortcut" in text
    assert ", →" not in text
    for number in ("36,864", "77,850"):
        assert number in text


def test_a_change_reads_from_left_to_right() -> None:
    counted = workflows.count("wrn10_1").count
    text = printed(layers_table(counted, 40), 40)
    assert re.search(r"group3.0.conv2: acdc, \w+\n  parameters 36,864 → \d,\d{3}\n", text)
    assert re.search(r"Mult-Adds 2,359,296, (→ )?dense [\d,]+,\s+(→ )?fast [\d,]+\n", text)


@WIDTHS
def test_a_narrowed_network(width: int) -> None:
    done = workflows.slim("wrn10_1", "parameters=40k")
    text = printed(slim_tables(done, width), width)
    assert "group3.0.conv2" in text
    assert "77,850 parameters became" in " ".join(text.split())


@WIDTHS
def test_a_study(width: int) -> None:
    values = {"lr": "0.1", "batch_size": "128", "factor_decay": "ratio", "label_smoothing": "0.1"}
    trials = [Trial(n, "unsuitable", values, curve={1: 20.0 + n}) for n in range(3)]
    text = printed(trials_table(trials, width), width)
    for word in (*values, *values.values(), "unsuitable", "22.00"):
        assert word in text
