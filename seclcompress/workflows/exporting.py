"""Exports a network to a file for another runtime, and checks the file before it is there."""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from seclcompress import export as formats
from seclcompress.data import Data, Images, Presentation
from seclcompress.errors import ArtefactError, UsageError
from seclcompress.export.content import Content, Written
from seclcompress.export.contract import Dtype, Execution, Format, Job, Weights
from seclcompress.export.plain import example
from seclcompress.export.prepare import prepare
from seclcompress.export.result import Exported
from seclcompress.export.verify import TOLERANCE, Verified, verified_words, verify
from seclcompress.networks import check_image_classification
from seclcompress.networks.tasks import Task, task_of
from seclcompress.observer import Logging, Observer, after_checks
from seclcompress.resolve import Located
from seclcompress.settings.training import TrainingSettings
from seclcompress.substitutions import structured_layers
from seclcompress.train import Evaluation
from seclcompress.train.outputs import read_outputs
from seclcompress.wording import without_path
from seclcompress.workflows.exported import RunsFile
from seclcompress.workflows.held_out import share_of, with_share
from seclcompress.workflows.locating import Network, find, tell_random, tell_weights
from seclcompress.workflows.looking import evaluated
from seclcompress.workflows.opening import open_data, tell_left_out
from seclcompress.workflows.output_files import check_file, write_one
from seclcompress.workflows.sizing import choose_input_size

__all__ = ["Exported", "export"]

_RANDOM = 8  # images
_REAL = 64
_CALIBRATION = 128
_BATCH = 8

#: Endings that nobody means for a name alone, and the format that may be meant.
_OF_OTHERS = {
    ".pt": "torch",
    ".pth": "weights",
    ".ckpt": "weights",
    ".pkl": "weights",
    ".bin": "openvino",
}


