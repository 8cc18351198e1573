"""Statistics of widths: a table, what was found about them, CSV and a record."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from seclcompress.report.records import Record
from seclcompress.widths.findings import CONJECTURE, FINDINGS, INSTEAD
from seclcompress.widths.result import LayerWidths, Widths

#: What stands for a figure that there is not.
NONE = "–"
_HEADINGS = (
    *("layer", "width", "dead", "variance", "Shapiro", "exp", "gamma"),
    *("PCA\n90%", "PCA\n99%", "SV\n90%", "SV\n99%"),
)
_LEGEND = (
    "variance: mean over the channels, behind the activation. Shapiro: W of these variances. {0}, {1}: "
    "share of the exponential beside a normal distribution, and of the lower of two gammas. PCA: "
    "components before the activation that explain 90 or 99 % of the variance. {2}: singular values of "
    "the weights that have 90 or 99 % of the energy."
)


class WidthsRecord(Record):
    """`widths`: the fields of `widths.Widths`, and what the journal found about each statistic."""

    command: Literal["widths"] = "widths"
    network: str
    data: str
    images: int
    layers: list[LayerWidths]
    picture: str | None
    findings: dict[str, str]
    conjecture: str


def widths_record(found: Widths) -> WidthsRecord:
    """Statistics of widths as a record."""
    return WidthsRecord(
        network=found.label,
        data=found.data,
        images=found.images,
        layers=list(found.layers),
        picture=None if found.picture is None else str(found.picture),
        findings={name: one.found for name, one in FINDINGS.items()},
        conjecture=CONJECTURE,
    )


def widths_table(found: Widths, width: int) -> RenderableType:
    """Makes a table with a row for each layer, in running order, and what to make of it below.

    Args:
        found: The statistics.
        width: The width of the terminal in characters. Where the figures do not fit beside the names,
            each layer becomes some lines.
    """
    rows = [_cells(one) for one in found.layers]
    parts: list[RenderableType] = []
    if _room(rows) <= width:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 0, 0, 1))
        for number, heading in enumerate(_HEADINGS):
            table.add_column(heading, justify="right" if number else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        parts += [table, Text(_LEGEND.format("exp", "gamma", "SV"))]
    else:
        parts += [Text(_lines(one)) for one in found.layers]
        parts.append(Text(_LEGEND.format("exponential", "low gamma", "weights")))
    notes = [f"{one.name}: {words}." for one in found.layers for words in one.notes]
    return Group(*parts, *map(Text, notes), Text(""), Text(widths_words(found)))


def widths_words(found: Widths) -> str:
    """What the statistics do not say, and what does, in sentences."""
    return (
        f"From {found.images:,} training images of {found.data}. None of these figures tells the right "
        f"width: `seclcompress widths --help` says what was found about each. {CONJECTURE} {INSTEAD}"
    )


def _room(rows: Sequence[Sequence[str]]) -> int:
    """The characters that a line of the table needs."""
    columns = zip(_HEADINGS, *rows, strict=True)
    widest = [max(len(line) for cell in one for line in cell.split("\n")) for one in columns]
    return sum(widest) + len(widest) - 1


def _cells(one: LayerWidths) -> list[str]:
    variance = NONE if one.mean_variance is None else f"{one.mean_variance:.3g}"
    mixed, gammas = one.exponential_normal, one.gammas
    return [
        one.name,
        f"{one.channels:,}",
        NONE if one.dead is None else f"{one.dead:,}",
        variance,
        NONE if one.normality is None else f"{one.normality.w:.3f}",
        *(NONE if mix is None else f"{100 * mix.share:.0f}%" for mix in (mixed, gammas)),
        *(
            NONE if of is None else f"{count:,}"
            for of in (one.components, one.singular)
            for count in ((0, 0) if of is None else (of.for_90, of.for_99))
        ),
    ]


def _lines(one: LayerWidths) -> str:
    name, width, dead, variance, w, exponential, gamma, *counts = _cells(one)
    behind = "" if one.activation is None else f", {one.activation}"
    components, singular = (
        NONE if pair[0] == NONE else f"{pair[0]} for 90 %, {pair[1]} for 99 %"
        for pair in (counts[:2], counts[2:])
    )
    return (
        f"{name}\n"
        f"  {width} channels, {dead} dead{behind}\n"
        f"  mean variance {variance}, Shapiro {w}\n"
        f"  exponential {exponential}, low gamma {gamma}\n"
        f"  PCA {components}\n"
        f"  weights {singular}"
    )


_COLUMNS = (
    *("layer", "kind", "channels", "activation", "before", "values", "dead", "mean_variance"),
    *("total_variance", "shapiro_w", "shapiro_p", "exponential_share", "exponential_mean"),
    *("normal_mean", "normal_std", "gamma_share", "gamma_shape_1", "gamma_scale_1"),
    *("gamma_shape_2", "gamma_scale_2", "components_for_90", "components_for_99"),
    *("singular_for_90", "singular_for_99", "notes"),
)


def widths_csv(found: Widths) -> str:
    """The figures as CSV, one line a layer; a figure that there is not is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in found.layers:
        writer.writerow(["" if value is None else value for value in _row(one)])
    return text.getvalue()


def _row(one: LayerWidths) -> Sequence[str | int | float | None]:
    normality, mixed, gammas = one.normality, one.exponential_normal, one.gammas
    return [
        *(one.name, one.kind, one.channels, one.activation, one.before, one.values, one.dead),
        *(one.mean_variance, one.total_variance),
        *((None, None) if normality is None else (normality.w, normality.p)),
        *(
            [None] * 4
            if mixed is None
            else (mixed.share, mixed.exponential_mean, mixed.normal_mean, mixed.normal_std)
        ),
        *(
            [None] * 5
            if gammas is None
            else (
                *(gammas.share, gammas.shapes[0], gammas.scales[0]),
                *(gammas.shapes[1], gammas.scales[1]),
            )
        ),
        *(
            count
            for of in (one.components, one.singular)
            for count in ((None, None) if of is None else (of.for_90, of.for_99))
        ),
        "; ".join(one.notes),
    ]
