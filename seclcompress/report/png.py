"""Figures as PNG files."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextlib.contextmanager
def drawn(size: tuple[float, float]) -> Iterator[tuple[Figure, io.BytesIO]]:
    """Writes a figure as PNG at the end of the block; equal figures give equal files.

    Args:
        size: Width and height in inches.

    Yields:
        The empty figure, and what has the file's bytes after the block.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure, written = Figure(figsize=size, dpi=120, layout="constrained"), io.BytesIO()
    FigureCanvasAgg(figure)
    yield figure, written
    # Without date and version, so that equal figures give equal files.
    figure.savefig(written, format="png", metadata={"Software": None})
