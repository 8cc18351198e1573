"""Converts a network: plan, check, rewrite, save."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import nn

from seclcompress import artefact, kernel
from seclcompress.count import Count, check_rewritten, count_network
from seclcompress.errors import UsageError
from seclcompress.files import check_free
from seclcompress.networks.weights import Loaded, check_finite
from seclcompress.observer import Logging, Observer, after_checks
from seclcompress.plan import Plan
from seclcompress.plan.given import is_plan
from seclcompress.resolve import Located, is_weights_file
from seclcompress.rewrite import rewrite_network
from seclcompress.settings.planning import PlanOptions
from seclcompress.substitutions import Fit
from seclcompress.workflows.cards import card_of_conversion
from seclcompress.workflows.frozen import tell_frozen
from seclcompress.workflows.hints import tell_hints
from seclcompress.workflows.locating import Network, find_original, name_factory, tell_weights
from seclcompress.workflows.output_files import check_file, check_no_input, write_one
from seclcompress.workflows.planning import plan_network


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Attributes:
        plan: The plan, which says what becomes of each layer.
        count: The figures before and after.
        output_dir: The folder that was written; None if the conversion was only planned.
        untrained: Names of parameters for which the given weights have no values.
        fits: With `start="original"`, how well each new layer was fitted to the original's weights. None
            for a layer whose family cannot be fitted.
    """

    plan: Plan
    count: Count
    output_dir: Path | None = None
    untrained: tuple[str, ...] = ()
    fits: Mapping[str, Fit | None] = field(default_factory=dict)


