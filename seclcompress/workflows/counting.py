"""Counts parameters and Mult-Adds before and after a rewrite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from seclcompress import conventions, witness
from seclcompress.count import Count, count_network, dense_parameters
from seclcompress.observer import Logging, Observer
from seclcompress.plan import Plan
from seclcompress.settings import Convention, PlanOptions
from seclcompress.workflows.hints import tell_hints
from seclcompress.workflows.locating import Network
from seclcompress.workflows.narrowed import tell_narrowed
from seclcompress.workflows.planning import Planned, plan_network


@dataclass(frozen=True)
class Counted:
    """A network's figures.

    Attributes:
        planned: The network and its plan.
        count: Totals and rows.
        dense_parameters: Parameters of the rewritten network multiplied out, as a dense export has them.
        accuracies: Accuracies in percent by column, if a training run has measured them.
        verified: Mult-Adds by column, as counted by fvcore; empty unless `verify` was asked for.
    """

    planned: Planned
    count: Count
    dense_parameters: int
    accuracies: Mapping[str, float] = field(default_factory=dict)
    verified: Mapping[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The network, as the user named it."""
        return self.planned.located.label

    @property
    def plan(self) -> Plan:
        """The plan, which says what becomes of each layer."""
        return self.planned.plan


def count(
    network: Network,
    *,
    options: PlanOptions | None = None,
    plan: Plan | str | Path | None = None,
    input_size: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    factory: str | None = None,
    download: bool = False,
    verify: bool = False,
    convention: Convention = "macs",
    observer: Observer | None = None,
) -> Counted:
    """Counts a network before and after a rewrite. Data and weights are not needed.

    For a converted folder, the figures are those of its own plan. With options, or for any other
    network, they are those of a new plan and say what a conversion would save.

    Args:
        network: A network as on the command line, a saved folder, or a located network.
        options: The planning options.
        plan: A plan to take the decisions from, or its file.
        input_size: (channels, *spatial); by default the folder's, or the network's usual size.
        num_classes: The number of outputs of the classifier.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether a repository of the Hub may be downloaded.
        verify: Whether to also build the networks and count them with fvcore.
        convention: What counts as a Mult-Add: `macs` for multiply-adds alone, `log` for the convention
            of the SECL authors' research log (`conventions`).
        observer: Receives reports of what is measured, if executions are chosen by timing.

    Raises:
        UsageError: If both options and a plan are given, or an option is unknown or out of range,
            or fvcore is needed and not installed.
        NetworkError: If the network is unknown or cannot run at this input size, or fvcore's figures
            differ.
        ArtefactError: If the folder cannot be read.
        PlanError: If the plan is for another network, or a pattern matches no layer.
    """
    if verify:
        witness.need_fvcore()
    planned = plan_network(
        network,
        options=options,
        plan=plan,
        input_size=input_size,
        num_classes=num_classes,
        factory=factory,
        download=download,
        may_be_empty=True,
        observer=observer,
    )
    counted = count_network(planned.skeleton, planned.trace, planned.plan)
    tell_narrowed(planned.located, observer or Logging())
    tell_hints(planned.skeleton, planned.trace, planned.plan, counted, observer or Logging())
    verified: dict[str, int] = {}
    if verify:
        original, _ = replace(planned.located, weights=None, folder=None).load()
        verified = witness.verify(original, planned.plan, counted)
    if convention == "log":
        counted = conventions.by_the_log(planned.skeleton, planned.trace, planned.plan, counted)
    dense = dense_parameters(planned.skeleton, planned.plan)
    return Counted(planned, counted, dense, _accuracies(planned), verified)


def _accuracies(planned: Planned) -> dict[str, float]:
    config = planned.located.config
    if not planned.saved or config is None:
        return {}
    known = {"original": "teacher_accuracy", "auto": "accuracy"}
    if (
        config.training and not config.distilled
    ):  # the original's was measured on other images, maybe
        del known["original"]
    return {
        column: config.metrics[name] for column, name in known.items() if name in config.metrics
    }
