"""Recovers a converted network: its new layers take over the teacher's outputs, from few pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from seclcompress import artefact
from seclcompress.artefact import ArtefactConfig
from seclcompress.data import Data, Presentation
from seclcompress.data.order import shuffled
from seclcompress.errors import UsageError
from seclcompress.files import check_free
from seclcompress.networks.weights import check_finite
from seclcompress.observer import Logging, Observer, after_checks
from seclcompress.processes import check_device
from seclcompress.recover import (
    LayerRecovery,
    Pair,
    Pictures,
    left_out,
    pairs_of,
    recover_layers,
)
from seclcompress.resolve import Located
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.training import TrainingSettings
from seclcompress.trace import floating_dtype, whole_copy
from seclcompress.train.outputs import read_outputs
from seclcompress.wording import listed, shape
from seclcompress.workflows.cards import card_of_recovery
from seclcompress.workflows.inputs import find_for_distilling
from seclcompress.workflows.locating import beginning, taught, tell_weights, typed
from seclcompress.workflows.looking import evaluated
from seclcompress.workflows.opening import tell_left_out
from seclcompress.workflows.output_files import check_no_input
from seclcompress.workflows.teaching import view_of

#: Pictures at once: the patches of a batch are held at a time.
_BATCH = 25


@dataclass(frozen=True)
class Recovered:
    """The result of a recovery.

    Attributes:
        layers: What became of each layer, in running order.
        left_out: Why a rewritten layer was not recovered, by its name.
        metrics: Accuracies in percent on the test images: `teacher_accuracy`, `start_accuracy` (the
            student before, with batch norm estimated anew), `accuracy`; and `recovery_seconds`.
        pictures: The number of pictures that were learnt from.
        folder: The folder that was written.
    """

    layers: list[LayerRecovery]
    left_out: dict[str, str]
    metrics: dict[str, float]
    pictures: int
    folder: Path


def recover(
    student: str | Path,
    *,
    teacher: str | Path,
    data: str,
    output_dir: str | Path,
    settings: RecoverySettings | None = None,
    training: TrainingSettings | None = None,
    teacher_weights: str | None = None,
    teacher_weights_key: str | None = None,
    input_size: tuple[int, ...] | None = None,
    data_dir: Path | None = None,
    factory: str | None = None,
    download: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Recovered:
    """Gives a converted network as much of its teacher's accuracy as a few pictures can.

    From front to back, each rewritten layer learns to give the outputs of the teacher's layer. No labels
    are used. The output folder appears at the end, whole; an interruption leaves nothing.

    Args:
        student: A folder that `convert` wrote, from any start.
        teacher: The network that the student was converted from: a folder, or a name with weights.
        data: The name of a data set; its training images are the pictures, its test images say what was
            gained.
        output_dir: The folder to write.
        settings: How to recover.
        training: Of the training settings, `settings.training.EVALUATION` and the seed are used.
        teacher_weights: The weights of a named teacher: a file, or published weights by their name.
        teacher_weights_key: Where in that file the weights stand; None to look for them.
        input_size: (channels, *spatial) of both networks; by default the student's folder's.
        data_dir: The folder of torchvision's data sets.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether published weights, data, or a repository of the Hub may be downloaded.
        overwrite: Whether an earlier folder that this program wrote may be replaced.
        observer: Receives reports of what happens.

    Raises:
        UsageError: If the student has no rewritten layers, none that can be recovered, or the teacher is
            not its original.
        DataError: If the data have no pictures, or do not fit the networks.
        SeclcompressError: If anything else goes wrong; nothing is written.
    """
    settings, training = settings or RecoverySettings(), training or TrainingSettings()
    observer, output = observer or Logging(), Path(output_dir)
    check_no_input(output, student, teacher)
    check_free(output, overwrite)
    check_device(training.device)
    with after_checks(observer) as checked:
        found, guide, images, training = find_for_distilling(
            typed(student),
            typed(teacher),
            data,
            training,
            teacher_weights=teacher_weights,
            teacher_weights_key=teacher_weights_key,
            input_size=input_size,
            teacher_input_size=input_size,
            data_dir=data_dir,
            factory=factory,
            download=download,
            observer=checked,
        )
        if found.input_size != guide.input_size:
            raise UsageError(
                f"{found.label} sees images of {shape(found.input_size)} and --teacher {guide.label} of "
                f"{shape(guide.input_size)}, so their layers' outputs cannot be compared. Give both one "
                "--input-size."
            )
        view = view_of(guide, images, by_order=training.classes_by_order, observer=checked)
        learner, _ = found.load(seed=training.seed)
        master, loaded = guide.load(seed=training.seed)
        tell_weights(loaded, checked)
        if loaded.untrained and settings.kept:
            raise UsageError(
                f"--teacher {teacher}: {', '.join(loaded.untrained)} are untrained, for another number "
                f"of classes than its weights were published with. Train it on {data} first, or recover "
                "the rewritten layers only, with --no-kept."
            )
        about = taught(guide, master)
        read = read_outputs(learner, images, found.label, checked)
        read_teacher = read_outputs(master, images, guide.label, checked)
    learner, master = learner.to(training.device), master.to(training.device)
    if view is not None:
        view.attach(master)
    pictures = _pictures(images, settings, training, observer)
    example = next(pictures.read(floating_dtype(master)))[:1]
    pairs = pairs_of(learner, master, example, guide.label)
    refused = _left_out(pairs, observer)
    pairs = [pair for pair in pairs if pair.name not in refused and left_out(pair) is None]
    if not any(pair.rewritten for pair in pairs):
        raise UsageError(
            f"None of the rewritten layers of {found.label} can be recovered layer by layer: "
            f"{next(iter(refused.values()))}. Distil it instead: seclcompress distill."
        )
    theirs = evaluated(master, images, read_teacher, training, "the teacher", observer)
    start = _with_batch_norm(learner, pictures)
    mine = evaluated(start, images, read, training, "the student as it is", observer)
    before = {"teacher_accuracy": theirs.accuracy, "start_accuracy": mine.accuracy}
    observer.message(
        f"Before: teacher {before['teacher_accuracy']:.2f} %, student {before['start_accuracy']:.2f} %."
    )
    began = time.monotonic()
    layers = _recover(learner, master, pairs, pictures, settings, training.seed, observer)
    seconds = time.monotonic() - began
    check_finite(learner.state_dict(), "The recovered network")
    accuracy = evaluated(learner, images, read, training, "the student", observer).accuracy
    metrics = {**before, "accuracy": accuracy, "recovery_seconds": round(seconds, 3)}
    count = sum(len(batch) for batch in pictures.order)
    config = _config(found, images, metrics, about, settings, training, count, layers, refused)
    extra = card_of_recovery(found, config, observer.message)
    artefact.save(output, learner.cpu(), config, extra=extra, overwrite=overwrite)
    observer.message(f"After: {accuracy:.2f} %, in {seconds:.0f} s from {count:,} pictures.")
    tell_left_out(images)
    return Recovered(layers, refused, metrics, count, output)


def _pictures(
    data: Data, settings: RecoverySettings, training: TrainingSettings, observer: Observer
) -> Pictures:
    order = shuffled(len(data.train), training.seed, 0)[: settings.pictures]
    if len(order) < settings.pictures:
        observer.message(
            f"{data.name} has {len(order):,} training images, fewer than --pictures "
            f"{settings.pictures:,}: all of them are used."
        )
    presentation = Presentation(
        data.input_size,
        data.preprocessing,
        device=training.device,
        workers=training.workers,
    )
    return Pictures(data.train, order.split(_BATCH), presentation)


def _left_out(pairs: Sequence[Pair], observer: Observer) -> dict[str, str]:
    """Why rewritten layers cannot be recovered, by name; it is told once for each reason."""
    refused = {pair.name: why for pair in pairs if pair.rewritten and (why := left_out(pair))}
    for why in dict.fromkeys(refused.values()):
        names = [name for name, other in refused.items() if other == why]
        observer.message(f"Left as they start, because {why}: {listed(names, 5)}.")
    return refused


def _with_batch_norm(student: nn.Module, pictures: Pictures) -> nn.Module:
    """A copy with batch norm estimated anew: its statistics are those of the original's layers."""
    copied = whole_copy(student)
    pictures.estimate_batch_norm(copied)
    return copied


