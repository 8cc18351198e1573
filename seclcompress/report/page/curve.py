"""The curve of plans as a page."""

from __future__ import annotations

from markupsafe import Markup

from seclcompress.budget import Curve, Point
from seclcompress.report.curve import axis_of, curve_words, draw_curve, figures_of, layers_of
from seclcompress.report.page.drawing import COLOURS, figure, log_axis, styled, svg
from seclcompress.report.page.rendering import render


def curve_html(curve: Curve, version: str) -> str:
    """Makes a page with the picture of a curve and its points.

    Args:
        curve: The curve.
        version: The version of this package.

    Returns:
        An HTML document that loads nothing: styles and the picture are in it, and it has no scripts.
    """
    rows = [{**figures_of(point), "layers": layers_of(point)} for point in curve.points]
    return render(
        "curve.html.j2",
        title=f"{curve.label}: the best plans",
        words=curve_words(curve),
        version=version,
        picture=Markup(_picture(curve)),
        rows=rows,
    )


def _picture(curve: Curve) -> str:
    amounts = [point.amount(curve.quantity) for point in curve.points]
    hover = {f"point-{number}": _hover(point) for number, point in enumerate(curve.points)}
    with styled():
        made, axes = figure(380, 290)  # a phone shows it whole
        draw_curve(axes, curve, COLOURS["dense"])
        times = curve.runtime is not None
        low = min(amounts) if times else max(min(amounts), 1)
        log_axis(axes.xaxis, low, max(amounts), whole=not times)
        label = f"Loss against {axis_of(curve)}; the figures are in the table below."
        return svg(made, "curve-", label, hover)


def _hover(point: Point) -> str:
    *amounts, lost = (f"{figure} {name}" for name, figure in figures_of(point).items())
    return f"{', '.join(amounts)}: {lost.removesuffix(' lost')} ({layers_of(point)})"
