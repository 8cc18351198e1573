"""Evaluates a network on the test images of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from seclcompress.data import check_classes
from seclcompress.networks import check_image_classification
from seclcompress.observer import Observer
from seclcompress.processes import check_device
from seclcompress.resolve import locate
from seclcompress.settings.training import TrainingSettings
from seclcompress.substitutions import set_execution
from seclcompress.trace import trace_network
from seclcompress.train import Evaluation
from seclcompress.train import evaluate as run
from seclcompress.workflows.locating import tell_weights, typed
from seclcompress.workflows.opening import open_data

__all__ = ["Evaluation", "evaluate"]


def evaluate(
    network: str | Path,
    *,
    data: str,
    settings: TrainingSettings | None = None,
    execution: Literal["auto", "dense", "fast"] = "auto",
    weights: str | None = None,
    weights_key: str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, ...] | None = None,
    data_dir: Path | None = None,
    factory: str | None = None,
    download: bool = False,
    observer: Observer | None = None,
) -> Evaluation:
    """Measures accuracy and loss of a network on a data set's test images.

    Args:
        network: A network's name, a saved folder, or `package.module:factory`.
        data: The name of a data set, one of `data.NAMES`.
        settings: Of the training settings, `device`, `batch_size`, `workers`, `cache_images` and
            `bad_images` are used.
        execution: The execution of structured layers; `auto` for the one that the plan chose.
        weights: A weights file, or torchvision's name of published weights.
        weights_key: The place of the weights in a checkpoint, its keys joined by dots; None to find it.
        num_classes: The number of outputs of the classifier.
        input_size: (channels, *spatial); by default the folder's, or the network's usual size.
        data_dir: The folder of torchvision's data sets.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether published weights or data may be downloaded.
        observer: Receives reports of what happens.

    Raises:
        SeclcompressError: If anything goes wrong; the message says what.
    """
    settings, observer = settings or TrainingSettings(), observer or Observer()
    check_device(settings.device)
    source = locate(
        typed(network),
        weights=weights,
        weights_key=weights_key,
        num_classes=num_classes,
        input_size=input_size,
        factory_name=factory,
        download=download,
    )
    check_image_classification(source.network, "evaluate")
    images = open_data(
        data,
        source.input_size,
        source.preprocessing,
        settings,
        data_dir=data_dir,
        download=download,
        observer=observer,
    )
    built, loaded = source.load()
    tell_weights(loaded, observer)
    check_classes(images, trace_network(built, source.input_size).outputs, source.label)
    set_execution(built, execution)
    with observer.counting(f"Evaluating on {data}", len(images.test)) as on_batch:
        return run(
            built.to(settings.device),
            images,
            batch_size=settings.batch_size,
            device=settings.device,
            workers=settings.workers,
            on_batch=on_batch,
        )
