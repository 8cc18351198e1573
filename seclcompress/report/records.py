"""What commands print with `--json`: one record a command, with its version and its JSON Schema.

A record of the same version may get new fields; a field is never renamed, dropped or given another
meaning without a new version. Seconds, bytes, Mult-Adds and percent are as in the classes named here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from seclcompress.bench import Measured
from seclcompress.budget import ImageTime, Point, Range, Source, Uniform
from seclcompress.count import Row, Totals
from seclcompress.export.content import Content
from seclcompress.export.verify import Verified
from seclcompress.plan import Plan
from seclcompress.recover.result import LayerRecovery
from seclcompress.report.classes import ClassAccuracy
from seclcompress.report.searching import Contender
from seclcompress.report.tuning import Trial
from seclcompress.settings import Convention
from seclcompress.settings.budget import Budget, Quantity
from seclcompress.settings.planning import CostModel, Objective
from seclcompress.settings.slimming import SlimOptions
from seclcompress.slim import Figures, Width
from seclcompress.substitutions.fitting import Fit
from seclcompress.timing import Timing


class Record(BaseModel):
    """What every record has.

    Attributes:
        schema_version: The version of this format.
    """

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)

    schema_version: Literal[1] = 1

    def to_json(self) -> str:
        """The record as JSON; numbers that are not finite become null."""
        return self.model_dump_json(indent=2)

    def to_line(self) -> str:
        """The record as one line of JSON."""
        return self.model_dump_json()


class CountRecord(Record):
    """`count`: the figures of `count.Count`, and bytes when exported by way of writing and column."""

    command: Literal["count"] = "count"
    network: str
    cost_model: CostModel
    runtime: str | None
    objective: Objective
    input_size: tuple[int, ...]
    columns: dict[str, Totals]
    rows: list[Row]
    uncounted: dict[str, int]
    unknown: dict[str, int]
    assumed: dict[str, int]
    convention: Convention
    accuracies: dict[str, float]
    exported_bytes: dict[str, dict[str, int]] | None = None


class ConvertRecord(Record):
    """`convert`: the plan, the totals by column, and the folder; None if it was only planned."""

    command: Literal["convert"] = "convert"
    network: str
    output_dir: str | None
    columns: dict[str, Totals]
    plan: Plan
    untrained: list[str]
    fits: dict[str, Fit | None]


class PlanRecord(Record):
    """`plan`: the fields of `budget.Budgeted`; a loss is the mean over layers that may change."""

    command: Literal["plan"] = "plan"
    network: str
    budget: Budget
    families: list[str]
    source: Source
    reachable: dict[Quantity, Range]
    candidates: int
    loss: float
    layers: int
    uniform: Uniform | None
    columns: dict[str, Totals]
    plan: Plan
    output: str | None
    data: str | None
    images: int | None
    time: ImageTime | None


class CurveRecord(Record):
    """`plan --pareto`: the fields of `budget.Curve`; a loss is the mean over layers that may change."""

    command: Literal["plan"] = "plan"
    network: str
    quantity: Quantity
    families: list[str]
    source: Source
    layers: int
    points: list[Point]
    output: str | None
    data: str | None
    images: int | None
    runtime: str | None


class SlimRecord(Record):
    """`slim`: the fields of `slim.Slimmed`; the folder is None if the choice was only shown."""

    command: Literal["slim"] = "slim"
    network: str
    output_dir: str | None
    budget: Budget | None
    options: SlimOptions
    before: Figures
    after: Figures
    smallest: Figures
    groups: list[Width]
    fixed: dict[str, str]
    accuracy_before: float | None
    accuracy_after: float | None
    rewritten: Figures | None
    epochs: list[dict[str, Any]] = []


class TrainingRecord(Record):
    """`train` and `distill`: accuracies, each epoch, images that were left out, all settings."""

    command: Literal["train", "distill"]
    output_dir: str
    before: dict[str, float]
    epochs: list[dict[str, Any]]
    metrics: dict[str, Any]
    left_out: list[str]
    settings: dict[str, Any]


class RecoverRecord(Record):
    """`recover`: the relative error of each layer before and after, and accuracies in percent."""

    command: Literal["recover"] = "recover"
    output_dir: str
    pictures: int
    layers: list[LayerRecovery]
    left_out: dict[str, str]
    metrics: dict[str, float]


class SearchRecord(Record):
    """`search`: all students size by size with their rounds, and the one that was chosen."""

    command: Literal["search"] = "search"
    output_dir: str
    network: str
    parameters: int
    teacher_accuracy: float
    best: Contender
    contenders: list[Contender]


class EvaluateRecord(Record):
    """`evaluate`: the figures of `train.Evaluation`; `classes` with `--by-class`, or else null."""

    command: Literal["evaluate"] = "evaluate"
    network: str
    data: str
    accuracy: float
    top5_accuracy: float | None
    loss: float
    images: int
    classes: list[ClassAccuracy] | None = None


class Accuracy(BaseModel):
    """The accuracy in percent and the mean cross-entropy on so many images."""

    model_config = ConfigDict(from_attributes=True)

    accuracy: float
    top5_accuracy: float | None
    loss: float
    images: int


class ExportRecord(Record):
    """`export`: the file, its sizes in bytes, and what was found when it was run."""

    command: Literal["export"] = "export"
    file: str
    format: str
    files: dict[str, int]
    bytes: int
    parameters: int
    content: Content
    verified: Verified
    before: Accuracy | None
    after: Accuracy | None
    notes: list[str]


class BenchRecord(Record):
    """`bench`: seconds a batch and bytes by variant, and the layers' executions by memory layout."""

    command: Literal["bench"] = "bench"
    network: str
    machine: str
    variants: dict[str, Measured]
    executions: dict[str, dict[str, str]]


