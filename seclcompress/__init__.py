"""Make a trained convolutional network ten to sixty times smaller, and say what it costs.

The way of the data, each station a module that imports only from the ones before it:

    networks -> trace -> plan -> rewrite -> train -> artefact
                           └──> count -> report

>>> import seclcompress
>>> source = seclcompress.locate("resnet18", num_classes=10, input_size=(3, 32, 32))
>>> network, _ = source.load()
>>> trace = seclcompress.trace_network(network, source.input_size)
>>> plan = seclcompress.make_plan(network, trace, seclcompress.PlanOptions(substitution="acdc"))
>>> seclcompress.count_network(network, trace, plan).columns["auto"].parameters
168330
>>> student = seclcompress.rewrite_network(network, plan)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seclcompress.artefact import ArtefactConfig as ArtefactConfig
    from seclcompress.artefact import load as load
    from seclcompress.artefact import save as save
    from seclcompress.count import count_network as count_network
    from seclcompress.plan import Plan as Plan
    from seclcompress.plan import PlanOptions as PlanOptions
    from seclcompress.plan import make_plan as make_plan
    from seclcompress.resolve import locate as locate
    from seclcompress.rewrite import rewrite_network as rewrite_network
    from seclcompress.rewrite import to_dense as to_dense
    from seclcompress.substitutions import set_execution as set_execution
    from seclcompress.trace import trace_network as trace_network

#: Where each public name lives. It is imported when it is asked for: torch takes seconds.
_PUBLIC = {
    "ArtefactConfig": "artefact",
    "load": "artefact",
    "save": "artefact",
    "count_network": "count",
    "Plan": "plan",
    "PlanOptions": "plan",
    "make_plan": "plan",
    "locate": "resolve",
    "rewrite_network": "rewrite",
    "to_dense": "rewrite",
    "set_execution": "substitutions",
    "trace_network": "trace",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
