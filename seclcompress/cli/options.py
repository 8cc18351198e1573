"""Options that several commands share, and functions that parse their values."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from seclcompress.errors import UsageError

NetworkArgument = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK",
        help="A network's name, a saved folder, hf://OWNER/NAME, or package.module:factory.",
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
        help="Where in the file of --weights they stand, as model_ema or ema.module.",
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
        help="Side, height×width, or with channels: 224, 128x224, 3x128x224, for video 3x16x112x112. "
        "Default: the usual one.",
    ),
]
BUDGET_HELP = (
    "The most that the network may have, as parameters=100k,mult-adds=50M or bytes=400kB (of float32 "
    "weights)."
)
TIMED_BUDGET_HELP = f"{BUDGET_HELP[:-1]}, or ms=20: what it may take for an image on this machine."
BudgetOption = Annotated[str, typer.Option("--budget", metavar="LIMITS", help=BUDGET_HELP)]
FactoryOption = Annotated[
    str | None,
    typer.Option(
        "--factory",
        metavar="MODULE:NAME",
        help="Trust this factory when a saved folder was built by it: its code will run.",
    ),
]
DownloadOption = Annotated[
    bool,
    typer.Option(
        "--download", help="Allow downloads: published weights, data, hf:// repositories."
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace an output folder that is there already.")
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="Print the figures as JSON; `seclcompress schema` prints its JSON Schema."
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of all random numbers.")
]

_MOST_COLOURS = 4


def parse_names(text: str) -> tuple[str, ...]:
    """Parses the names of `--families`, with commas between them.

    Raises:
        UsageError: If there are none.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UsageError("--families: name at least one, as acdc,separable.")
    return names


def parse_input_size(text: str | None, option: str = "--input-size") -> tuple[int, ...] | None:
    """Parses an input size: `224` is (3, 224, 224), `128x224` (height, width) is (3, 128, 224).

    Args:
        text: The option's value; None if it is not given. With the channels, as `1x28x28`, it is taken
            as it is.
        option: The name of the option, for messages.

    Returns:
        (channels, *spatial); None if the option is not given.

    Raises:
        UsageError: If the text is not an input size.
    """
    if text is None:
        return None
    parts = re.split(r"[x×,]", text.strip().lower())
    forms = "a side (224), height x width (128x224), or a shape with the channels (3x128x224)"
    if not all(part.isascii() and part.isdigit() and 0 < int(part) < 2**20 for part in parts):
        raise UsageError(f"{option} {text}: it takes {forms}.")
    sizes = tuple(int(part) for part in parts)
    if len(sizes) == 1 and sizes[0] <= _MOST_COLOURS:
        raise UsageError(
            f"{option} {text}: that would be images of {sizes[0]}x{sizes[0]} pixels. It takes {forms}; "
            f"for so small images, 3x{sizes[0]}x{sizes[0]}."
        )
    if len(sizes) == 1:
        return (3, sizes[0], sizes[0])
    if len(sizes) == 2 and sizes[0] <= _MOST_COLOURS:
        raise UsageError(
            f"{option} {text}: is {sizes[0]} the channels or the height? With the channels, please, as "
            f"{sizes[0]}x{sizes[1]}x{sizes[1]}."
        )
    return (3, *sizes) if len(sizes) == 2 else sizes
