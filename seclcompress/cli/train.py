"""`seclcompress train`."""

from __future__ import annotations

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.app import err_console


def train(
    network: o.NetworkArgument,
    data: t.DataOption,
    output_dir: t.OutputDirOption,
    weights: o.WeightsOption = None,
    num_classes: o.NumClassesOption = None,
    input_size: o.InputSizeOption = None,
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
    """Train a network without a teacher: to get a teacher, or to compare with distillation.

    The number of classes and the input size come from the data unless they are given.
    """
    size = o.parse_input_size(input_size)
    t.check_output(output_dir, resume=resume, overwrite=overwrite)
    from seclcompress.artefact import ArtefactConfig
    from seclcompress.data import DEFAULT_ROOT, check_classes, load_data, usual_input_size
    from seclcompress.resolve import is_name, locate
    from seclcompress.trace import trace_network

    t.check_device(device)
    named = is_name(network)
    if size is None and (named or ":" in network):
        size = usual_input_size(data)
    source = locate(
        network,
        weights=weights,
        num_classes=num_classes,
        input_size=size,
        factory_name=factory,
        download=download,
    )
    images = load_data(data, source.input_size, root=data_dir or DEFAULT_ROOT, download=download)
    if named and num_classes is None:
        source = locate(
            network,
            weights=weights,
            num_classes=len(images.classes),
            input_size=source.input_size,
            download=download,
        )
    built, fresh = source.load(seed=seed)
    check_classes(images, trace_network(built, source.input_size).outputs, network)
    o.say_fresh(fresh)
    original = t.original_parameters(built, source.config)
    chosen = t.settings(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        optimizer=optimizer.value,
        momentum=momentum,
        weight_decay=weight_decay,
        factor_decay=t.factor_decay(factor_decay, weight_decay, built, original),
        schedule=lr_scheduler.value,
        amp=amp,
        seed=seed,
        device=device,
        workers=workers,
    )
    config = ArtefactConfig(
        recipe=source.recipe,
        plan=source.config.plan if source.config else None,
        input_size=source.input_size,
        seed=seed,
        metrics=_kept(source.config.metrics) if source.config else {},
    )
    last = t.run(
        built,
        images,
        chosen,
        output_dir,
        config,
        teacher=None,
        resume=resume,
        overwrite=overwrite,
    )
    err_console.print(f"Wrote {output_dir}: {last['accuracy']:.2f} % of the test images right.")


def _kept(metrics: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if key == "teacher_accuracy"}
