"""The training settings: one model for the command line, recipes (TOML files) and saved runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
)

from seclcompress.settings.typed import (
    numbers,
    pairs,
    pixel_value,
    rule_or_number,
    split,
    without_factors,
)

#: Groups of parameters that structured layers may name. All other parameters are in the group `rest`.
GROUPS = ("factors", "gains", "norms", "gates")


def in_pairs(value: Mapping[str, float]) -> str:
    """Spells a mapping as on the command line: `gains=0,norms=0`."""
    return ",".join(f"{name}={number:g}" for name, number in value.items())


PixelValue: TypeAlias = Annotated[float, AfterValidator(pixel_value)]

#: Settings that change where and how fast a run computes, but not its result. A resumed run may have
#: different values for them.
INCIDENTAL = frozenset(
    {"device", "workers", "cache_images", "checkpoint_seconds", "tensorboard", "track"}
)

#: Programs that a run can be written for as it goes (`seclcompress.trackers`).
TRACKERS = ("tensorboard", "mlflow", "wandb")

#: Settings that a run without a teacher does not use.
DISTILLATION = (
    *("alpha", "temperature", "kd", "dkd_target", "dkd_others", "standardize_logits"),
    *("beta", "taps"),
)

#: Settings that an evaluation uses, too.
EVALUATION = (
    *("batch_size", "validation", "preprocessing", "mean", "std", "classes_by_order"),
    *("device", "workers", "cache_images", "bad_images"),
)


class TrainingSettings(BaseModel):
    """How to train. Every field is an option of `distill` and a key of a TOML recipe.

    `train` has the same options except those in `DISTILLATION`. The defaults are the values that the
    study in docs/training.md found best; `secl-cifar` is the authors' recipe. `--help` shows the
    descriptions of the fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=200, ge=1, description="Passes over the training images.")
    batch_size: int = Field(default=128, ge=1, description="Images at once in each process.")
    accumulate: int = Field(
        default=1, ge=1, description="Batches whose gradients are added up for one step."
    )
    optimizer: Literal["sgd", "adamw"] = Field(
        default="sgd", description="Optimizer; sgd uses --momentum."
    )
    lr: float = Field(default=0.1, gt=0, description="The highest learning rate.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of SGD.")
    lr_scheduler: Literal["cosine", "step"] = Field(
        default="cosine", description="step: × 0.2 at 30, 60 and 80 % of the epochs."
    )
    warmup_epochs: float = Field(
        default=0.0, ge=0, description="Epochs in which the learning rate rises from 0."
    )
    weight_decay: float = Field(
        default=5e-4,
        ge=0,
        description="Weight decay of everything but the structured factors and --group-decay.",
    )
    factor_decay: Annotated[
        Literal["ratio", "fixed", "product"] | float, BeforeValidator(rule_or_number)
    ] = Field(
        default="ratio",
        description="Weight decay of the structured factors: a number; fixed: 8.8e-6; ratio: "
        "--weight-decay × compressed ÷ original parameters; product: none on the factors, "
        "--weight-decay on the matrix they multiply to.",
    )
    factor_optimizer: Literal["same", "adamw"] = Field(
        default="adamw", description="Optimizer of the structured factors."
    )
    factor_lr: float | None = Field(
        default=None,
        gt=0,
        description="Learning rate of the structured factors, × --lr. By default 1, and 0.1 where "
        "AdamW trains them and SGD the rest.",
    )
    group_decay: Annotated[
        dict[str, NonNegativeFloat], BeforeValidator(pairs), AfterValidator(without_factors)
    ] = Field(
        default={"gains": 0.0},
        description="Weight decay of other groups of parameters that structured layers name "
        f"({', '.join(GROUPS[1:])}); --weight-decay is that of a group without a number.",
    )
    group_lr: Annotated[
        dict[str, PositiveFloat], BeforeValidator(pairs), AfterValidator(without_factors)
    ] = Field(default={}, description="Learning rate of such groups, × --lr; by default 1.")
    ema: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay of a moving average of the weights over the steps, such as 0.999; the "
        "average is what is tested and saved. 0 is off.",
    )
    symmetry_penalty: float = Field(
        default=0.0,
        ge=0,
        description="Weight ρ of the penalty ρ·‖W − Wᵀ‖ on every convolution with as many output as "
        "input channels, so that it can become symmetric afterwards; 0 is off.",
    )
    symmetry_norm: Literal["l1", "l2"] = Field(
        default="l1", description="Norm of --symmetry-penalty."
    )
    alpha: float = Field(
        default=0.9, ge=0, le=1, description="Share of knowledge distillation; 0 is off."
    )
    temperature: float = Field(
        default=4.0, gt=0, description="Temperature of knowledge distillation."
    )
    kd: Literal["kd", "dkd"] = Field(
        default="kd",
        description="Knowledge distillation: kd (Hinton et al.), or dkd, decoupled into a part on the "
        "image's class and one on the others (Zhao et al., 2022).",
    )
    dkd_target: float = Field(
        default=1.0, ge=0, description="Weight of dkd's part on the image's class; the paper's α."
    )
    dkd_others: float = Field(
        default=8.0, ge=0, description="Weight of dkd's part on the other classes; the paper's β."
    )
    standardize_logits: bool = Field(
        default=False,
        description="Compare scores of mean 0 and variance 1 (Sun et al., 2024), best with "
        "--temperature 2.",
    )
    beta: float = Field(default=1000.0, ge=0, description="Weight of attention transfer; 0 is off.")
    taps: Annotated[tuple[str, ...], BeforeValidator(split)] = Field(
        default=(),
        description="Modules whose attention is compared, with commas. By default the ends of the "
        "resolution groups.",
    )
    crop: bool | None = Field(
        default=None,
        description="Random crops: after padding for small images, at a random scale for large ones. "
        "By default what suits the data.",
    )
    flip: bool | None = Field(
        default=None, description="Random mirror images. By default what suits the data."
    )
    cutout: int = Field(
        default=0, ge=0, description="Side of a square that is cut out of each image, in pixels."
    )
    randaugment: int = Field(
        default=0, ge=0, le=30, description="Magnitude of RandAugment's two operations; 0 is off."
    )
    mixup: float = Field(default=0.0, ge=0, description="α of mixup; 0 is off.")
    cutmix: float = Field(default=0.0, ge=0, description="α of CutMix; 0 is off.")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Label smoothing of the cross-entropy on the classes."
    )
    train_images: int | None = Field(
        default=None, ge=2, description="Train on this many images, the same share of each class."
    )
    validation: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Hold this share of each class of the training images out, always the same ones, "
        "and judge each epoch by them; the test images are looked at once, at the end. In a folder "
        "without test images they are those.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="End the run when so many epochs in a row were no better than the best on the "
        "images of --validation, and save the best epoch's network.",
    )
    preprocessing: Literal["auto", "imagenet", "plain"] = Field(
        default="auto",
        description="How pixel values become inputs. auto: as the network's weights were trained, if "
        "that is known, or else by the mean and standard deviation of the data set, or ImageNet's for "
        "folders; plain: from 0 to 1, as they "
        "are.",
    )
    mean: Annotated[tuple[PixelValue, ...], BeforeValidator(numbers)] = Field(
        default=(),
        description="Mean of the pixel values from 0 to 1, for all channels or for each, with commas.",
    )
    std: Annotated[tuple[PositiveFloat, ...], BeforeValidator(numbers)] = Field(
        default=(), description="Standard deviation of the pixel values, likewise."
    )
    classes_by_order: bool = Field(
        default=False,
        description="Take the data's classes for the network's by their order, where the names differ.",
    )
    amp: Literal["off", "bf16", "fp16"] = Field(
        default="off", description="Compute in half precision where that is safe."
    )
    channels_last: bool = Field(
        default=True, description="Keep images and weights in torch's channels_last layout."
    )
    compile: bool = Field(default=False, description="Compile the networks with torch.compile.")
    sync_batch_norm: bool = Field(
        default=True, description="With several processes, batch norm over all their images."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of all random numbers.")
    device: str = Field(default="cpu", description="cpu, cuda, cuda:1, mps.")
    workers: int = Field(
        default=0, ge=0, description="Processes that load images, where those are not in memory."
    )
    cache_images: Literal["auto", "always", "never"] = Field(
        default="auto", description="Keep decoded images in memory. auto: where they fit well."
    )
    bad_images: Literal["stop", "skip"] = Field(
        default="stop", description="What to do with an image that cannot be read."
    )
    checkpoint_seconds: float = Field(
        default=600.0, gt=0, description="Seconds between saves of the state within an epoch."
    )
    tensorboard: bool = Field(
        default=False,
        description="Write TensorBoard events beside metrics.jsonl; short for --track tensorboard.",
    )
    track: Annotated[
        tuple[Literal["tensorboard", "mlflow", "wandb"], ...], BeforeValidator(split)
    ] = Field(
        default=(),
        description=f"Also write the run for other programs, with commas: {', '.join(TRACKERS)}. "
        "Nothing is sent anywhere unless MLFLOW_TRACKING_URI or WANDB_MODE says so.",
    )

    def idle(self) -> dict[str, str]:
        """Settings without any effect beside the others, each with the reason in words."""
        found = {}
        if self.optimizer == "adamw":
            found["momentum"] = "it is SGD's, and --optimizer is adamw"
        if self.symmetry_penalty == 0:
            found["symmetry_norm"] = "--symmetry-penalty is 0"
        if self.kd != "dkd":
            found |= dict.fromkeys(("dkd_target", "dkd_others"), f"--kd is {self.kd}, not dkd")
        if self.alpha == 0:
            of_distillation = (
                "temperature",
                "kd",
                "dkd_target",
                "dkd_others",
                "standardize_logits",
            )
            no = "--alpha is 0: there is no knowledge distillation"
            found |= dict.fromkeys(of_distillation, no)
        if self.beta == 0:
            found["taps"] = "--beta is 0: no attention is compared"
        return found

    def resolved(self, *, crop: bool, flip: bool) -> TrainingSettings:
        """Returns the settings with `crop` and `flip` decided.

        Args:
            crop: Whether to crop where the setting leaves it to the data (None).
            flip: Whether to flip where the setting leaves it to the data (None).
        """
        chosen = {
            "crop": crop if self.crop is None else self.crop,
            "flip": flip if self.flip is None else self.flip,
        }
        return self.model_copy(update=chosen)

    @property
    def trackers(self) -> tuple[str, ...]:
        """The trackers that are asked for, each once."""
        asked = {*self.track, *(("tensorboard",) if self.tensorboard else ())}
        return tuple(name for name in TRACKERS if name in asked)

    @property
    def compares_attention(self) -> bool:
        """Whether attention is transferred in a run with a teacher."""
        return self.beta > 0 and bool(self.taps)

    @property
    def decoupled(self) -> tuple[float, float] | None:
        """The weights of decoupled knowledge distillation; None for the ordinary one."""
        return (self.dkd_target, self.dkd_others) if self.kd == "dkd" else None

    @property
    def asks_teacher(self) -> bool:
        """Whether the loss needs the teacher's outputs in a run with a teacher."""
        return self.alpha > 0 or self.compares_attention

    @property
    def factor_lr_share(self) -> float:
        """The learning rate of the structured factors ÷ `lr`."""
        if self.factor_lr is not None:
            return self.factor_lr
        return 0.1 if self.optimizer == "sgd" and self.factor_optimizer == "adamw" else 1.0
