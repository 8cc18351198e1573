"""What a person should know of a plan's figures before the work that it means."""

from __future__ import annotations

from torch import nn

from seclcompress.count import Count
from seclcompress.observer import Observer
from seclcompress.plan import Plan
from seclcompress.trace import Trace

#: The share of what stays from which Linear layers are worth a word.
_MOST = 0.5


def tell_hints(
    skeleton: nn.Module, trace: Trace, plan: Plan, counted: Count, observer: Observer
) -> None:
    """Reports a plan that saves no Mult-Adds, or leaves most parameters in Linear layers.

    Args:
        skeleton: The original network.
        trace: Its trace.
        plan: Its plan.
        counted: The plan's figures.
        observer: Receives at most two lines.
    """
    before, after = counted.columns["original"], counted.columns["auto"]
    if not plan.rewritten:
        return
    if after.mult_adds >= before.mult_adds:
        observer.message(
            f"This plan saves parameters, but no Mult-Adds: {after.mult_adds:,} instead of "
            f"{before.mult_adds:,}."
        )
    if plan.linear:
        return
    linears = {
        id(parameter): parameter.numel()
        for name, module in skeleton.named_modules()
        if isinstance(module, nn.Linear) and name not in trace.makers
        for parameter in module.parameters(recurse=False)
    }
    kept = sum(linears.values())
    if kept > _MOST * after.parameters:
        observer.message(
            f"{kept:,} of the {after.parameters:,} parameters that stay are in Linear layers; --linear "
            "rewrites those too."
        )