def export(
    network: Network,
    output: str | Path,
    *,
    format: str | None = None,
    weights: Weights = "dense",
    dtype: Dtype = "float32",
    execution: Execution = "dense",
    data: str | None = None,
    settings: TrainingSettings | None = None,
    data_dir: Path | None = None,
    weights_file: str | None = None,
    weights_key: str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, ...] | None = None,
    factory: str | None = None,
    download: bool = False,
    tolerance: float | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Exported:
    """Writes a network to a file for another runtime. The file is run and compared before it is there.

    Args:
        network: A network as on the command line, a saved folder, or a located network.
        output: The file to write. The format's ending is added to a name without one.
        format: One of `export.names()`; by default `onnx`.
        weights: `dense` writes weights multiplied out. With `factors` the file holds the factors, and
            the runtime multiplies them out when it loads the file.
        dtype: `float32`; `float16`, in which the network computes; `int8`, in which dense layers compute
            (their ranges come from training images of `data`), or as which factors are stored.
        execution: `dense`; or `auto`, with which layers that are planned fast are stored as their
            diagonals and run by a fast transform, or `fast` for all layers that can. ONNX Runtime needs
            the library of `seclcompress.onnxruntime_library()` for such a file.
        data: A data set, one of `data.NAMES`. Its images are used beside random ones, and accuracies
            are measured before and after.
        settings: Of the training settings, those in `settings.training.EVALUATION` are used with data;
            the device is the CPU.
        data_dir: The folder of torchvision's data sets.
        weights_file: The network's weights: a file, or torchvision's name of published weights.
        weights_key: Where in the file they stand.
        num_classes: The number of outputs of the classifier.
        input_size: (channels, *spatial); by default the folder's, or the network's usual size.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether published weights, data, or a repository of the Hub may be downloaded.
        tolerance: The largest difference of an output, relative to the largest output, that passes; by
            default `export.verify.TOLERANCE` of the dtype.
        overwrite: Whether an existing file may be replaced.
        observer: Receives a report of each stage.

    Raises:
        UsageError: If the format does not have what is asked of it, or a package is missing.
        ExportError: If the network cannot be exported, or the file computes something else. There is no
            file then.
        SeclcompressError: If anything else goes wrong; the message says what.
    """
    observer, settings = observer or Logging(), settings or TrainingSettings()
    if settings.device != "cpu":
        raise UsageError(
            f"export makes and runs files on the CPU, so the device is cpu, not {settings.device}."
        )
    chosen = formats.get(format or "onnx")
    chosen.check("export" if format is None else f"--format {format}", weights, dtype, execution)
    if chosen.needs_images(weights, dtype) and data is None:
        raise UsageError(
            f"--dtype {dtype} with --weights {weights} takes the ranges of activations from images: "
            "name some with --data. (--weights factors stores int8 weights without any.)"
        )
    path = _named(Path(output), chosen)
    _check_free(path, chosen, overwrite)
    with after_checks(observer) as checked:
        if data is not None:
            input_size = choose_input_size(
                network,
                data,
                input_size,
                weights=weights_file,
                validation=settings.validation,
                train=False,
                observer=checked,
            )
        located = find(
            network,
            weights=weights_file,
            weights_key=weights_key,
            num_classes=num_classes,
            input_size=input_size,
            factory=factory,
            download=download,
        )
        if not isinstance(network, Located):
            located = replace(located, weights_option="--weights-file")
        if data is not None:
            label = network.label if isinstance(network, Located) else network
            settings = with_share(settings, label, share_of(located.config), data, checked)
        original, loaded = located.load()
        tell_weights(loaded, checked)
        tell_random(located, checked)
        _check_task(original, located)
        images = None
        if data is not None:
            check_image_classification(located.network, "export --data")
            images = open_data(
                data,
                located,
                settings,
                trained=True,
                data_dir=data_dir,
                download=download,
                observer=checked,
            )
    job = _job(original, located, images, chosen, weights, dtype, execution, observer)
    written = _written(chosen, job, observer)
    found, before, after = _checked(
        path, chosen, job, written, original, located.label, images, settings, tolerance, observer
    )
    if images is not None:
        tell_left_out(images)
    _check_free(path, chosen, overwrite)  # files may have come in the meantime
    for ending, content in reversed(list(written.files.items())):  # what is named comes last
        write_one(path.with_suffix(ending), content)
    return Exported(
        path,
        chosen.name,
        {path.with_suffix(ending).name: len(content) for ending, content in written.files.items()},
        job.content.parameters,
        written.content,
        found,
        before,
        after,
        written.notes,
    )


def _named(path: Path, chosen: Format) -> Path:
    """The path with the format's ending.

    Raises:
        UsageError: If it has that of another format.
    """
    other = formats.of_file(path)
    if other is not None and other is not chosen:
        raise UsageError(
            f"{path} ends as files of --format {other.name} do, not {chosen.name} ({chosen.suffix})."
        )
    if path.suffix.lower() in _OF_OTHERS:
        raise UsageError(
            f"{path} ends in {path.suffix}, as files of another kind do. --format {chosen.name} writes "
            f"{path.stem}{chosen.suffix}; --format {_OF_OTHERS[path.suffix.lower()]} may be meant."
        )
    return path if other is chosen else path.with_name(path.name + chosen.suffix)


def _check_free(path: Path, chosen: Format, overwrite: bool) -> None:
    """Checks that all files of an export may be written.

    Raises:
        ArtefactError: If one may not; the message names it.
    """

    def is_export(_: Path) -> bool:
        """Whether the files there are of an earlier export, and not the saved folder's network."""
        with contextlib.suppress(ArtefactError):
            chosen.content(path)
            return True
        return False

    for ending in chosen.endings:
        check_file(path.with_suffix(ending), overwrite, replaces=is_export)


def _check_task(network: nn.Module, located: Located) -> None:
    if type(task_of(network)) is not Task:
        raise UsageError(
            f"{located.label} is a network for {task_of(network).name}; export takes networks of one "
            "tensor of images."
        )


