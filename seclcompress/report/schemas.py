"""Which records a command prints with `--json`, and their JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from seclcompress.report.learning_rates import RateRecord
from seclcompress.report.records import (
    BenchFileRecord,
    BenchRecord,
    ConvertRecord,
    CountRecord,
    CurveRecord,
    EvaluateRecord,
    ExportRecord,
    NetworksRecord,
    PlanRecord,
    RecipesRecord,
    Record,
    RecoverRecord,
    ReportRecord,
    RuntimesRecord,
    SearchRecord,
    SlimRecord,
    SubstitutionsRecord,
    SurveyRecord,
    TrainingRecord,
    TuneRecord,
    UploadRecord,
)
from seclcompress.report.widths import WidthsRecord

#: The kinds of record that a command prints.
RECORDS: Mapping[str, tuple[type[Record], ...]] = {
    "count": (CountRecord,),
    "plan": (PlanRecord, CurveRecord),
    "slim": (SlimRecord,),
    "convert": (ConvertRecord,),
    "train": (TrainingRecord, RateRecord),
    "distill": (TrainingRecord, RateRecord),
    "tune": (TuneRecord,),
    "recover": (RecoverRecord,),
    "search": (SearchRecord,),
    "evaluate": (EvaluateRecord,),
    "export": (ExportRecord,),
    "bench": (BenchRecord, RuntimesRecord, BenchFileRecord),
    "report": (ReportRecord,),
    "survey": (SurveyRecord,),
    "widths": (WidthsRecord,),
    "upload": (UploadRecord,),
    "networks": (NetworksRecord,),
    "substitutions": (SubstitutionsRecord,),
    "recipes": (RecipesRecord,),
}


def json_schema(command: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what a command prints with `--json`.

    Args:
        command: One of `RECORDS`.
    """
    kinds: Any = RECORDS[command][0]
    for more in RECORDS[command][1:]:
        kinds = kinds | more
    schema = TypeAdapter(kinds).json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
