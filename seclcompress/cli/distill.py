"""`seclcompress distill`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.settings import make_settings, with_settings


@with_settings()
def distill(
    given: dict[str, Any],
    student: Annotated[
        str, typer.Argument(metavar="STUDENT", help="A folder that `convert` wrote.")
    ],
    teacher: Annotated[
        str, typer.Option("--teacher", help="The network to learn from: a name or a folder.")
    ],
    data: t.DataOption,
    output_dir: t.OutputDirOption,
    teacher_weights: Annotated[
        str | None,
        typer.Option("--teacher-weights", metavar="FILE|NAME", help="Weights of a named teacher."),
    ] = None,
    recipe: t.RecipeOption = None,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    resume: t.ResumeOption = False,
    overwrite: o.OverwriteOption = False,
    time_limit: t.TimeLimitOption = None,
) -> None:
    """Train a converted network from the original: attention transfer, knowledge distillation.

    The last epoch's weights are saved as the network; the best epoch's lie beside them in
    best.safetensors. The best epoch is chosen on the test images, so its accuracy flatters.
    """
    settings = make_settings(recipe, given)
    t.check_output(output_dir, resume=resume, overwrite=overwrite)
    from seclcompress import processes
    from seclcompress.artefact import ArtefactConfig
    from seclcompress.data import check_classes
    from seclcompress.errors import UsageError
    from seclcompress.networks import check_image_classification
    from seclcompress.resolve import is_name, locate
    from seclcompress.taps import check_taps, find_taps
    from seclcompress.trace import trace_network

    found = locate(student, factory_name=factory)
    guide = locate(
        teacher,
        weights=teacher_weights,
        input_size=found.input_size,
        num_classes=found.network.num_classes if is_name(teacher) else None,
        factory_name=factory,
        download=download,
    )
    for source in (found, guide):
        check_image_classification(source.network, "distill")
    if is_name(teacher) and teacher_weights is None:
        raise UsageError(
            f"--teacher {teacher}: an untrained network teaches nothing. Give a folder, or "
            "--teacher-weights."
        )
    with processes.join(settings.device) as group:
        t.check_device(group.device)
        images = t.open_data(
            data,
            found.input_size,
            found.preprocessing or guide.preprocessing,
            settings,
            data_dir=data_dir,
            download=download,
        )
        learner, _ = found.load(seed=settings.seed)
        master, untrained = guide.load(seed=settings.seed)
        if untrained and settings.alpha > 0:
            raise UsageError(
                f"--teacher {teacher}: {', '.join(untrained)} are untrained, for another number of "
                "classes than its weights were published with, so its scores teach nothing. Train it on "
                f"{data} first, or only compare attention with --alpha 0."
            )
        # The original of a converted network has no structured layers, and tells where groups end.
        skeleton = guide.skeleton()
        traced = trace_network(skeleton, found.input_size)
        check_classes(images, traced.outputs, teacher)
        mine = trace_network(learner, found.input_size)
        check_classes(images, mine.outputs, student)
        if settings.beta > 0:
            named = "taps" in settings.model_fields_set
            names = settings.taps if named else tuple(find_taps(skeleton, traced))
            if not names:
                raise UsageError(
                    "No module ends a resolution group here. Name some with --taps, or switch "
                    "attention transfer off with --beta 0."
                )
            check_taps(names, mine, traced)
            settings = settings.model_copy(update={"taps": names})
        original = t.original_parameters(learner, found.config)
        config = ArtefactConfig(
            network=found.network,
            plan=found.config.plan if found.config else None,
            input_size=found.input_size,
            seed=found.config.seed if found.config else settings.seed,
        )
        last = t.run(
            learner,
            images,
            settings,
            output_dir,
            config,
            processes=group,
            teacher=master,
            original=original,
            new_layers=found.config is None or not found.config.training,
            recipe=recipe,
            resume=resume,
            overwrite=overwrite,
            time_limit=time_limit,
        )
    t.say(f"Wrote {output_dir}: {last['accuracy']:.2f} % of the test images right.")
