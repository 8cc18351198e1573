"""Tries settings of training, and writes the best ones as a recipe."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from seclcompress.artefact import WEIGHTS, place, weights_digest
from seclcompress.data import has_test_images
from seclcompress.errors import SeclcompressError, UsageError
from seclcompress.files import add_file
from seclcompress.observer import Logging, Observer
from seclcompress.recipes import to_toml
from seclcompress.report.tuning import (
    FAILED,
    FINISHED,
    OPEN,
    Trial,
    best_of,
    importance_png,
    trials_csv,
    trials_png,
)
from seclcompress.settings.search import Choices, Space, parse_space
from seclcompress.settings.training import DISTILLATION, INCIDENTAL, TrainingSettings
from seclcompress.trackers import check_trackers
from seclcompress.workflows.held_out import for_comparing, tell_comparing
from seclcompress.workflows.inputs import find_for_distilling, find_for_training
from seclcompress.workflows.locating import typed
from seclcompress.workflows.runs import InterruptedRunError, Stopping, TrainingResult
from seclcompress.workflows.storage import import_optuna
from seclcompress.workflows.studies import Hyperband, Study, work_of
from seclcompress.workflows.study_folder import make_way
from seclcompress.workflows.training import distill, train
from seclcompress.workflows.trials import Work, remove_run

RECIPE, TRIALS = "recipe.toml", "trials.csv"
IMPORTANCE_PICTURE, TRIALS_PICTURE = "importance.png", "trials.png"


_Arguments: TypeAlias = dict[str, Any]
#: Arguments by which studies are told apart, beside networks and data; the others say where things lie.
_COMPARED = (
    *("weights", "weights_key", "num_classes", "input_size"),
    *("teacher_weights", "teacher_weights_key", "teacher_input_size"),
)


@dataclass(frozen=True)
class Tuned:
    """The result of a study.

    Attributes:
        folder: The folder of the study, with the recipe, the trials and the pictures.
        trials: All trials by their numbers.
        best: The finished trial with the highest accuracy on the held-out images; None if none is
            finished.
        importance: The share of the differences in accuracy that each setting explains; empty if the
            finished trials are too few to tell.
    """

    folder: Path
    trials: list[Trial]
    best: Trial | None
    importance: dict[str, float]


def tune(
    network: str | Path,
    *,
    data: str,
    output_dir: str | Path,
    search: Sequence[str],
    trials: int = 30,
    teacher: str | Path | None = None,
    settings: TrainingSettings | None = None,
    least_epochs: int = 1,
    reduction_factor: int = 3,
    weights: str | None = None,
    weights_key: str | None = None,
    teacher_weights: str | None = None,
    teacher_weights_key: str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, ...] | None = None,
    teacher_input_size: tuple[int, ...] | None = None,
    untrained_teacher: bool = False,
    data_dir: Path | None = None,
    factory: str | None = None,
    download: bool = False,
    overwrite: bool = False,
    time_limit: float | None = None,
    stopping: Stopping = contextlib.nullcontext,
    observer: Observer | None = None,
) -> Tuned:
    """Tries settings of training by Hyperband, and writes the best ones as a recipe.

    Each trial is a run of `train`, or with a teacher of `distill`. Trials are compared by their accuracy
    on images that are held out of the training images, never on the test images. The values to try are
    chosen by Optuna's TPE, and Hyperband (Li et al., 2018, arXiv:1603.06560) stops trials that fall
    behind.

    The study is in the output folder. The same call, without `overwrite`, goes on with it, also after
    an interruption; then trials in progress are resumed. Several processes may call this at once for
    one folder.

    Args:
        network: A network's name or a saved folder; with a teacher usually one that `convert` wrote.
        data: The name of a data set, one of `data.NAMES`.
        output_dir: The folder of the study.
        search: What is tried, `NAME=VALUES` each; see `settings.search`.
        trials: The number of trials of the whole study, those of earlier calls included.
        teacher: The network to learn from; None to train without one.
        settings: The settings of all trials; what is searched overrides them. `validation` is 0.1 if it
            is None.
        least_epochs: The epochs after which a trial may be stopped first.
        reduction_factor: Of the trials that come to such an epoch, one in this many goes on.
        weights: As in `train`.
        weights_key: As in `train`.
        teacher_weights: As in `distill`.
        teacher_weights_key: As in `distill`.
        num_classes: As in `train`.
        input_size: As in `train`.
        teacher_input_size: As in `distill`.
        untrained_teacher: As in `distill`.
        data_dir: As in `train`.
        factory: As in `train`.
        download: As in `train`.
        overwrite: Whether an earlier folder that this program wrote is replaced by a new study.
        time_limit: Seconds after which to save and stop; None for no limit.
        stopping: As in `train`.
        observer: Receives reports of what happens; of the runs, their steps but not their epochs.

    Raises:
        InterruptedRunError: If it was stopped; the same call goes on, without `overwrite`.
        UsageError: If Optuna is not installed, the search cannot be read, or the study was begun with
            other settings.
        SeclcompressError: If anything else goes wrong; what was done is kept.
    """
    import_optuna()
    folder, observer = Path(output_dir), observer or Logging()
    asked = settings or TrainingSettings()
    if asked.patience is not None:
        raise UsageError(
            f"--patience {asked.patience}: a study stops trials that are behind by itself. Drop it."
        )
    settings = for_comparing(asked)
    space = parse_space(search, distils=teacher is not None)
    hyperband = Hyperband(settings.epochs, least_epochs, reduction_factor)
    _check(hyperband, trials)
    check_trackers(settings.trackers)
    shared: _Arguments = {
        "data": data,
        "input_size": input_size,
        "data_dir": data_dir,
        "factory": factory,
        "download": download,
    }
    place = folder.absolute().parent  # not that of the trials, which is removed
    alone: _Arguments = {
        "weights": weights,
        "weights_key": weights_key,
        "num_classes": num_classes,
    }
    taught: _Arguments = {
        "teacher_weights": teacher_weights,
        "teacher_weights_key": teacher_weights_key,
        "teacher_input_size": teacher_input_size,
    }
    _check_unused(taught if teacher is None else alone, teacher is not None)
    # A typing error ends here, before a study is made or given up.
    perform: Callable[..., TrainingResult]
    if teacher is None:
        alone = {**shared, **alone}
        find_for_training(typed(network), settings=settings, observer=Observer(), **alone)
        perform = partial(train, network, tracked_in=place, **alone)
    else:
        taught = {**shared, **taught}
        names = typed(network), typed(teacher)
        find_for_distilling(*names, settings=settings, observer=Observer(), **taught)
        taught = {**taught, "teacher": teacher, "untrained_teacher": untrained_teacher}
        perform = partial(distill, network, tracked_in=place, **taught)
    make_way(folder, overwrite)
    tell_comparing("Trials", asked, observer)
    options = {**alone, **taught}
    about = {
        "network": _named(network, download),
        "teacher": None if teacher is None else _named(teacher, download),
        "data": data,
        **{f"--search {name}": str(values) for name, values in space.items()},
        **{name: str(options[name]) for name in _COMPARED if options.get(name) is not None},
        "least_epochs": least_epochs,
        "reduction_factor": reduction_factor,
        **_of_all_trials(settings, space, distils=teacher is not None),
    }
    study = Study(folder, about, space, settings.seed, hyperband)
    deadline = math.inf if time_limit is None else time.monotonic() + time_limit
    work = Work(study, settings, perform, stopping, deadline, observer)
    if overwrite:  # again, it would begin anew
        work.goes_on = "the same command without --overwrite goes on"
    results = _Results(study, settings, data, f"{typed(network)} on {data}")
    try:
        while work.do_next(trials):
            results.write(pictures=False)
    except InterruptedRunError:
        results.write(pictures=True)
        raise
    except SeclcompressError:
        with contextlib.suppress(SeclcompressError):  # a full disk, say, which is said already
            results.write(pictures=True)
        raise
    found = results.write(pictures=True)
    for trial in found.trials:
        if trial.state == FAILED:
            remove_run(folder, trial.number)
        if trial.state == OPEN:
            observer.message(
                f"Trial {trial.number} is still open in another process, which will write the result "
                "anew."
            )
    with contextlib.suppress(OSError):  # it is not empty, or not there
        work_of(folder).rmdir()
    return found


def _check(hyperband: Hyperband, trials: int) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "tune gives each trial one process. Start the same command several times instead of "
            "through torchrun; the processes share the study."
        )
    for option, value, least in (
        ("--trials", trials, 1),
        ("--least-epochs", hyperband.least, 1),
        ("--reduction-factor", hyperband.factor, 2),
    ):
        if value < least:
            raise UsageError(f"{option} {value}: it takes a number of at least {least}.")
    if hyperband.least > hyperband.epochs:
        raise UsageError(
            f"--least-epochs {hyperband.least}: a trial has {hyperband.epochs} epochs altogether "
            "(--epochs)."
        )


def _check_unused(options: dict[str, Any], distils: bool) -> None:
    for name, value in options.items():
        if value is not None:
            why = "with --teacher the student's weights are those of its folder"
            why = why if distils else "there is no --teacher"
            raise UsageError(f"--{name.replace('_', '-')} {value}: {why}.")


def _named(network: str | Path, download: bool) -> str:
    """A network as a study knows it: a folder by its weights, anything else as it is typed."""
    weights = place(network, download=download) / WEIGHTS
    if not weights.is_file():
        return typed(network)
    return f"the folder of the weights {weights_digest(weights)}"


def _of_all_trials(settings: TrainingSettings, space: Space, *, distils: bool) -> dict[str, Any]:
    """The settings that all trials of a study share, in a form that JSON keeps."""
    unused = set() if distils else set(DISTILLATION)
    left_out = {*INCIDENTAL, *space, *unused}
    found: dict[str, Any] = json.loads(settings.model_dump_json(exclude=left_out))
    return found


@dataclass(frozen=True)
class _Results:
    """What is written in the folder of a study beside the study itself.

    Attributes:
        study: The study.
        settings: The settings of all trials.
        data: The name of the data set.
        described: What was trained on what.
    """

    study: Study
    settings: TrainingSettings
    data: str
    described: str

    def write(self, *, pictures: bool) -> Tuned:
        """Writes the trials so far, and the recipe if one is finished.

        Args:
            pictures: Whether the pictures are written as well, which takes seconds.
        """
        folder, trials = self.study.folder, self.study.trials()
        best, finished = best_of(trials), sum(trial.state == FINISHED for trial in trials)
        add_file(folder, TRIALS, trials_csv(trials).encode())
        if best is not None:
            words = (
                f"Trial {best.number} of `seclcompress tune`, the best of {len(trials)}, of which "
                f"{finished} were finished: {best.accuracy:.2f} % of the held-out images right, "
                f"{self.described}."
            )
            values = {**_of_recipe(self.settings, self.data), **self.study.values_of(best.number)}
            add_file(folder, RECIPE, to_toml(values, words).encode())
        if not pictures:
            return Tuned(folder, trials, best, {})
        importance = self.study.importance()
        add_file(folder, IMPORTANCE_PICTURE, importance_png(importance, finished))
        scales = {
            name: None if isinstance(values, Choices) else values.log
            for name, values in self.study.space.items()
        }
        add_file(folder, TRIALS_PICTURE, trials_png(trials, scales))
        return Tuned(folder, trials, best, importance)


def _of_recipe(settings: TrainingSettings, data: str) -> dict[str, Any]:
    """The settings that were chosen by a person and decide what is learnt.

    The share that was held out is a matter of the study: a run with the recipe learns from all images.
    Only a folder without test images needs it all the same.
    """
    left_out = {*INCIDENTAL, *(("validation",) if has_test_images(data) else ())}
    return settings.model_dump(exclude_unset=True, exclude=left_out)
