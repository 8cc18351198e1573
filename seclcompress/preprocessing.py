"""The preprocessing of images for a network: resizing and normalisation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

#: The weights of red, green and blue in the grey that PIL and torchvision make of them (ITU-R 601-2).
_LUMA = (0.299, 0.587, 0.114)
_MOST_CHANNELS = 4096


class Preprocessing(BaseModel):
    """How images become a network's input. It is saved with the network that was trained with it.

    Attributes:
        mean: The means of red, green and blue, of values from 0 to 1; one for each channel of other
            images, or one for all channels.
        std: The standard deviations, likewise.
        resize: The shorter side in pixels to which an image is resized before its centre is cropped.
            None means 256/224 of the input's shorter side, and for an image that has the input's size
            that it is left as it is.
        interpolation: The interpolation used to resize images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=_MOST_CHANNELS)] = (
        *(0.485, 0.456, 0.406),
    )
    std: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=_MOST_CHANNELS)] = (
        *(0.229, 0.224, 0.225),
    )
    resize: int | None = Field(default=None, ge=1, le=65536)
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"

    def suits(self, channels: int) -> bool:
        """Whether there is one mean and one standard deviation for all channels, or one for each."""
        return {len(self.mean), len(self.std)} <= {1, channels}

    def for_channels(self, channels: int) -> Preprocessing:
        """The same statistics for images with another number of channels.

        Those of colours become those of grey; for other channels nothing is known, and both become 0.5.

        Args:
            channels: The channels of the images.
        """
        if self.suits(channels):
            return self
        if channels == 1 and {len(self.mean), len(self.std)} <= {1, 3}:
            mean, std = (_grey(values) for values in (self.mean, self.std))
        else:
            mean, std = (0.5,), (0.5,)
        return self.model_copy(update={"mean": mean, "std": std})


def _grey(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(values)) == 1:
        return values[:1]
    return (sum(weight * value for weight, value in zip(_LUMA, values, strict=True)),)


#: The statistics of ImageNet's training images, with which most of torchvision's networks are trained.
IMAGENET = Preprocessing()
