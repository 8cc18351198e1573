"""`seclcompress distill`."""

from __future__ import annotations

from typing import Annotated

import typer

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.app import err_console


def distill(
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
    alpha: Annotated[
        float, typer.Option("--alpha", help="Share of knowledge distillation; 0 is off.")
    ] = 0.0,
    beta: Annotated[
        float, typer.Option("--beta", help="Weight of attention transfer; 0 is off.")
    ] = 1000.0,
    temperature: Annotated[float, typer.Option("--temperature")] = 4.0,
    taps: Annotated[
        str | None,
        typer.Option(
            "--taps",
            metavar="NAMES",
            help="Modules to compare, with commas. Default: the ends of the resolution groups.",
        ),
    ] = None,
    epochs: t.EpochsOption = 200,
    batch_size: t.BatchSizeOption = 128,
    lr: t.LrOption = 0.1,
    optimizer: t.OptimizerOption = t.Optimizer.sgd,
    momentum: t.MomentumOption = 0.9,
    weight_decay: t.WeightDecayOption = 5e-4,
    factor_decay: t.FactorDecayOption = "ratio",
    lr_scheduler: t.ScheduleOption = t.Schedule.cosine,
    amp: t.AmpOption = False,
    seed: o.SeedOption = 0,
    device: t.DeviceOption = "cpu",
    workers: t.WorkersOption = 0,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    resume: t.ResumeOption = False,
    overwrite: o.OverwriteOption = False,
) -> None:
    """Train a converted network from the original: attention transfer, knowledge distillation.

    The last epoch's weights are saved as the network; the best epoch's lie beside them in
    best.safetensors. The best epoch is chosen on the test images, so its accuracy flatters.
    """
    t.check_output(output_dir, resume=resume, overwrite=overwrite)
    from seclcompress.artefact import ArtefactConfig
    from seclcompress.data import DEFAULT_ROOT, check_classes, load_data
    from seclcompress.errors import UsageError
    from seclcompress.resolve import is_name, locate
    from seclcompress.taps import check_taps, find_taps
    from seclcompress.trace import trace_network
    from seclcompress.train import evaluate

    t.check_device(device)
    found = locate(student, factory_name=factory)
    size = found.input_size
    guide = locate(
        teacher,
        weights=teacher_weights,
        input_size=size,
        num_classes=found.recipe.num_classes if is_name(teacher) else None,
        factory_name=factory,
        download=download,
    )
    if is_name(teacher) and teacher_weights is None:
        raise UsageError(
            f"--teacher {teacher}: an untrained network teaches nothing. Give a folder, or "
            "--teacher-weights."
        )
    images = load_data(data, size, root=data_dir or DEFAULT_ROOT, download=download)
    learner, _ = found.load(seed=seed)
    master, _ = guide.load(seed=seed)
    # The original of a converted network has no structured layers, and tells where groups end.
    skeleton = guide.skeleton()
    traced = trace_network(skeleton, size)
    check_classes(images, traced.outputs, teacher)
    mine = trace_network(learner, size)
    check_classes(images, mine.outputs, student)
    names = tuple(find_taps(skeleton, traced))
    if taps is not None:
        names = tuple(name.strip() for name in taps.split(",") if name.strip())
    if beta > 0:
        if not names:
            raise UsageError(
                "No module ends a resolution group here. Name some with --taps, or switch attention "
                "transfer off with --beta 0."
            )
        check_taps(names, mine, traced)
        err_console.print(f"Attention is compared at {', '.join(names)}.")
    original = t.original_parameters(learner, found.config)
    chosen = t.settings(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        optimizer=optimizer.value,
        momentum=momentum,
        weight_decay=weight_decay,
        factor_decay=t.factor_decay(factor_decay, weight_decay, learner, original),
        schedule=lr_scheduler.value,
        alpha=alpha,
        beta=beta,
        temperature=temperature,
        taps=names if beta > 0 else (),
        amp=amp,
        seed=seed,
        device=device,
        workers=workers,
    )
    master.requires_grad_(False)
    tested = evaluate(master.to(device), images, batch_size=batch_size, device=device)
    err_console.print(f"The teacher gets {tested.accuracy:.2f} % of the test images right.")
    config = ArtefactConfig(
        recipe=found.recipe,
        plan=found.config.plan if found.config else None,
        input_size=size,
        seed=found.config.seed if found.config else seed,
        metrics={"teacher_accuracy": tested.accuracy},
    )
    last = t.run(
        learner,
        images,
        chosen,
        output_dir,
        config,
        teacher=master,
        resume=resume,
        overwrite=overwrite,
    )
    err_console.print(
        f"Wrote {output_dir}: {last['accuracy']:.2f} % of the test images right, the teacher "
        f"{tested.accuracy:.2f} %."
    )
