"""Pictures of widths, as the research journal drew them: a row for each layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from seclcompress.report.png import drawn
from seclcompress.widths.result import LayerWidths, Widths

#: Rows that a picture has room for.
MOST_LAYERS = 40
_WIDTH, _ROW, _TITLE = 13.0, 2.3, 0.5  # inches


def widths_png(found: Widths) -> bytes:
    """Draws four pictures of each layer as a PNG file; equal figures give equal files.

    They are the variances of the channels with both mixtures, the variance explained by each principal
    component, the distance that the first components leave, and the singular values of the weights.

    Args:
        found: The statistics of at most `MOST_LAYERS` layers.
    """
    rows = len(found.layers)
    with drawn((_WIDTH, _ROW * rows + _TITLE)) as (figure, written):
        grid = figure.subplots(rows, 4, squeeze=False)
        for axes, layer in zip(grid, found.layers, strict=True):
            _draw_variances(axes[0], layer)
            _draw_components(axes[1], axes[2], layer)
            _draw_singular(axes[3], layer)
            for one in axes:
                one.spines[["top", "right"]].set_visible(False)
                one.tick_params(labelsize=7)
        figure.suptitle(
            f"{found.label} on {found.images:,} images of {found.data}: none of these tells the right "
            "width",
            fontsize=10,
        )
    return written.getvalue()


def _draw_variances(axes: Any, layer: LayerWidths) -> None:
    dead = "" if layer.dead is None else f", {layer.dead:,} dead"
    axes.set_title(f"{layer.name}: {layer.channels:,} channels{dead}", fontsize=8, loc="left")
    live = np.array([one for one in layer.variances or () if one > 0])
    if not len(live):
        _say_nothing(axes)
        return
    axes.hist(live, bins=min(40, max(8, len(live) // 4)), density=True, color="0.8")
    at = np.linspace(live.max() / 500, live.max(), 400)
    top = axes.get_ylim()[1]
    for mixture, words, style in (
        (layer.exponential_normal, "exponential + normal", "C0-"),
        (layer.gammas, "two gammas", "C1--"),
    ):
        if mixture is not None:
            axes.plot(at, mixture.density(at), style, linewidth=1, label=words)
    axes.set_ylim(0, top * 1.15)  # a density may be without bound at 0
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=6, frameon=False)
    behind = layer.activation or "no activation"
    axes.set_xlabel(f"variance behind {behind}", fontsize=7)
    axes.set_ylabel("density of channels", fontsize=7)


def _draw_components(spectrum: Any, distance: Any, layer: LayerWidths) -> None:
    found = layer.components
    if found is None:
        _say_nothing(spectrum)
        _say_nothing(distance)
        return
    number = np.arange(1, layer.channels + 1)
    explained = np.array(found.ratios)
    seen = explained > 0  # a logarithmic axis has no place for 0
    spectrum.plot(number[seen], explained[seen], "C2.-", markersize=3, linewidth=1)
    spectrum.set_yscale("log")
    spectrum.set_xlabel("principal component", fontsize=7)
    where = "behind batch norm" if layer.before == "batch norm" else "of the layer's output"
    spectrum.set_ylabel(f"explained variance\n{where}", fontsize=7)
    distance.plot(np.arange(layer.channels + 1), found.distances, "C3", linewidth=1)
    distance.set_ylim(bottom=0)
    distance.set_xlabel("components kept", fontsize=7)
    distance.set_ylabel("reconstruction distance", fontsize=7)
    for count, words, height in ((found.for_90, "90 %", 1), (found.for_99, "99 %", 0.9)):
        distance.axvline(count, color="0.7", linewidth=0.8)
        place, of = (count, height), ("data", "axes fraction")
        distance.annotate(f" {words}", place, xycoords=of, fontsize=6, va="top", color="0.4")


def _draw_singular(axes: Any, layer: LayerWidths) -> None:
    found = layer.singular
    if found is None:
        _say_nothing(axes)
        return
    values = np.array(found.values)
    axes.plot(np.arange(1, len(values) + 1), values, "C4.-", markersize=3, linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("singular value", fontsize=7)
    axes.set_ylabel("of the weights", fontsize=7)


def _say_nothing(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(
        0.5, 0.5, "not measured", ha="center", transform=axes.transAxes, fontsize=7, color="0.4"
    )
