"""torchvision's classification networks: names, builders, published weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum

from seclcompress.errors import NetworkError, WeightsError
from seclcompress.preprocessing import Preprocessing

#: Options that torchvision's builders set when they are given published weights.
_WITH_WEIGHTS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "aux_logits": False},
    "inception_v3": {"transform_input": True, "aux_logits": True},
}
#: Published weights of branches that torchvision drops when it loads them.
_DROPPED = {"googlenet": ("aux1.", "aux2.")}


@cache
def names() -> list[str]:
    """The names of all classification networks that torchvision has."""
    return models.list_models(module=models)  # type: ignore[no-any-return]


def options_with_weights(name: str, weights: WeightsEnum) -> dict[str, Any]:
    """What the builder has to be told so that the published weights mean what they should."""
    options = dict(_WITH_WEIGHTS.get(name, {}))
    if name.startswith("vit_"):
        options["image_size"] = weights.meta["min_size"][0]
    return options


def build(name: str, num_classes: int, options: dict[str, Any]) -> nn.Module:
    """Builds a network with fresh weights.

    Args:
        name: One of `names()`.
        num_classes: Outputs of the classifier.
        options: More keyword arguments for torchvision's builder.

    Raises:
        NetworkError: If torchvision refuses the options.
    """
    builder = models.get_model_builder(name)
    if name in _WITH_WEIGHTS:
        options = {"init_weights": True, **options}  # said aloud, or torchvision warns
    try:
        return builder(weights=None, num_classes=num_classes, **options)  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise NetworkError(f"Cannot build {name} with {options}: {error}") from error


def find_weights(name: str, spelling: str) -> WeightsEnum:
    """The published weights that a person means.

    Args:
        name: A torchvision network.
        spelling: `IMAGENET1K_V1`, `DEFAULT`, or with the class in front of it.

    Raises:
        WeightsError: If the network has no such weights; those it has are listed.
    """
    enum = models.get_model_weights(name)
    member = spelling.removeprefix(f"{enum.__name__}.")
    if member not in enum.__members__:
        listed = ", ".join(enum.__members__) or "none"
        raise WeightsError(f"{name} has no weights '{spelling}'. torchvision has: {listed}.")
    return enum[member]


def fetch(name: str, weights: WeightsEnum, download: bool) -> dict[str, Tensor]:
    """Reads published weights from torch's cache, or from the network if that was asked for.

    Raises:
        WeightsError: If they are not in the cache and may not be downloaded, or cannot be.
    """
    cached = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    if not cached.is_file() and not download:
        raise WeightsError(
            f"{weights} are not on this machine (looked for {cached}). "
            "Allow the download with --download, or give a file with --weights PATH."
        )
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except Exception as error:
        raise WeightsError(f"Cannot read {weights}: {error}") from error
    return {
        key: value for key, value in state.items() if not key.startswith(_DROPPED.get(name, ()))
    }


def input_size(name: str, weights: WeightsEnum | None = None) -> tuple[int, ...]:
    """The size that a network's published weights were measured at, as (channels, H, W)."""
    chosen = weights if weights is not None else models.get_model_weights(name).DEFAULT
    side = chosen.transforms().crop_size[0]
    return (3, side, side)


def preprocessing(weights: WeightsEnum) -> Preprocessing:
    """What published weights were trained and measured with."""
    published = weights.transforms()
    return Preprocessing(
        mean=published.mean,
        std=published.std,
        resize=published.resize_size[0],
        interpolation=published.interpolation.value,
    )
