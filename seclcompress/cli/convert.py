"""`seclcompress convert`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seclcompress.cli import options as o
from seclcompress.cli import planning
from seclcompress.cli.console import err_console
from seclcompress.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from seclcompress.plan import Plan
    from seclcompress.substitutions import Fit


class Start(str, Enum):
    """`--start`."""

    random = "random"
    original = "original"


def convert(
    context: typer.Context,
    network: o.NetworkArgument,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="The folder to write.")
    ] = None,
    weights: o.WeightsOption = None,
    input_size: o.InputSizeOption = None,
    num_classes: o.NumClassesOption = None,
    substitution: o.SubstitutionOption = "acdc",
    depth: o.DepthOption = None,
    option: o.OptionOption = None,
    keep: o.KeepOption = None,
    only: o.OnlyOption = None,
    stem: o.StemOption = False,
    linear: o.LinearOption = False,
    head: o.HeadOption = False,
    min_channels: o.MinChannelsOption = 1,
    cost_model: o.CostModelOption = o.CostModel.paper,
    channels_last: o.ChannelsLastOption = False,
    plan: o.PlanOption = None,
    write_plan: Annotated[
        Path | None, typer.Option("--write-plan", metavar="FILE", help="Write the plan as JSON.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan and report; write no network.")
    ] = False,
    seed: o.SeedOption = 0,
    start: Annotated[
        Start,
        typer.Option(
            "--start",
            help="The new layers' first values: random, or fitted to the original's weights (slow for "
            "wide layers).",
        ),
    ] = Start.random,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    overwrite: o.OverwriteOption = False,
) -> None:
    """Rewrite a network's convolutions: plan, say why, save. The new layers are untrained.

    Everything that is kept keeps its weights; `seclcompress distill` trains the rest.
    """
    if output_dir is None and not dry_run:
        raise UsageError(
            "Where to? Give a folder with --output-dir/-o, or only plan with --dry-run."
        )
    planning.check_plan_alone(context, plan)
    size = o.parse_input_size(input_size)
    wanted = planning.plan_options(
        substitution,
        depth,
        option,
        keep,
        only,
        stem,
        linear,
        head,
        min_channels,
        cost_model,
        channels_last,
    )
    from rich.console import Console

    from seclcompress import artefact
    from seclcompress.count import check_rewritten, count_network
    from seclcompress.files import check_free, write_file
    from seclcompress.networks.weights import check_finite
    from seclcompress.report import counts
    from seclcompress.resolve import locate
    from seclcompress.rewrite import rewrite_network

    if output_dir is not None and not dry_run:
        check_free(output_dir, overwrite)
    if write_plan is not None:
        check_free(write_plan, overwrite, folder=False)
    source = locate(
        network,
        weights=weights,
        num_classes=num_classes,
        input_size=size,
        factory_name=factory,
        download=download,
    )
    if source.config is not None and source.config.plan is not None:
        raise UsageError(f"{network} is converted already. Convert the network it was made from.")
    skeleton, traced, decided = planning.planned(source, wanted, plan, channels_last=channels_last)
    counted = count_network(skeleton, traced, decided)
    check_rewritten(rewrite_network(skeleton, decided, seed=seed), counted)
    console = Console(highlight=False, emoji=False)
    console.print(counts.layers_table(counted, console.width))
    console.print()
    console.print(counts.count_table(network, counted, decided, {}, console.width))
    planning.say_without_kernel(decided)
    if not dry_run:
        assert output_dir is not None
        built, untrained = source.load(seed=seed)
        check_finite(built.state_dict(), network)
        o.say_untrained(untrained)
        _rewrite(built, decided, seed, start)
        config = artefact.ArtefactConfig(
            network=source.network,
            plan=decided,
            input_size=source.input_size,
            seed=seed,
            classes=source.config.classes if source.config else None,
            preprocessing=source.preprocessing,
            metrics=_teacher_metrics(source.config.metrics if source.config else {}),
        )
        artefact.save(output_dir, built, config, overwrite=overwrite)
        err_console.print(f"Wrote {output_dir}. Its new layers are untrained: distill it next.")
    if write_plan is not None:
        write_file(write_plan, decided.to_json().encode())
        err_console.print(f"Wrote the plan to {write_plan}.")


def _rewrite(network: nn.Module, plan: Plan, seed: int, start: Start) -> None:
    """Rewrites, with the new layers fitted to the old ones if that was asked for."""
    from seclcompress.rewrite import rewrite_network

    if start is Start.random:
        rewrite_network(network, plan, seed=seed)
        return
    with err_console.status("Fitting …") as status:

        def told(layer: str, fit: Fit | None) -> None:
            status.update(f"Fitting {layer}")
            words = "starts at random: its family cannot take over weights"
            if fit is not None:
                words = f"{100 * fit.energy:.1f} % of {fit.of}' energy taken over"
            err_console.print(f"{layer}: {words}")

        rewrite_network(network, plan, seed=seed, on_fit=told)


def _teacher_metrics(metrics: dict[str, float]) -> dict[str, float]:
    """A converted network's own accuracy is unknown; its teacher's is what it came from."""
    return {"teacher_accuracy": metrics["accuracy"]} if "accuracy" in metrics else {}
