"""Plans for a budget: what can be reached, what each layer may become, and what loses least."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from seclcompress import budget as budgets
from seclcompress import substitutions
from seclcompress.budget import Budgeted, Candidate, Range, Source
from seclcompress.budget.candidates import Sensitivity
from seclcompress.budget.choice import need_solver
from seclcompress.budget.remembered import Remembered, default_fits
from seclcompress.count import Count, check_rewritten, count_network
from seclcompress.errors import PlanError, UsageError
from seclcompress.networks.weights import check_finite
from seclcompress.observer import Logging, Observer
from seclcompress.plan import Plan
from seclcompress.plan.decide import known_layers, nothing_to_do
from seclcompress.plan.entries import Layer, kept
from seclcompress.plan.given import is_plan
from seclcompress.resolve import Located
from seclcompress.rewrite import rewrite_network
from seclcompress.settings.budget import FAMILIES, WORDS, Budget, Quantity, parse_budget
from seclcompress.settings.planning import LEFT_ALONE, PlanOptions
from seclcompress.substitutions import Site, Substitution, SubstitutionConfig
from seclcompress.trace import trace_network
from seclcompress.workflows.locating import Network, find_original, tell_input_size, tell_weights
from seclcompress.workflows.output_files import check_file, write_one


def plan(
    network: Network,
    budget: Budget | str,
    output: str | Path | None = None,
    *,
    families: Sequence[str] = FAMILIES,
    options: PlanOptions | None = None,
    weights: str | None = None,
    weights_key: str | None = None,
    input_size: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    factory: str | None = None,
    download: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Budgeted:
    """Plans what becomes of each layer so that the network meets a budget and loses least.

    With trained weights (a saved folder's, or `weights`), a layer's loss is the share of their energy
    that the fitted replacement misses; without, the share of its parameters that is saved.

    Args:
        network: A network as on the command line, a saved folder, or a located network.
        budget: The budget, or as on the command line: `parameters=100k,mult-adds=50M`.
        output: A file to write the plan to, for `convert`; None for no file.
        families: The families among which is chosen; a layer may also stay as it is.
        options: Which layers are left alone: `keep`, `only`, `stem`, `linear`, `head`, `min_channels`.
        weights: A weights file, or torchvision's name of published weights.
        weights_key: Where in the file the weights stand.
        input_size: (channels, *spatial); by default the folder's, or the network's usual size.
        num_classes: The number of outputs of the classifier.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether published weights, or a repository of the Hub, may be downloaded.
        overwrite: Whether an existing plan at `output` may be replaced.
        observer: Receives what can be reached before anything is fitted, and then reports of the work.

    Raises:
        UsageError: If a family or an option is unknown, the network is converted already, or scipy is
            not installed.
        NetworkError: If the network is unknown, or cannot run at this input size.
        WeightsError: If the weights cannot be read or do not fit.
        PlanError: If no plan meets the budget (`budget.NotReachableError`), or nothing would change.
        ArtefactError: If the output is taken.
    """
    observer, options = observer or Logging(), options or PlanOptions()
    asked = parse_budget(budget) if isinstance(budget, str) else budget
    _check(asked, families, options)
    need_solver("plan --budget")
    path = None if output is None else Path(output)
    if path is not None:
        check_file(path, overwrite, replaces=is_plan)
    located = find_original(
        network,
        "Plan",
        weights=weights,
        weights_key=weights_key,
        num_classes=num_classes,
        input_size=input_size,
        factory=factory,
        download=download,
    )
    tell_input_size(located, observer)
    skeleton = located.skeleton()
    trace = trace_network(skeleton, located.input_size)
    known = known_layers(skeleton, trace, options)
    as_it_is = Plan(
        input_size=trace.input_size,
        linear=options.linear,
        layers=[kept(layer, "") for layer, _ in known],
    )
    beside = _beside(as_it_is, count_network(skeleton, trace, as_it_is))
    listed = _listed(known, families, budgets.by_dimensions)
    reachable = {
        quantity: Range(*(beside[quantity] + end for end in budgets.ends(listed, quantity)))
        for quantity in WORDS
    }
    ranges = [f"{r.least:,} to {r.most:,} {WORDS[q]}" for q, r in reachable.items()]
    observer.message(f"{located.label} can have {' and '.join(ranges)}.")
    chosen = _choose(listed, beside, asked, located.label)
    observer.message(f"The budget of {asked} can be met.")
    source: Source = "weights" if _has_weights(located) else "shapes"
    if source == "weights":
        number = sum(one.entry.action == "rewrite" for layer in listed for one in layer)
        listed = _fitted(located, known, families, number, observer)
        chosen = _choose(listed, beside, asked, located.label)
    found = as_it_is.model_copy(update={"layers": [one.entry for one in chosen]})
    if not found.rewritten:
        raise PlanError(
            f"{located.label} meets the budget as it is ({asked}): nothing is to be rewritten."
            if any(len(one) > 1 for one in listed)
            else nothing_to_do(found)
        )
    counted = count_network(skeleton, trace, found)
    check_rewritten(rewrite_network(skeleton, found), counted)
    if path is not None:
        write_one(path, found.to_json().encode())
        observer.message(f"Wrote {path}. `seclcompress convert` takes it with --plan.")
    return Budgeted(
        located.label,
        asked,
        tuple(families),
        source,
        reachable,
        found,
        counted,
        sum(one.loss for one in chosen),
        sum(map(len, listed)),
        path,
    )


def _check(budget: Budget, families: Sequence[str], options: PlanOptions) -> None:
    """Checks what was asked before a network is built."""
    if not budget.limits:
        raise UsageError("The budget is empty. Say what the network may have, as parameters=100k.")
    if not families:
        raise UsageError("--families: name at least one family.")
    for name in families:
        substitutions.configured(name, {})
    idle = [
        name
        for name in sorted(options.model_fields_set - set(LEFT_ALONE))
        if getattr(options, name) not in ({}, ())  # which the command line always names
    ]
    if idle:
        raise UsageError(
            f"A plan for a budget chooses what {', '.join(idle)} would: leave it out, and name families."
        )


def _has_weights(located: Located) -> bool:
    return located.folder is not None or located.weights is not None


def _beside(as_it_is: Plan, counted: Count) -> dict[Quantity, int]:
    """What a network has outside the layers of its plan.

    It may be negative: layers that share weights count them at each use, the network once.
    """
    whole = counted.columns["original"]
    planned = [Candidate(entry, 0.0) for entry in as_it_is.layers]
    return {
        quantity: getattr(whole, quantity) - sum(one.amount(quantity) for one in planned)
        for quantity in WORDS
    }


def _listed(
    known: Sequence[tuple[Layer, str | None]],
    families: Sequence[str],
    sensitivity: Sensitivity,
    of: str = "",
) -> list[list[Candidate]]:
    return [
        budgets.candidates(layer, families, sensitivity, of)
        if reason is None
        else [Candidate(kept(layer, reason, on_demand=True), 0.0)]
        for layer, reason in known
    ]


def _fitted(
    located: Located,
    known: Sequence[tuple[Layer, str | None]],
    families: Sequence[str],
    number: int,
    observer: Observer,
) -> list[list[Candidate]]:
    """The candidates, of that number, with the losses of their fits to the trained weights."""
    trained, loaded = located.load()
    check_finite(trained.state_dict(), located.label)
    tell_weights(loaded, observer)
    here = [
        (
            replace(layer, site=replace(layer.site, layer=trained.get_submodule(layer.site.name))),
            why,
        )
        for layer, why in known
    ]
    remembered = Remembered(budgets.by_weights, default_fits())
    with observer.counting("Fitting candidates", number) as tell:
        done = itertools.count(1)

        def fit(site: Site, family: Substitution, config: SubstitutionConfig) -> float:
            loss = remembered(site, family, config)
            tell(next(done), number)
            return loss

        found = _listed(here, families, fit, "its weights' energy")
    observer.message(
        f"Fitted {remembered.found} of {number} candidates to the weights; the others were known "
        f"({default_fits()})."
    )
    return found


def _choose(
    listed: Sequence[Sequence[Candidate]],
    beside: Mapping[Quantity, int],
    asked: Budget,
    label: str,
) -> list[Candidate]:
    """Chooses, or says in words which plan is nearest."""
    try:
        return budgets.choose(listed, asked.limits, beside)
    except budgets.NotReachableError as error:
        has = {
            quantity: beside[quantity] + sum(one.amount(quantity) for one in error.nearest)
            for quantity in WORDS
        }
        near = "; ".join(map(str, asked.held(**has)))
        raise budgets.NotReachableError(
            f"No plan for {label} meets {asked}. The nearest has {near}. Allow more, name other "
            "--families, let more layers change (--stem, --head, --linear), or start from a narrower "
            "network.",
            error.nearest,
        ) from error