class RuntimesRecord(Record):
    """`bench --runtime`: seconds a batch by runtime and column."""

    command: Literal["bench"] = "bench"
    network: str
    machine: str
    versions: dict[str, str]
    runtimes: dict[str, dict[str, Timing]]


class BenchFileRecord(Record):
    """`bench FILE`: seconds a batch, the median and the interquartile range."""

    command: Literal["bench"] = "bench"
    file: str
    machine: str
    batch_size: int
    median: float
    spread: float


class TuneRecord(Record):
    """`tune`: the trials, the number of the best one, and how much each setting explains."""

    command: Literal["tune"] = "tune"
    output_dir: str
    recipe: str | None
    best: int | None
    trials: list[Trial]
    importance: dict[str, float]


class ReportRecord(Record):
    """`report`: the page, and each folder's sentence."""

    command: Literal["report"] = "report"
    output: str
    headlines: dict[str, str]


class UploadRecord(Record):
    """`upload`: the files with their sizes in bytes, and the commit; null where nothing was sent."""

    command: Literal["upload"] = "upload"
    folder: str
    repository: str
    files: dict[str, int]
    url: str | None
    commit: str | None
    created: bool


class SurveyRecord(Record):
    """`survey`: one network; the command prints a line of JSON for each."""

    command: Literal["survey"] = "survey"
    network: str
    input_size: tuple[int, ...] | None
    rewritten: int
    kept: dict[str, int]
    slower: dict[str, int]
    columns: dict[str, Totals] | None
    unknown: dict[str, int]
    refused: str | None
    expected: bool
    seconds: float


class NetworksRecord(Record):
    """`networks`: the names."""

    command: Literal["networks"] = "networks"
    networks: list[str]


class FamilyOption(BaseModel):
    """An option of a family."""

    name: str
    values: list[str]
    default: Any
    about: str | None


class Family(BaseModel):
    """A family of structured layers."""

    name: str
    summary: str
    options: list[FamilyOption]


class SubstitutionsRecord(Record):
    """`substitutions`: the families with their options."""

    command: Literal["substitutions"] = "substitutions"
    substitutions: list[Family]


class Recipe(BaseModel):
    """A recipe: settings of training by name."""

    name: str
    about: str
    settings: dict[str, Any]


class RecipesRecord(Record):
    """`recipes`: the recipes that are built in."""

    command: Literal["recipes"] = "recipes"
    recipes: list[Recipe]
