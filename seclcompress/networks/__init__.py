"""Networks by name: how one is built, and built again from a saved folder.

A `Recipe` says how to build the network before anything was rewritten. New sources of networks are
new files here and one entry in `_SOURCES`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.overrides import TorchFunctionMode

from seclcompress.errors import ArtefactError, NetworkError, UsageError
from seclcompress.networks import factory, torchvision_zoo, wide_resnet
from seclcompress.networks.tasks import Task

__all__ = [
    "Recipe",
    "build",
    "check_image_classification",
    "default_input_size",
    "is_known",
    "named_recipe",
    "names",
]

#: Shown in lists; any wrn<depth>_<width> with depth 6n + 4 is known.
WIDE_RESNETS = ("wrn16_2", "wrn28_10", "wrn40_2")


class Recipe(BaseModel):
    """How to build a network with fresh weights.

    Attributes:
        source: Which kind of name `name` is.
        name: `resnet18`, `wrn40_2`, or `package.module:factory`.
        num_classes: Outputs of the classifier; None where the builder or factory decides itself.
        options: Further options of the builder (torchvision only).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["torchvision", "wide_resnet", "factory"]
    name: str = Field(max_length=200)
    num_classes: int | None = Field(default=None, ge=1, le=10_000_000)
    options: dict[str, bool | Annotated[int, Field(ge=-(2**16), le=2**16)]] = Field(
        default={}, max_length=50
    )


def names() -> list[str]:
    """Every network that can be named, torchvision's first."""
    return [*torchvision_zoo.names(), *WIDE_RESNETS]


def is_known(name: str) -> bool:
    """Whether a name is one of a network."""
    return wide_resnet.is_wide_resnet(name) or name in torchvision_zoo.names()


def named_recipe(
    name: str, num_classes: int | None = None, options: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe for a name that a person typed.

    Args:
        name: A torchvision network, `wrn<depth>_<width>`, or `package.module:factory`.
        num_classes: Outputs of the classifier; by default torchvision's (1000 for images), and 10
            for a wide residual network.
        options: Further options of a torchvision builder.

    Raises:
        NetworkError: If there is no such network (the nearest names are suggested), it has no
            classes to number, or it computes with integers.
    """
    if factory.is_factory(name):
        if num_classes is not None:
            raise NetworkError(f"{name} decides its number of classes itself; drop --num-classes.")
        return Recipe(source="factory", name=name)
    if wide_resnet.is_wide_resnet(name):
        return Recipe(source="wide_resnet", name=name, num_classes=num_classes or 10)
    if name in torchvision_zoo.names():
        classes = num_classes or torchvision_zoo.default_classes(name)
        if classes and torchvision_zoo.task(name).without_classes:
            raise NetworkError(f"{name} has no classes; drop --num-classes.")
        return Recipe(source="torchvision", name=name, num_classes=classes, options=options or {})
    if name in torchvision_zoo.quantised_names():
        raise NetworkError(
            f"{name} computes with 8-bit integers, which can be neither trained nor rewritten: name "
            f"{name.removeprefix('quantized_')} and quantise what comes of it."
        )
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.6)
    hint = f"Did you mean {', '.join(near)}? " if near else ""
    raise NetworkError(
        f"Unknown network '{name}'. {hint}`seclcompress networks` lists all {len(names())}; "
        "a folder or package.module:factory will do as well."
    )


def build(recipe: Recipe, *, factory_name: str | None = None, skeleton: bool = False) -> nn.Module:
    """Builds a network with fresh weights, from torch's global random numbers.

    Args:
        recipe: What to build.
        factory_name: The factory that the person named in this call. One that only stands in a file
            is not imported.
        skeleton: Leaves large weights on the meta device, without values: quick, and no memory. A
            factory's network is built in full all the same.

    Raises:
        NetworkError: If the network cannot be built.
        ArtefactError: If the recipe asks for a factory that the person did not name.
    """
    if recipe.source == "factory":
        if factory_name != recipe.name:
            raise ArtefactError(
                f"This network is built by {recipe.name}, which is code of somebody's. "
                f"Where you trust it, say so with --factory {recipe.name}"
            )
        return factory.build(recipe.name)
    if recipe.source == "torchvision" and recipe.name not in torchvision_zoo.names():
        raise NetworkError(f"This torchvision has no network '{recipe.name}'.")
    try:
        if skeleton:
            return _skeleton(recipe)
        with torch.device("cpu"):
            return _build_named(recipe)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError) as error:
        # Options that no builder was made for end in whatever they end in.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NetworkError(
            f"Cannot build {recipe.name} {dict(recipe.options)}: {reason}"
        ) from error


def _skeleton(recipe: Recipe) -> nn.Module:
    try:
        with _LargeOnMeta():
            return _build_named(recipe)
    except RuntimeError:
        if recipe.options:  # with somebody's options a network in full may be of any size
            raise
        return _build_named(recipe)  # SSDlite runs its backbone while it is built


def _build_named(recipe: Recipe) -> nn.Module:
    if recipe.source == "wide_resnet":
        return wide_resnet.wide_resnet(recipe.name, recipe.num_classes or 10)
    return torchvision_zoo.build(recipe.name, recipe.num_classes, dict(recipe.options))


def check_image_classification(recipe: Recipe, purpose: str) -> None:
    """Makes sure that a network named by a recipe is one that sorts images into classes.

    Nothing is known of a factory's network before it runs; it passes.

    Args:
        recipe: Of the network.
        purpose: What image classification is needed for, for the message: `train`, `distill`.

    Raises:
        UsageError: If it is a network for another task.
    """
    task = torchvision_zoo.task(recipe.name) if recipe.source == "torchvision" else Task()
    if type(task) is not Task:
        raise UsageError(
            f"{recipe.name} is a network for {task.name}; {purpose} knows image classification only. "
            "It can be counted and converted here; train the result as its original was trained."
        )


def default_input_size(recipe: Recipe) -> tuple[int, ...]:
    """The size a network is usually run at, as (channels, *spatial)."""
    if recipe.source == "wide_resnet":
        return (3, 32, 32)
    if recipe.source == "torchvision":
        return torchvision_zoo.input_size(recipe.name)
    return (3, 224, 224)


_LARGE = 2**16  # numbers; among smaller tensors are those that builders look at


class _LargeOnMeta(TorchFunctionMode):
    """Makes every `torch.empty`, from which layers take their weights, land on the meta device.

    Large zeros and ones, from which normalisations take theirs, do so too.

    The whole network under `torch.device("meta")` would not do: RegNet computes its widths with
    tensors while it is built.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones) and kwargs.get("device") is None:
            made = func(*args, **{**kwargs, "device": "meta"})
            if func is torch.empty or made.numel() > _LARGE:
                return made
        return func(*args, **kwargs)
