"""What happens to an image before a network sees it: size, mean and standard deviation."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Triple = tuple[float, float, float]


class Preprocessing(BaseModel):
    """How images become a network's input; saved with a network, because it was trained so.

    Attributes:
        mean: Of red, green and blue, of values from 0 to 1.
        std: Their standard deviations.
        resize: The shorter side before the centre is cut out, in pixels; None: 256/224 of the input's.
        interpolation: How images are resized.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    resize: int | None = Field(default=None, ge=1, le=65536)
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"


#: Of ImageNet's training images; what torchvision's networks are trained with, but for a few.
IMAGENET = Preprocessing()
