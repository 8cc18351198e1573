"""The options of a plan: one model for the command line and for Python callers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from seclcompress.errors import UsageError

CostModel = Literal["paper", "measured"]
#: What a plan is for: fewer parameters, everywhere or only where that takes no more time.
Objective = Literal["parameters", "time"]
#: The runtime whose clock is used where none is named.
TORCH = "torch"
#: What counts as a Mult-Add: multiply-adds alone, or as in the SECL authors' research log.
Convention = Literal["macs", "log"]


#: The fields of `PlanOptions` that say which layers are left alone; the others say what
#: becomes of the rest.
LEFT_ALONE = ("keep", "only", "stem", "linear", "head", "min_channels")


class Assignment(BaseModel):
    """Layers that are rewritten as a different family than the rest.

    Attributes:
        pattern: A pattern of layer names, as in `--keep`.
        substitution: The name of the family to rewrite these layers as.
        config: Options of that family by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str
    substitution: str
    config: dict[str, Any] = {}


class PlanOptions(BaseModel):
    """The options of a plan. Every field except `config` is a command-line option of the same name.

    On the command line `config` is `--option`. `--help` shows the descriptions of the fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    substitution: str = Field(
        default="acdc", description="The family to rewrite as; see `seclcompress substitutions`."
    )
    config: dict[str, Any] = Field(
        default={}, description="An option of the substitution, as init=paper."
    )
    assign: tuple[Assignment, ...] = Field(
        default=(),
        description="Rewrite these layers as another family: layer4=separable, or with its options "
        "'layer4=acdc:depth=4'. The first pattern that matches counts. "
        "A layer's exact name counts even for the stem and the classifier.",
    )
    keep: tuple[str, ...] = Field(
        default=(), description="Leave these layers alone, as layer4 or '*.downsample.*'."
    )
    only: tuple[str, ...] = Field(default=(), description="Rewrite nothing but these layers.")
    stem: bool = Field(
        default=False, description="Rewrite the first convolution too; it costs accuracy."
    )
    linear: bool = Field(default=False, description="Rewrite Linear layers too.")
    head: bool = Field(
        default=False,
        description="Rewrite the classifier too: the layers that make the outputs (a Linear only with "
        "--linear).",
    )
    min_channels: int = Field(
        default=1, ge=1, description="Keep layers with fewer channels in or out."
    )
    cost_model: CostModel = Field(
        default="paper",
        description="What chooses between a layer's executions: Mult-Adds, or the clock.",
    )
    channels_last: bool = Field(
        default=False,
        description="With --cost-model measured: in torch's channels_last layout.",
    )
    runtime: str | None = Field(
        default=None,
        description="With --cost-model measured: by the clock of this runtime, as onnxruntime or "
        "openvino, each layer beside its replacement.  [default: torch]",
    )
    objective: Objective = Field(
        default="parameters",
        description="With --cost-model measured: time keeps every layer that its rewrite would make "
        "slower; parameters rewrites it, and the plan says so.",
    )

    whole_network: bool = Field(
        default=True,
        description="By the clock of a --runtime, or for --objective time: time the whole network as "
        "well, and undo what makes it slower. That takes minutes for a large one.",
    )

    @property
    def times_originals(self) -> bool:
        """Whether a layer as it is is timed beside its replacement."""
        return self.runtime is not None or self.objective == "time"


def check_options(options: PlanOptions) -> None:
    """Checks that options make sense together.

    Raises:
        UsageError: If an option has no meaning without another one, or beside it.
    """
    by_the_clock = {
        "--channels-last": options.channels_last,
        "--runtime": options.runtime is not None,
        "--objective time": options.objective == "time",
    }
    for flag, given in by_the_clock.items():
        if given and options.cost_model != "measured":
            raise UsageError(f"{flag} is about what is measured: add --cost-model measured.")
    if not options.whole_network and not options.times_originals:
        raise UsageError(
            "--no-whole-network leaves out what only plans by the clock of a runtime or for --objective "
            "time do: drop it, or plan so."
        )
    if options.channels_last and options.runtime not in (None, TORCH):
        raise UsageError(
            f"--channels-last is a layout of torch's, and --runtime {options.runtime} chooses its own: "
            "leave one of the two out."
        )


def check_plan_alone(given: Sequence[str]) -> None:
    """Checks that no planning option is given together with a plan, which has decided them all.

    Args:
        given: The planning options that were given, as the user spelled them.

    Raises:
        UsageError: If any option was given.
    """
    if given:
        raise UsageError(
            f"--plan has decided already what {', '.join(given)} would. Edit the plan."
        )