def convert(
    network: Network,
    output_dir: str | Path | None = None,
    *,
    options: PlanOptions | None = None,
    plan: Plan | str | Path | None = None,
    weights: str | None = None,
    weights_key: str | None = None,
    input_size: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    factory: str | None = None,
    download: bool = False,
    seed: int = 0,
    start: Literal["random", "original"] = "random",
    write_plan: str | Path | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Converted:
    """Rewrites a network and saves it. New layers are untrained; kept layers keep their weights.

    Args:
        network: A network as on the command line, a saved folder, or a located network.
        output_dir: The folder to write; None to only plan.
        options: The planning options.
        plan: A plan to take the decisions from, or its file.
        weights: A weights file, or torchvision's name of published weights.
        weights_key: Where in the file the weights stand, such as `model_ema`; None to look for them.
        input_size: (channels, *spatial); by default the folder's, or the network's usual size.
        num_classes: The number of outputs of the classifier.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether published weights, or a repository of the Hub, may be downloaded.
        seed: The seed of all random numbers.
        start: The new layers' initial values: random, or fitted to the original's weights.
        write_plan: A file to write the plan to, as JSON; None for no file.
        overwrite: Whether an existing output folder that this program wrote, and an existing file
            `write_plan`, may be replaced.
        observer: Receives the decisions before anything is written, and then reports of the work.

    Raises:
        UsageError: If the network is already converted, both options and a plan are given, or an option
            is unknown or out of range.
        NetworkError: If the network is unknown or cannot run at this input size.
        WeightsError: If the weights cannot be read, do not fit, or are not finite.
        PlanError: If the plan is for another network, a pattern matches no layer, nothing would change,
            or the rewritten network does not have the planned parameters and Mult-Adds.
        ArtefactError: If an output path is taken or cannot be written.
    """
    observer = observer or Logging()
    if start not in ("random", "original"):
        raise UsageError(f"start is 'random' or 'original', not {start!r}.")
    output_dir = None if output_dir is None else Path(output_dir)
    write_plan = None if write_plan is None else Path(write_plan)
    if output_dir is not None:
        check_no_input(output_dir, network)
        check_free(output_dir, overwrite)
    if write_plan is not None:
        check_file(write_plan, overwrite, replaces=is_plan)
    with after_checks(observer) as checked:
        located = find_original(
            network,
            "Convert",
            weights=weights,
            weights_key=weights_key,
            num_classes=num_classes,
            input_size=input_size,
            factory=factory,
            download=download,
        )
        planned = plan_network(located, options=options, plan=plan, observer=checked)
        counted = count_network(planned.skeleton, planned.trace, planned.plan)
        tell_hints(planned.skeleton, planned.trace, planned.plan, counted, checked)
        check_rewritten(rewrite_network(planned.skeleton, planned.plan, seed=seed), counted)
        built, loaded = _load(located, seed, checked, write=output_dir is not None)
    observer.decided(located.label, planned.plan, counted)
    _tell_without_kernel(planned.plan, observer)
    done = Converted(planned.plan, counted)
    if output_dir is not None and built is not None:
        fits = _rewrite(built, planned.plan, seed, start, observer)
        tell_frozen(built, observer)
        config = config_of(located, planned.plan, seed)
        about = card_of_conversion(
            located, config, planned.plan, counted, fitted=start == "original"
        )
        artefact.save(output_dir, built, config, extra=about, overwrite=overwrite)
        observer.message(
            f"Wrote {output_dir}. Its new layers are untrained: distill it next."
            + name_factory(located)
        )
        done = Converted(planned.plan, counted, output_dir, loaded.untrained, fits)
    if write_plan is not None:
        write_one(write_plan, planned.plan.to_json().encode())
        observer.message(f"Wrote the plan to {write_plan}.")
    return done


def _load(
    located: Located, seed: int, observer: Observer, *, write: bool
) -> tuple[nn.Module | None, Loaded]:
    """Loads the network and its weights before a plan is shown, so that misfits are said first.

    A plan alone needs no weights; a file that was named is looked at all the same.
    """
    named = located.weights is not None and is_weights_file(located.weights)
    if not write and not named:
        return None, Loaded()
    built, loaded = located.load(seed=seed)
    check_finite(built.state_dict(), located.label)
    tell_weights(loaded, observer)
    return built, loaded


def _tell_without_kernel(plan: Plan, observer: Observer) -> None:
    """Reports a missing kernel if the plan has fast layers, which are slower without it."""
    if not kernel.available() and any(layer.execution == "fast" for layer in plan.rewritten):
        observer.message(
            "The fused kernel is not there (no C++ compiler when seclcompress was installed): fast "
            "layers run by torch.fft, which computes the same, slower."
        )


def _rewrite(
    network: nn.Module, plan: Plan, seed: int, start: str, observer: Observer
) -> dict[str, Fit | None]:
    """Rewrites a network in place; returns the fits by layer (see `Converted.fits`)."""
    fits: dict[str, Fit | None] = {}
    if start == "random":
        rewrite_network(network, plan, seed=seed)
        return fits
    layers = len(plan.rewritten)
    with observer.counting("Fitting", layers) as told:

        def on_fit(layer: str, fit: Fit | None) -> None:
            fits[layer] = fit
            told(len(fits), layers)
            words = "starts at random, as its family cannot take over weights"
            if fit is not None:
                words = f"{100 * fit.energy:.1f} % of {fit.of}' energy taken over"
            observer.message(f"{layer}: {words}")

        rewrite_network(network, plan, seed=seed, on_fit=on_fit)
    return fits


def config_of(located: Located, plan: Plan | None, seed: int) -> artefact.ArtefactConfig:
    """The configuration of the folder of a network that was converted, or else made smaller."""
    before = located.config
    metrics = before.metrics if before else {}
    return artefact.ArtefactConfig(
        network=located.network,
        plan=plan,
        input_size=located.input_size,
        seed=seed,
        classes=before.classes if before else None,
        preprocessing=located.preprocessing,
        # The accuracy of the new network is unknown; the original's becomes its teacher's.
        metrics={"teacher_accuracy": metrics["accuracy"]} if "accuracy" in metrics else {},
    )
