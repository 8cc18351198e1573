"""`seclcompress train`."""

from __future__ import annotations

from typing import Any

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.settings import DISTILLATION, make_settings, with_settings


@with_settings(leave_out=DISTILLATION)
def train(
    given: dict[str, Any],
    network: o.NetworkArgument,
    data: t.DataOption,
    output_dir: t.OutputDirOption,
    recipe: t.RecipeOption = None,
    weights: o.WeightsOption = None,
    num_classes: o.NumClassesOption = None,
    input_size: o.InputSizeOption = None,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    resume: t.ResumeOption = False,
    overwrite: o.OverwriteOption = False,
    time_limit: t.TimeLimitOption = None,
) -> None:
    """Train a network without a teacher: to get a teacher, or to compare with distillation.

    The number of classes and the input size come from the data unless they are given.
    """
    size = o.parse_input_size(input_size)
    settings = make_settings(recipe, given)
    t.check_output(output_dir, resume=resume, overwrite=overwrite)
    from seclcompress import processes
    from seclcompress.artefact import ArtefactConfig
    from seclcompress.data import check_classes, usual_input_size
    from seclcompress.networks import check_image_classification
    from seclcompress.resolve import is_name, locate
    from seclcompress.trace import trace_network

    with processes.join(settings.device) as group:
        t.check_device(group.device)
        named = is_name(network)
        if size is None and weights is None and (named or ":" in network):
            size = usual_input_size(data)
        source = locate(
            network,
            weights=weights,
            num_classes=num_classes,
            input_size=size,
            factory_name=factory,
            download=download,
        )
        check_image_classification(source.network, "train")
        images = t.open_data(
            data,
            source.input_size,
            source.preprocessing,
            settings,
            data_dir=data_dir,
            download=download,
        )
        if named and num_classes is None:
            source = locate(
                network,
                weights=weights,
                num_classes=len(images.classes),
                input_size=source.input_size,
                download=download,
            )
        built, untrained = source.load(seed=settings.seed)
        check_classes(images, trace_network(built, source.input_size).outputs, network)
        if group.first:
            o.say_untrained(untrained)
        config = ArtefactConfig(
            network=source.network,
            plan=source.config.plan if source.config else None,
            input_size=source.input_size,
            seed=settings.seed,
            metrics=_kept(source.config.metrics) if source.config else {},
        )
        last = t.run(
            built,
            images,
            settings,
            output_dir,
            config,
            processes=group,
            teacher=None,
            original=t.original_parameters(built, source.config),
            new_layers=False,
            recipe=recipe,
            resume=resume,
            overwrite=overwrite,
            time_limit=time_limit,
        )
    t.say(f"Wrote {output_dir}: {last['accuracy']:.2f} % of the test images right.")


def _kept(metrics: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if key == "teacher_accuracy"}
