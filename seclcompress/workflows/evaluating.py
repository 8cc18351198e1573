"""Evaluates a network on the test images of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from seclcompress.export.plain import example
from seclcompress.networks import check_image_classification
from seclcompress.observer import Logging, Observer, after_checks
from seclcompress.processes import check_device
from seclcompress.resolve import locate
from seclcompress.settings.training import TrainingSettings
from seclcompress.substitutions import set_execution
from seclcompress.train import Evaluation
from seclcompress.train.outputs import read_outputs, reader_of
from seclcompress.workflows.exported import ExportedFile, check_runs_as_it_is, find_file
from seclcompress.workflows.held_out import share_of, with_share
from seclcompress.workflows.locating import tell_random, tell_weights, typed
from seclcompress.workflows.looking import evaluated
from seclcompress.workflows.opening import open_data, tell_left_out
from seclcompress.workflows.sizing import choose_input_size

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
    by_class: bool = False,
    observer: Observer | None = None,
) -> Evaluation:
    """Measures accuracy and loss of a network on a data set's test images.

    Args:
        network: A network's name, a saved folder, `package.module:factory`, or a file that
            `export` wrote, which is run in its runtime.
        data: The name of a data set, one of `data.NAMES`.
        settings: Of the training settings, those in `settings.training.EVALUATION` are used.
        execution: The execution of structured layers; `auto` for the one that the plan chose.
        weights: A weights file, or torchvision's name of published weights.
        weights_key: Where in the file the weights stand, such as `model_ema`; None to look for them.
        num_classes: The number of outputs of the classifier.
        input_size: (channels, *spatial); by default the folder's, or the network's usual size.
        data_dir: The folder of torchvision's data sets.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether published weights, data, or a repository of the Hub may be downloaded.
        by_class: Whether to record which class was answered for images of which class.
        observer: Receives reports of what happens.

    Raises:
        SeclcompressError: If anything goes wrong; the message says what.
    """
    settings, observer = settings or TrainingSettings(), observer or Logging()
    file = find_file(network, "evaluate")
    if file is not None:
        given = {
            "weights": weights,
            "weights_key": weights_key,
            "num_classes": num_classes,
            "input_size": input_size,
            "factory": factory,
            "execution": None if execution == "auto" else execution,
        }
        return _evaluate_file(
            file, data, settings, given, data_dir, download, observer, by_class=by_class
        )
    check_device(settings.device)
    with after_checks(observer) as checked:
        input_size = choose_input_size(
            network,
            data,
            input_size,
            weights=weights,
            validation=settings.validation,
            train=False,
            observer=checked,
        )
        source = locate(
            typed(network),
            weights=weights,
            weights_key=weights_key,
            num_classes=num_classes,
            input_size=input_size,
            factory_name=factory,
            download=download,
        )
        settings = with_share(settings, network, share_of(source.config), data, checked)
        check_image_classification(source.network, "evaluate")
        images = open_data(
            data,
            source,
            settings,
            trained=True,
            data_dir=data_dir,
            download=download,
            observer=checked,
        )
        built, loaded = source.load()
        tell_weights(loaded, checked)
        tell_random(source, checked)
        read = read_outputs(built, images, source.label, checked)
    set_execution(built, execution)
    built.to(settings.device)
    found = evaluated(built, images, read, settings, f"on {data}", observer, by_class=by_class)
    tell_left_out(images)
    return found


def _evaluate_file(
    file: ExportedFile,
    data: str,
    settings: TrainingSettings,
    given: Mapping[str, object],
    data_dir: Path | None,
    download: bool,
    observer: Observer,
    *,
    by_class: bool,
) -> Evaluation:
    """Measures accuracy and loss of an exported file in its runtime, on the CPU."""
    flags = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if settings.device != "cpu":
        flags.append("--device")
    check_runs_as_it_is(file, flags)
    settings = with_share(settings, file.label, file.held_out, data, observer)
    images = open_data(
        data, file, settings, trained=True, data_dir=data_dir, download=download, observer=observer
    )
    network = file.load()
    observer.message(f"{file.label} runs in {file.format.version()}.")
    read = reader_of(network(example(network, file.input_size, 2)), len(images.classes))
    found = evaluated(network, images, read, settings, f"on {data}", observer, by_class=by_class)
    tell_left_out(images)
    return found
