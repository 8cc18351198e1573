"""A page of figures: one self-contained HTML file that can be shown to somebody else.

`facts` is what goes in. `words`, `commands`, `sections` and `pictures` (with `drawing`) put it into the
form that the template `page.html.j2` shows (`rendering`). The template escapes everything, because
names, reasons and classes may come from a stranger's folder; only the pictures, whose texts are escaped
when they are drawn, go in as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from seclcompress.report.page import pictures, sections
from seclcompress.report.page.commands import report_command, steps
from seclcompress.report.page.facts import Facts, StoredFile, Timed
from seclcompress.report.page.rendering import render
from seclcompress.report.page.words import headline, name
from seclcompress.report.training import BEFORE

__all__ = ["Facts", "StoredFile", "Timed", "headline", "page_html"]


def page_html(folders: Sequence[Facts], version: str) -> str:
    """Makes a page.

    Args:
        folders: The folders to show, at least one; several are compared first.
        version: The version of this package.

    Returns:
        An HTML document that loads nothing: styles and pictures are in it, and it has no scripts.
    """
    return render(
        "page.html.j2",
        title=_title(folders),
        version=version,
        folders=[_shown(facts, place) for place, facts in enumerate(folders)],
        comparison=_comparison(folders) if len(folders) > 1 else None,
    )


def _title(folders: Sequence[Facts]) -> str:
    if len(folders) == 1:
        return f"{name(folders[0].network)}: {name(folders[0].folder)}"
    return f"{len(folders)} networks side by side"


def _shown(facts: Facts, place: int) -> dict[str, Any]:
    """Everything that the template shows of a folder."""
    prefix = f"f{place}-"
    answers = facts.evaluation.answers if facts.evaluation else None
    return {
        "id": f"folder{place}",
        "name": name(facts.folder, 200),
        "network": name(facts.network),
        "headline": headline(facts),
        "converted": facts.converted,
        "tiles": sections.tiles(facts),
        "variants": sections.variants(facts),
        "kind": facts.plan.kind,
        "rewritten": len(facts.plan.rewritten),
        "planned": len(facts.plan.layers),
        "layer_pictures": _layer_pictures(facts, prefix),
        "layers": sections.layer_rows(facts),
        "curves": _curves(facts, prefix),
        "run": sections.run_rows(facts),
        "evaluation": facts.evaluation,
        "data": name(facts.data or ""),
        "classes": [] if answers is None else sections.class_bars(answers),
        "all_classes": 0 if answers is None else len(answers.classes),
        "confusions": None if answers is None else sections.confusions(answers),
        "worst": [] if answers is None else sections.worst_confusions(answers),
        "evaluate_command": report_command(facts, facts.folder, facts.trained_on, "report.html"),
        "sizes": sections.size_rows(facts),
        "machine": None if facts.timed is None else facts.timed.machine,
        "times": [] if facts.timed is None else sections.time_rows(facts.timed),
        "settings": sections.settings_rows(facts.config.training),
        "input_size": "×".join(map(str, facts.config.input_size)),
        "seed": facts.config.seed,
        "versions": [(name(k), name(v)) for k, v in facts.config.versions.items()],
        "steps": steps(facts),
    }


def _layer_pictures(facts: Facts, prefix: str) -> list[tuple[str, Markup]]:
    drawn = {
        title: pictures.layers_svg(
            facts.count.rows, quantity, f"{prefix}{quantity}-", converted=facts.converted
        )
        for quantity, title in pictures.TITLES.items()
    }
    return [(title, Markup(picture)) for title, picture in drawn.items() if picture is not None]


def _curves(facts: Facts, prefix: str) -> list[Markup]:
    if not facts.history:
        return []
    distilled = facts.config.distilled
    metrics = facts.config.metrics if distilled else {}
    known = {title: metrics.get(f"{key}_accuracy") for key, title in BEFORE.items()}
    levels = {title: v for title, v in known.items() if v is not None and 0 <= v <= 100}
    return [
        Markup(pictures.loss_svg(facts.history, f"{prefix}loss-", taught=distilled)),
        Markup(pictures.accuracy_svg(facts.history, levels, f"{prefix}accuracy-")),
    ]


def _comparison(folders: Sequence[Facts]) -> dict[str, Any]:
    picture = pictures.comparison_svg(folders, "comparison-")
    data = {facts.accuracy_on for facts in folders if facts.accuracy is not None}
    return {
        "picture": None if picture is None else Markup(picture),
        "rows": [sections.comparison_row(facts, place) for place, facts in enumerate(folders, 1)],
        "mixed": len(data) > 1,
    }
