"""Options that several commands share, and functions that parse their values."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from seclcompress.errors import UsageError

NetworkArgument = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK", help="A network's name, a saved folder, or package.module:factory."
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="FILE|NAME",
        help="A file of safetensors or torch.save, or torchvision's name (IMAGENET1K_V2, DEFAULT).",
    ),
]
WeightsKeyOption = Annotated[
    str | None,
    typer.Option(
        "--weights-key",
        metavar="KEY",
        help="Where the weights lie in a checkpoint: model_ema, state_dict.  [default: where they fit]",
    ),
]
NumClassesOption = Annotated[
    int | None, typer.Option("--num-classes", min=1, help="Outputs of the classifier.")
]
InputSizeOption = Annotated[
    str | None,
    typer.Option(
        "--input-size",
        metavar="SIZE",
        help="Side or channels×size: 224, 3x224x224, for video 3x16x112x112. Default: the usual one.",
    ),
]
FactoryOption = Annotated[
    str | None,
    typer.Option(
        "--factory",
        metavar="MODULE:NAME",
        help="Trust this factory when a saved folder was built by it: its code will run.",
    ),
]
DownloadOption = Annotated[
    bool, typer.Option("--download", help="Allow downloads of published weights or data.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace an output folder that is there already.")
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of all random numbers.")
]


def parse_input_size(text: str | None) -> tuple[int, ...] | None:
    """Parses an input size: `224` as (3, 224, 224), `3x224x224` or `3,224,224` as it is.

    Args:
        text: The option's value; None if it is not given.

    Returns:
        (channels, *spatial); None if the option is not given.

    Raises:
        UsageError: If the text is not an input size.
    """
    if text is None:
        return None
    parts = re.split(r"[x×,]", text.strip().lower())
    if not all(part.isascii() and part.isdigit() and 0 < int(part) < 2**20 for part in parts):
        raise UsageError(f"--input-size {text}: it takes a side (224) or a shape (3x224x224).")
    sizes = tuple(int(part) for part in parts)
    if len(sizes) == 1:
        return (3, sizes[0], sizes[0])
    if len(sizes) == 2:
        raise UsageError(
            f"--input-size {text}: with the channels, please, as 3x{sizes[0]}x{sizes[1]}."
        )
    return sizes
