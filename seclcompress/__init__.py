"""Make a trained convolutional network ten to sixty times smaller, and say what it costs.

Data flow through these modules; each imports only from the ones before it:

    networks -> trace -> plan -> rewrite -> train -> artefact
                           └──> count -> report

`workflows` has one function for each task of a user:

>>> import seclcompress
>>> options = seclcompress.PlanOptions(substitution="acdc", config={"depth": 12})
>>> small = {"num_classes": 10, "input_size": (3, 32, 32)}
>>> counted = seclcompress.workflows.count("resnet18", options=options, **small)
>>> counted.count.columns["auto"].parameters
168330
>>> converted = seclcompress.workflows.convert("resnet18", options=options, **small)  # plans only
>>> converted.plan == counted.plan
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seclcompress import lazy

if TYPE_CHECKING:
    from seclcompress import workflows as workflows
    from seclcompress.artefact import ArtefactConfig as ArtefactConfig
    from seclcompress.artefact import load as load
    from seclcompress.artefact import save as save
    from seclcompress.count import count_network as count_network
    from seclcompress.errors import SeclcompressError as SeclcompressError
    from seclcompress.kernel.library import onnxruntime_library as onnxruntime_library
    from seclcompress.observer import Observer as Observer
    from seclcompress.plan import Plan as Plan
    from seclcompress.plan import make_plan as make_plan
    from seclcompress.resolve import locate as locate
    from seclcompress.rewrite import rewrite_network as rewrite_network
    from seclcompress.rewrite import to_dense as to_dense
    from seclcompress.rewrite import to_plain as to_plain
    from seclcompress.settings import Assignment as Assignment
    from seclcompress.settings import PlanOptions as PlanOptions
    from seclcompress.settings import TrainingSettings as TrainingSettings
    from seclcompress.substitutions import set_execution as set_execution
    from seclcompress.trace import trace_network as trace_network

#: The version, from which pyproject.toml takes the package's.
__version__ = "0.2.0"

#: The module of each public name. It is imported on first use, because importing torch takes seconds.
_PUBLIC = {
    "ArtefactConfig": "artefact",
    "load": "artefact",
    "save": "artefact",
    "count_network": "count",
    "SeclcompressError": "errors",
    "onnxruntime_library": "kernel.library",
    "Observer": "observer",
    "Plan": "plan",
    "make_plan": "plan",
    "locate": "resolve",
    "rewrite_network": "rewrite",
    "to_dense": "rewrite",
    "to_plain": "rewrite",
    "Assignment": "settings",
    "PlanOptions": "settings",
    "TrainingSettings": "settings",
    "set_execution": "substitutions",
    "trace_network": "trace",
    "workflows": "workflows",
}

__all__ = sorted(_PUBLIC)


__getattr__ = lazy.attributes(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return __all__