def _job(
    original: nn.Module,
    located: Located,
    images: Data | None,
    chosen: Format,
    weights: Weights,
    dtype: Dtype,
    execution: Execution,
    observer: Observer,
) -> Job:
    """Prepares the network, and says what is known of it."""
    size = located.input_size
    with observer.working("Multiplying out, and folding batch norm …"):
        prepared = prepare(
            original,
            size,
            factors=weights == "factors",
            fold=chosen.folds,
            execution=execution,
        )
    config = located.config
    known = located.preprocessing or (None if images is None else images.preprocessing)
    classes = None if config is None else config.classes
    held_out = share_of(config)
    content = Content(
        network=located.label if located.folder is None else located.folder.resolve().name,
        input_size=size,
        parameters=sum(parameter.numel() for parameter in original.parameters()),
        weights=weights,
        dtype=dtype,
        classes=classes or (None if images is None else images.classes),
        preprocessing=known,
        data=None if held_out is None else without_path(held_out.data),
        validation=None if held_out is None else held_out.validation,
    )
    left = sum(parameter.numel() for parameter in prepared.network.parameters())
    made, fast = len(prepared.makings), len(structured_layers(prepared.network))
    observer.message(
        f"Prepared: {content.parameters:,} parameters, {left:,} to be written"
        + (f", of which {made} weights are made from factors" if made else "")
        + (f"; layers that run in our operator: {fast}." if fast else ".")
    )
    shown = None
    if images is not None and chosen.needs_images(weights, dtype):
        shown = _some(images, images.train, _CALIBRATION)
    return Job(prepared, content, calibration=shown)


def _written(chosen: Format, job: Job, observer: Observer) -> Written:
    began = time.perf_counter()
    with observer.working("Exporting …") as tell:
        written = chosen.write(replace(job, tell=tell))
    for words in written.notes:
        observer.message(words)
    size = sum(map(len, written.files.values()))
    observer.message(
        f"Made {size:,} bytes of {chosen.name} in {time.perf_counter() - began:.1f} s."
    )
    return written


def _checked(
    path: Path,
    chosen: Format,
    job: Job,
    written: Written,
    original: nn.Module,
    label: str,
    images: Data | None,
    settings: TrainingSettings,
    tolerance: float | None,
    observer: Observer,
) -> tuple[Verified, Evaluation | None, Evaluation | None]:
    """Runs the file in a temporary place; returns what was found, and accuracies before and after."""
    content = written.content
    job = replace(job, content=content)
    shown = [] if images is None else _some(images, images.test, _REAL)
    if not chosen.needs_images(content.weights, content.dtype):  # noise is outside of such ranges
        shown += example(original, content.input_size, _RANDOM).split(_BATCH)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        written.put(trial)
        words = f"Running the file in {chosen.version()}, batches"
        with observer.counting(words, len(shown)) as tell:
            found = verify(
                trial,
                chosen,
                job,
                original,
                shown,
                tolerance=TOLERANCE[content.dtype] if tolerance is None else tolerance,
                tell=tell,
            )
        for words in verified_words(found, content):
            observer.message(words)
        if images is None:
            return found, None, None
        read = read_outputs(original, images, label, observer)
        runs = RunsFile(chosen.runner(trial, job, threads=torch.get_num_threads()), content.batch)
        before = evaluated(original, images, read, settings, "the network", observer)
        after = evaluated(runs, images, read, settings, "the file", observer)
        return found, before, after


def _some(data: Data, images: Images, number: int) -> list[Tensor]:
    """Some images, spread over all of them, in batches as a network sees them."""
    count = min(number, len(images))
    order = torch.linspace(0, len(images) - 1, count).long().split(_BATCH)
    shown = Presentation(data.input_size, data.preprocessing)
    return [batch.images for batch in images.read(order, shown)]
