"""torchvision's networks: names, tasks, builders, usual input sizes, published weights."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.ops.misc import FrozenBatchNorm2d

from seclcompress.downloads import progress_is_shown
from seclcompress.errors import NetworkError, WeightsError, short
from seclcompress.networks.sources import NetworkSpec, Option, PublishedWeights, Source
from seclcompress.networks.tasks import (
    Detection,
    OpticalFlow,
    Segmentation,
    Task,
    VideoClassification,
)
from seclcompress.networks.torchvision_options import FROZEN_NORM, check_builder_options
from seclcompress.preprocessing import Preprocessing
from seclcompress.torch_private import is_for_classification

_T = TypeVar("_T")

#: torchvision's module for each task.
_FOLDERS: dict[type[Task], Any] = {
    Task: models,
    Detection: models.detection,
    Segmentation: models.segmentation,
    VideoClassification: models.video,
    OpticalFlow: models.optical_flow,
}
#: Options that torchvision's builders set themselves when they are given published weights.
_WITH_WEIGHTS: dict[str, dict[str, Option]] = {
    "googlenet": {"transform_input": True, "aux_logits": False},
    "inception_v3": {"transform_input": True, "aux_logits": True},
}
#: Prefixes of published weights that belong to branches which torchvision drops after loading.
_DROPPED = {"googlenet": ("aux1.", "aux2.")}
#: Tasks whose builders download weights for the backbone by default.
_WITH_BACKBONE = (Detection, Segmentation)
#: (frames, side) of the clips at which torchvision's figures were counted, by prefix of the name.
_CLIPS = {"mvit": (16, 224), "s3d": (16, 224), "swin3d": (16, 224)}
_CLIP = (16, 112)
_FLOW_SIZE = (512, 512)
_VIT_SIDE = 224
#: Side of the square images at which detectors are counted, by prefix of the name. R-CNNs, RetinaNet
#: and FCOS scale images to it.
_DETECTION_SIDE = 800
_DETECTION_SIDES = {"ssd300": 300, "ssdlite320": 320, "fasterrcnn_mobilenet_v3_large_320": 320}


class TorchvisionZoo(Source):
    """All of torchvision's networks except the quantised ones."""

    name = "torchvision"
    publishes_weights = True

    def names(self) -> list[str]:
        """The names of the networks of all tasks, sorted."""
        return _names()

    def refusal(self, name: str) -> str | None:
        """Refuses networks that compute with 8-bit integers."""
        if name not in quantised_names():
            return None
        return (
            f"{name} computes with 8-bit integers, which can be neither trained nor rewritten: name "
            f"{name.removeprefix('quantized_')} and quantise what comes of it."
        )

    def spec(
        self,
        name: str,
        num_classes: int | None = None,
        options: Mapping[str, Option] | None = None,
    ) -> NetworkSpec:
        """The spec of a network, by default with 1000 classes for image classification.

        For other tasks, torchvision chooses the default number of classes.

        Raises:
            NetworkError: If `num_classes` is given and the network has no classes.
        """
        if num_classes is not None and _task(name).without_classes:
            raise NetworkError(f"{name} has no classes; drop --num-classes.")
        if num_classes is None and type(_task(name)) is Task:
            num_classes = 1000  # as the published weights have
        return super().spec(name, num_classes, options)

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Calls torchvision's builder.

        Args:
            spec: A spec whose options are further keyword arguments of the builder, or `frozen_norm`.

        Raises:
            NetworkError: If there is no such network, an option is not on the list of
                `torchvision_options`, or torchvision refuses the options.
        """
        name, options, kind = spec.name, spec.options, _task(spec.name)
        check_builder_options(name, kind, options)
        wanted: dict[str, Any] = (
            {} if spec.num_classes is None else {"num_classes": spec.num_classes}
        )
        if name in _WITH_WEIGHTS:
            wanted["init_weights"] = True  # torchvision warns if this is not given
        if isinstance(kind, _WITH_BACKBONE):
            wanted["weights_backbone"] = None  # the default would download them
        wanted |= {key: value for key, value in options.items() if key != FROZEN_NORM}
        try:
            network: nn.Module = models.get_model_builder(name)(weights=None, **wanted)
        except (TypeError, ValueError) as error:
            raise NetworkError(
                f"Cannot build {name} with {short(str(wanted), 1000)}: {short(str(error), 1000)}"
            ) from error
        if options.get(FROZEN_NORM):
            _freeze_norms(network.get_submodule("backbone"))
        return network

    def input_size(self, spec: NetworkSpec) -> tuple[int, ...]:
        """The size at which the network's published figures were counted."""
        return _input_size(spec.name)

    def task(self, spec: NetworkSpec) -> Task:
        """The task, found by torchvision's module that contains the network."""
        return _task(spec.name)

    def published_weights(self, name: str, spelling: str) -> PublishedWeights:
        """Finds published weights by the name that a person gave.

        Args:
            name: A torchvision network.
            spelling: Such as `IMAGENET1K_V1` or `DEFAULT`, also with the enum's name before it.

        Raises:
            WeightsError: If the network has no such weights; the message lists those that it has.
        """
        enum = models.get_model_weights(name)
        member = spelling.removeprefix(f"{enum.__name__}.")
        if member not in enum.__members__:
            listed = ", ".join(enum.__members__) or "none"
            raise WeightsError(f"{name} has no weights '{spelling}'. torchvision has: {listed}.")
        weights = enum[member]
        return PublishedWeights(
            label=str(weights),
            options=_options_with_weights(name, weights),
            input_size=_input_size(name, weights),
            preprocessing=_preprocessing(weights),
            fetch=partial(_fetch, name, weights),
        )


