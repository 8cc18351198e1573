"""Pictures for a page: matplotlib's SVG, in the page's own fonts and colours, with words on hover.

A picture is drawn in marker colours, which are then replaced by the page's CSS variables. So it is
light on a light page and dark on a dark one.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Marker colours by the name of the page's CSS variable.
COLOURS = {
    "ink": "#010203",
    "muted": "#010204",
    "line": "#010205",
    "card": "#010206",
    "dense": "#010207",
    "fast": "#010208",
    "kept": "#010209",
}
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, in the page's fonts
    "svg.hashsalt": "seclcompress",  # equal figures give equal bytes
    "text.parse_math": False,  # names of others may hold a $
    "font.size": 11.5,
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.linewidth": 0.8,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 11,
}
_POINTS = 72  # in an inch


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draws in the page's style while the block lasts; `svg` must be called within."""
    from matplotlib import rc_context

    with rc_context(_STYLE):
        yield


def figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Makes an empty picture with a grid.

    Args:
        width: In points, which are CSS pixels on the page.
        height: Likewise.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    made = Figure(figsize=(width / _POINTS, height / _POINTS), layout="constrained")
    FigureCanvasSVG(made)
    axes = made.subplots()
    axes.grid(visible=True, which="major")
    made.patch.set_visible(False)
    axes.patch.set_visible(False)
    return made, axes


def log_axis(axis: Any, low: float, high: float, *, whole: bool) -> None:
    """Labels a logarithmic axis in plain numbers, with steps between where it is short.

    Args:
        axis: An axis of matplotlib whose scale is logarithmic.
        low: The smallest value on it.
        high: The largest.
        whole: Whether to write numbers as 1K, 1M, 1G.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    decades = math.log10(high / low) if high > low > 0 else 0
    subs = (1.0,) if decades > 2.5 else (1.0, 2.0, 5.0) if decades > 0.7 else tuple(range(1, 10))
    axis.set_major_locator(LogLocator(subs=subs, numticks=10))
    axis.set_major_formatter(FuncFormatter(lambda x, _: amount(x) if whole else f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def amount(value: float) -> str:
    """A number in few characters: `1.2M`."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def svg(made: Figure, prefix: str, label: str, hover: Mapping[str, str] | None = None) -> str:
    """Turns a picture into an `<svg>` element for a page.

    Args:
        made: The picture, drawn in the colours of `COLOURS`.
        prefix: Makes the ids of this picture different from those of others on the page.
        label: What the picture shows, for people who do not see it.
        hover: Words to show when the pointer is over an artist, by its gid.
    """
    written = io.BytesIO()
    made.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(written.getvalue())  # just written here
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        words = (hover or {}).get(element.get("id", ""))
        element.attrib = {
            key.rpartition("}")[2]: _own(key, value, prefix) for key, value in element.items()
        }
        if words is not None:
            element.set("class", "hover")
            title = ElementTree.Element("title")
            title.text = words
            element.insert(0, title)
    width = root.get("viewBox", "0 0 360 0").split()[2]
    root.attrib = {
        "viewBox": root.get("viewBox", ""),
        "class": "plot",
        "style": f"--natural:{float(width):.0f}px",
        "role": "img",
        "aria-label": label,
    }
    return ElementTree.tostring(root, encoding="unicode")


def _own(key: str, value: str, prefix: str) -> str:
    """An attribute's value with ids of this picture and the page's colours."""
    if key == "id":
        return prefix + value
    if key.endswith("href") and value.startswith("#"):
        return f"#{prefix}{value[1:]}"
    value = value.replace("url(#", f"url(#{prefix}")
    for name, colour in COLOURS.items():
        value = value.replace(colour, f"var(--{name})")
    return value