def _recover(
    student: nn.Module,
    teacher: nn.Module,
    pairs: Sequence[Pair],
    pictures: Pictures,
    settings: RecoverySettings,
    seed: int,
    observer: Observer,
) -> list[LayerRecovery]:
    total = sum(
        pair.rewritten or (settings.kept and settings.inputs != "teacher") for pair in pairs
    )
    done = 0
    with observer.counting("Recovering layers", total) as tell:

        def on_layer(layer: LayerRecovery) -> None:
            nonlocal done
            done += 1
            tell(done, total)
            kind = "" if layer.rewritten else " (kept)"
            observer.message(
                f"{layer.name}{kind}: error {100 * layer.before:.1f} % to {100 * layer.after:.1f} %"
            )

        return recover_layers(student, teacher, pairs, pictures, settings, seed, on_layer)


def _config(
    found: Located,
    data: Data,
    metrics: dict[str, float],
    about: dict[str, str | int | None],
    settings: RecoverySettings,
    training: TrainingSettings,
    pictures: int,
    layers: Sequence[LayerRecovery],
    refused: dict[str, str],
) -> ArtefactConfig:
    """The configuration of the folder, with a record of what was done."""
    earlier = found.config
    assert earlier is not None
    # Of a folder without test images, these were the test.
    held = {} if training.validation is None else {"validation": training.validation}
    recovered = {
        "seed": training.seed,
        **settings.model_dump(),
        "pictures": pictures,
        "layers": [asdict(layer) for layer in layers],
        "left_out": refused,
        "torch": torch.__version__,
    }
    return ArtefactConfig(
        network=found.network,
        plan=earlier.plan,
        input_size=found.input_size,
        seed=earlier.seed,
        classes=list(data.classes),
        preprocessing=data.preprocessing,
        metrics=metrics,
        training={"data": data.name, **held, **beginning(found), **about, "recovered": recovered},
    )