SOURCE = TorchvisionZoo()


@cache
def quantised_names() -> list[str]:
    """The names of torchvision's networks with 8-bit integers, which cannot be trained."""
    return models.list_models(module=models.quantization)  # type: ignore[no-any-return]


@cache
def _names() -> list[str]:
    return sorted(name for folder in _FOLDERS.values() for name in models.list_models(folder))


def _task(name: str) -> Task:
    for kind, folder in _FOLDERS.items():
        if name in models.list_models(module=folder):
            return kind()
    raise NetworkError(f"This torchvision has no network '{name}'.")


def _freeze_norms(module: nn.Module) -> None:
    """Replaces batch norms by constant ones in place, as torchvision does for a trained backbone."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, child.eps))
        _freeze_norms(child)


def _options_with_weights(name: str, weights: WeightsEnum) -> dict[str, Option]:
    """The builder's options with which the network computes what the weights were trained for."""
    options = dict(_WITH_WEIGHTS.get(name, {}))
    if name.startswith("vit_"):
        options["image_size"] = weights.meta["min_size"][0]
    if name.startswith(("fcn_", "deeplabv3_")):
        options["aux_loss"] = True
    if isinstance(_task(name), Detection) and not name.endswith("_v2") and "ssd" not in name:
        options[FROZEN_NORM] = True
    return options


def _fetch(name: str, weights: WeightsEnum, download: bool) -> dict[str, Tensor]:
    """Reads published weights from torch's cache, or downloads them if that is allowed.

    Raises:
        WeightsError: If the weights are not in the cache and may not be, or cannot be, downloaded.
    """
    cached = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    if not cached.is_file() and not download:
        raise WeightsError(
            f"{weights} are not on this machine (looked for {cached}). "
            "Allow the download with --download, or give a file with --weights PATH."
        )
    try:
        # By default torch.hub would run the code of a pickle that lies in the cache.
        state: dict[str, Tensor] = weights.get_state_dict(
            progress=progress_is_shown(), check_hash=True, weights_only=True
        )
    except pickle.UnpicklingError as error:  # torch's words advise to load it unsafely
        raise WeightsError(
            f"Cannot read {weights}: {cached} is damaged, or holds more than tensors, and unpickling it "
            "could run code. Remove it and allow the download with --download."
        ) from error
    except Exception as error:
        raise WeightsError(f"Cannot read {weights}: {error}") from error
    return {
        key: value for key, value in state.items() if not key.startswith(_DROPPED.get(name, ()))
    }


def _input_size(name: str, weights: WeightsEnum | None = None) -> tuple[int, ...]:
    """The usual input size: (channels, height, width), or (channels, frames, height, width) of clips."""
    kind = _task(name)
    if isinstance(kind, VideoClassification):
        frames, side = _longest_prefix(_CLIPS, name, _CLIP)
        return (3, frames, side, side)
    if isinstance(kind, OpticalFlow):
        return (3, *_FLOW_SIZE)
    if isinstance(kind, Detection):
        side = _longest_prefix(_DETECTION_SIDES, name, _DETECTION_SIDE)
        return (3, side, side)
    chosen = weights if weights is not None else models.get_model_weights(name).DEFAULT
    transforms = chosen.transforms()
    if isinstance(kind, Segmentation):
        side = transforms.resize_size[0]
        return (3, side, side)
    # An untrained ViT is built for one size, even if its best weights were trained at another.
    side = _VIT_SIDE if weights is None and name.startswith("vit_") else transforms.crop_size[0]
    return (3, side, side)


def _preprocessing(weights: WeightsEnum) -> Preprocessing | None:
    """The preprocessing that published weights were measured with; None for other tasks."""
    published = weights.transforms()
    if not is_for_classification(published):
        return None
    return Preprocessing(
        mean=published.mean,
        std=published.std,
        resize=published.resize_size[0],
        interpolation=published.interpolation.value,
    )


def _longest_prefix(table: Mapping[str, _T], name: str, default: _T) -> _T:
    """The entry of the longest key that a name begins with, or else the default."""
    fitting = [key for key in table if name.startswith(key)]
    return table[max(fitting, key=len)] if fitting else default
