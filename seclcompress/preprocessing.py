"""The preprocessing of images for a network: resizing and normalisation."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Triple = tuple[float, float, float]


class Preprocessing(BaseModel):
    """How images become a network's input. It is saved with the network that was trained with it.

    Attributes:
        mean: The means of red, green and blue, of values from 0 to 1.
        std: The standard deviations of red, green and blue.
        resize: The shorter side in pixels to which an image is resized before its centre is cropped.
            None means 256/224 of the input's shorter side.
        interpolation: The interpolation used to resize images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    resize: int | None = Field(default=None, ge=1, le=65536)
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"


#: The statistics of ImageNet's training images, with which most of torchvision's networks are trained.
IMAGENET = Preprocessing()
