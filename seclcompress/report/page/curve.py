"""The curve of plans as a page."""

from __future__ import annotations

from markupsafe import Markup

from seclcompress.budget import Curve
from seclcompress.report.curve import curve_words, draw_curve, layers_of
from seclcompress.report.page.drawing import COLOURS, figure, log_axis, styled, svg
from seclcompress.report.page.rendering import render
from seclcompress.settings.budget import WORDS


def curve_html(curve: Curve, version: str) -> str:
    """Makes a page with the picture of a curve and its points.

    Args:
        curve: The curve.
        version: The version of this package.

    Returns:
        An HTML document that loads nothing: styles and the picture are in it, and it has no scripts.
    """
    rows = [
        {
            "parameters": f"{point.parameters:,}",
            "Mult-Adds": f"{point.mult_adds:,}",
            "lost": f"{100 * point.loss:.2f} %",
            "layers": layers_of(point),
        }
        for point in curve.points
    ]
    return render(
        "curve.html.j2",
        title=f"{curve.label}: the best plans",
        words=curve_words(curve),
        version=version,
        picture=Markup(_picture(curve)),
        rows=rows,
    )


def _picture(curve: Curve) -> str:
    amounts = [getattr(point, curve.quantity) for point in curve.points]
    hover = {
        f"point-{number}": f"{point.parameters:,} parameters, {point.mult_adds:,} Mult-Adds: "
        f"{100 * point.loss:.2f} % ({layers_of(point)})"
        for number, point in enumerate(curve.points)
    }
    with styled():
        made, axes = figure(380, 290)  # a phone shows it whole
        draw_curve(axes, curve, COLOURS["dense"])
        log_axis(axes.xaxis, max(min(amounts), 1), max(amounts), whole=True)
        label = f"Loss against {WORDS[curve.quantity]}; the figures are in the table below."
        return svg(made, "curve-", label, hover)
