"""Recovers a converted network: its new layers take over the teacher's outputs, from few pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from seclcompress import artefact
from seclcompress.artefact import ArtefactConfig
from seclcompress.data import Data
from seclcompress.files import check_free
from seclcompress.observer import Logging, Observer, after_checks
from seclcompress.processes import check_device
from seclcompress.recover import LayerRecovery
from seclcompress.resolve import Located
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.training import TrainingSettings
from seclcompress.trace import whole_copy
from seclcompress.train.outputs import read_outputs
from seclcompress.train.pictures import Pictures
from seclcompress.workflows.cards import card_of_recovery
from seclcompress.workflows.inputs import find_for_distilling
from seclcompress.workflows.locating import beginning, taught, tell_weights, typed
from seclcompress.workflows.looking import evaluated
from seclcompress.workflows.opening import tell_left_out
from seclcompress.workflows.output_files import check_no_input
from seclcompress.workflows.taking_over import (
    check_classifier,
    check_sizes,
    prepare,
    take_over,
)
from seclcompress.workflows.teaching import view_of


@dataclass(frozen=True)
class Recovered:
    """The result of a recovery.

    Attributes:
        layers: What became of each layer, in running order.
        left_out: Why a rewritten layer was not recovered, by its name.
        metrics: Accuracies in percent on the test images: `teacher_accuracy`, `start_accuracy` (the
            student before, with batch norm estimated anew), `accuracy`; `validation_accuracy` if images
            are held out; and `recovery_seconds`.
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
        check_sizes(found, guide)
        view = view_of(guide, images, by_order=training.classes_by_order, observer=checked)
        learner, _ = found.load(seed=training.seed)
        master, loaded = guide.load(seed=training.seed)
        tell_weights(loaded, checked)
        check_classifier(guide, loaded.untrained, images, settings)
        about = taught(guide, master)
        read = read_outputs(learner, images, found.label, checked)
        read_teacher = read_outputs(master, images, guide.label, checked)
    learner, master = learner.to(training.device), master.to(training.device)
    if view is not None:
        view.attach(master)
    labels = (found.label, guide.label)
    work = prepare(learner, master, images, labels, settings, training, observer)
    theirs = evaluated(master, images, read_teacher, training, "the teacher", observer)
    start = _with_batch_norm(learner, work.pictures)
    mine = evaluated(start, images, read, training, "the student as it is", observer)
    before = {"teacher_accuracy": theirs.accuracy, "start_accuracy": mine.accuracy}
    observer.message(
        f"Before: teacher {before['teacher_accuracy']:.2f} %, student {before['start_accuracy']:.2f} %."
    )
    done = take_over(work, observer)
    accuracy = evaluated(learner, images, read, training, "the student", observer).accuracy
    if images.validation is not None:
        held = evaluated(
            learner, images, read, training, "held-out images", observer, images=images.validation
        )
        before["validation_accuracy"] = held.accuracy
    metrics = {**before, "accuracy": accuracy, "recovery_seconds": round(done.seconds, 3)}
    config = _config(found, images, metrics, about, training, done.record)
    extra = card_of_recovery(found, config, observer.message)
    artefact.save(output, learner.cpu(), config, extra=extra, overwrite=overwrite)
    observer.message(
        f"After: {accuracy:.2f} %, in {done.seconds:.0f} s from {work.count:,} pictures."
    )
    tell_left_out(images)
    return Recovered(done.layers, work.left_out, metrics, work.count, output)


def _with_batch_norm(student: nn.Module, pictures: Pictures) -> nn.Module:
    """A copy with batch norm estimated anew: its statistics are those of the original's layers."""
    copied = whole_copy(student)
    pictures.estimate_batch_norm(copied)
    return copied


def _config(
    found: Located,
    data: Data,
    metrics: dict[str, float],
    about: dict[str, str | int | None],
    training: TrainingSettings,
    record: dict[str, Any],
) -> ArtefactConfig:
    """The configuration of the folder, with a record of what was done."""
    earlier = found.config
    assert earlier is not None
    # Of a folder without test images, these were the test.
    held = {} if training.validation is None else {"validation": training.validation}
    return ArtefactConfig(
        network=found.network,
        plan=earlier.plan,
        input_size=found.input_size,
        seed=earlier.seed,
        classes=list(data.classes),
        preprocessing=data.preprocessing,
        metrics=metrics,
        training={"data": data.name, **held, **beginning(found), **about, "recovered": record},
    )
