"""The pictures of docs/families.md: the matrix of every registered family.

    python experiments/family_pictures.py --out docs/families [--only NAME ...]

A linear map of 32 channels is shown twice, with the family's defaults: with its random first values,
and as near as `fit` brings it to one matrix, which is the same for all (the picture of `separable` shows
it as it is). Of a family that does not replace such a map, the layers that it makes of a 3×3 convolution
are shown in a row. Blue is negative, red is positive.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from seclcompress import substitutions
from seclcompress.substitutions import Site, Substitution
from seclcompress.substitutions.site import CONVOLUTIONS

SIZE = 32
#: Every picture fits into so many bytes, as the documents are read over slow lines, too.
LARGEST = 30_000
_COLOURS = 64


def given_matrix() -> Tensor:
    """The matrix that all families are brought near: a diagonal band, smooth waves and noise.

    So it has something for families that keep single entries, and for those of low rank.
    """
    generator = torch.Generator().manual_seed(0)
    place = torch.arange(SIZE, dtype=torch.float64)
    rows, columns = place[:, None], place[None, :]
    band = 1.5 * torch.exp(-((rows - columns) ** 2) / 4)
    waves = torch.sin(rows / 5) * torch.cos(columns / 3)
    noise = 0.25 * torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    whole = band + waves + noise
    return whole * (SIZE**0.5 / whole.norm())


def panels(family: Substitution) -> list[tuple[str, Tensor]]:
    """The matrices to show for a family, each with its title."""
    torch.manual_seed(0)
    linear = nn.Linear(SIZE, SIZE, bias=False)
    with torch.no_grad():
        linear.weight.copy_(given_matrix())
    config = family.config({})
    if family.refuse(Site(linear), config) is not None:
        conv = nn.Conv2d(SIZE, SIZE, 3, padding=1, bias=False)
        return _layers(family.build(conv, config).to_plain())
    layer = family.build(Site(linear), config)
    numbers = sum(parameter.numel() for parameter in layer.parameters())
    first = f"at random, {numbers:,} numbers"
    found = [(first, _matrix(layer))]
    fit = layer.fit(linear)
    if fit is not None:
        found.append((f"fitted, {max(fit.energy, 0):.0%} held", _matrix(layer)))
    return found


def _matrix(layer: Any) -> Tensor:
    dense = layer.to_dense()
    assert isinstance(dense, nn.Linear)
    return dense.weight.detach()


def _layers(plain: nn.Module) -> list[tuple[str, Tensor]]:
    """The weights of convolutions in a row, zeros between groups, kernel positions side by side."""
    found = []
    for conv in plain.modules():
        if isinstance(conv, tuple(CONVOLUTIONS.values())):
            title = "×".join(map(str, conv.kernel_size))
            title += f", {conv.groups} groups" if conv.groups > 1 else ""
            rows = conv.weight.detach().flatten(1).chunk(conv.groups)
            found.append((title, torch.block_diag(*rows)))
    return found


def picture(family: Substitution) -> bytes:
    """Draws a family as a PNG of few colours."""
    from matplotlib.figure import Figure

    shown = panels(family)
    widths = [max(1.0, matrix.shape[1] / matrix.shape[0] / 2) for _, matrix in shown]
    figure = Figure(figsize=(2.5 * sum(widths), 2.8), dpi=80, layout="constrained")
    for axes, (title, matrix) in zip(
        figure.subplots(1, len(shown), width_ratios=widths, squeeze=False)[0], shown, strict=True
    ):
        largest = float(matrix.abs().max())
        axes.imshow(
            matrix,
            cmap="RdBu_r",
            vmin=-largest,
            vmax=largest,
            interpolation="nearest",
            aspect="auto",
        )
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=9)
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(_COLOURS).save(small, format="png", optimize=True)
    return small.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/families"))
    parser.add_argument("--only", nargs="+", metavar="NAME", default=substitutions.names())
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name in chosen.only:
        drawn = picture(substitutions.get(name))
        (chosen.out / f"{name}.png").write_bytes(drawn)
        print(f"{name}: {len(drawn):,} bytes")


if __name__ == "__main__":
    main()
