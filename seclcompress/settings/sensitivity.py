"""The choices of measuring what a layer loses: by what, and on how many images."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field

from seclcompress.errors import UsageError

#: What a layer's loss is measured by: its weights, its outputs, or what its outputs do to the network's.
Measure: TypeAlias = Literal["energy", "output", "recovered", "fisher"]
#: Those that are measured on images.
OnImages: TypeAlias = Literal["output", "recovered", "fisher"]


class SensitivityOptions(BaseModel):
    """How it is measured what a layer loses. Every field is an option of `plan`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sensitivity: Measure | None = Field(
        default=None,
        description="What a layer loses: energy of its weights; error of its outputs on images, as "
        "fitted or once recovered; or Fisher information of that error. All but energy need --data. "
        " [default: energy; recovered with --data]",
    )
    images: int = Field(
        default=256,
        ge=1,
        description="Training images to measure on. Labels are used by --sensitivity fisher alone.",
    )

    def on_images(self, *, data: bool) -> OnImages | None:
        """What is measured on images; None where there are none.

        Args:
            data: Whether a data set was named.

        Raises:
            UsageError: If the measure needs images and there are none, or the other way round.
        """
        if not data:
            if self.sensitivity in get_args(OnImages):
                raise UsageError(
                    f"--sensitivity {self.sensitivity} is measured on images: add --data, as "
                    "--data cifar10 or --data imagefolder:PATH."
                )
            if "images" in self.model_fields_set:
                raise UsageError("--images does nothing without --data: give that, or drop it.")
            return None
        if self.sensitivity == "energy":
            raise UsageError(
                "--sensitivity energy looks at the weights alone, so --data does nothing beside it: "
                "drop one of the two."
            )
        return self.sensitivity or "recovered"
