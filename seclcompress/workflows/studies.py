"""A study of Optuna in a folder: which trial is next, which values it tries, what became of it.

Several processes may work on one study at once. Each holds a lock on the trial that it is at, which
vanishes with the process, so a trial without one has lost its process and is taken up by the next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seclcompress.data.order import seed_of
from seclcompress.errors import ArtefactError, UsageError
from seclcompress.files import note
from seclcompress.files.system import Taken, claim, is_claimed, locked
from seclcompress.report import tuning as report
from seclcompress.settings.search import Choices, Space, Values
from seclcompress.workflows.output import Output
from seclcompress.workflows.runs import InterruptedRunError
from seclcompress.workflows.storage import STORAGE, import_optuna, open_study, quietly

if TYPE_CHECKING:
    import optuna

_ABOUT = "about"  # an attribute of the study
#: Attributes of a trial.
_RUNNING, _DEATHS, _FIGURES, _REASON = "running", "deaths", "figures", "reason"
_ERROR, _BEHIND = "error", "behind"
#: A trial whose process died this often (for want of memory, say), or ended with an error, is given up.
_MOST_DEATHS = 3
#: Random trials in each bracket of Hyperband before earlier ones are learnt from. Optuna's 10 would make
#: a study of 30 trials random altogether.
_RANDOM_TRIALS = 5


@dataclass(frozen=True)
class Hyperband:
    """When Hyperband stops a trial.

    Attributes:
        epochs: The epochs of a trial that is not stopped.
        least: The epochs after which a trial may be stopped first.
        factor: Of the trials that come to such an epoch, one in this many goes on; the next such epoch
            is this many times later.
    """

    epochs: int
    least: int = 1
    factor: int = 3


def work_of(folder: Path) -> Path:
    """The folder `<output>.trials`, which holds the runs of trials in progress."""
    return Output(folder).beside(".trials")


def place_of(folder: Path, number: int) -> Path:
    """The folder of a trial's run."""
    return work_of(folder) / f"trial-{number:04}"


def claim_of(folder: Path, number: int) -> Path:
    """The empty folder that the process at a trial has claimed."""
    place = place_of(folder, number)
    return place.with_name(place.name + ".claim")


def living(folder: Path) -> list[int]:
    """The numbers of the trials that processes are at just now."""
    claims = sorted(work_of(folder).glob("trial-*.claim"))
    return [int(path.stem.removeprefix("trial-")) for path in claims if is_claimed(path)]


@dataclass(frozen=True)
class Current:
    """The trial that this process is at.

    Attributes:
        trial: Optuna's trial.
        values: The values to try, by the names of the settings.
        again: Whether an earlier process had begun it.
    """

    trial: optuna.Trial
    values: dict[str, Any]
    again: bool

    @property
    def number(self) -> int:
        """The trial's number, from 0."""
        return int(self.trial.number)

    def report(self, epoch: int, accuracy: float, figures: Mapping[str, Any]) -> bool:
        """Reports an epoch; returns whether Hyperband stops the trial here.

        Args:
            epoch: From 1.
            accuracy: On the held-out images, in percent.
            figures: `loss` and `test_accuracy` of the epoch, and `seconds` of all epochs so far.
        """
        self.trial.set_user_attr(_FIGURES, dict(figures))
        self.trial.report(accuracy, epoch)
        return self.is_behind(epoch)

    def is_behind(self, epoch: int) -> bool:
        """Whether Hyperband stops the trial after this epoch, the last that was reported.

        The answer is noted, as Hyperband gives it once: a process may die before it stops the run.
        """
        if self.trial.user_attrs.get(_BEHIND) == epoch:
            return True
        behind = bool(self.trial.should_prune())
        if behind:
            self.trial.set_user_attr(_BEHIND, epoch)
        return behind

    def reported(self, epoch: int) -> bool:
        """Whether the study has heard of an epoch, from this process or an earlier one."""
        study, number = self.trial.study, self.trial.number
        return epoch in study.get_trials(deepcopy=False)[number].intermediate_values


class Study:
    """A study in a folder, which is made if it is not there.

    Args:
        folder: The folder of the study.
        about: What the trials have in common, in a form that JSON keeps. A study that was begun with
            anything else is refused.
        space: What is tried.
        seed: The seed of the values to try. Those of a trial depend on it, the trial's number, and the
            trials before it.
        hyperband: When a trial is stopped.

    Raises:
        UsageError: If Optuna is not installed, or the study was begun with other settings.
        ArtefactError: If the study cannot be read or written.
    """

    def __init__(
        self, folder: Path, about: Mapping[str, Any], space: Space, seed: int, hyperband: Hyperband
    ) -> None:
        self._optuna = import_optuna()
        self.folder, self.space, self._seed = folder, space, seed
        pruner = self._optuna.pruners.HyperbandPruner(
            hyperband.least, hyperband.epochs, hyperband.factor
        )
        note(folder, f"{STORAGE}*")
        with self._quietly(), locked(folder):
            self._study = open_study(self._optuna, folder, pruner)
            earlier = self._study.user_attrs.get(_ABOUT)
            if earlier is None:
                self._study.set_user_attr(_ABOUT, dict(about))
            elif earlier != about:
                raise UsageError(_different(folder, earlier, about))

    def _quietly(self) -> contextlib.AbstractContextManager[None]:
        return quietly(self._optuna, self.folder)

    @contextlib.contextmanager
    def next_trial(self, wanted: int) -> Iterator[Current | None]:
        """Takes a trial for the duration of a block: one whose process has died, or a new one.

        Args:
            wanted: The number of trials of the whole study.

        Yields:
            The trial; None if there are as many as wanted. If the block raises, a later call takes the
            same trial up again, but gives it up after the third error.
        """
        with contextlib.ExitStack() as stack:
            with self._quietly(), locked(self.folder):
                trial, again = self._take(wanted, stack)
            if trial is None:
                yield None
                return
            with self._quietly():
                values = self._propose(trial)
            failed = False
            try:
                yield Current(trial, values, again)
            except InterruptedRunError:
                raise
            except Exception as error:
                # It stays "running", which counts as a death: an error that comes again and again must
                # not keep the study from its other trials.
                failed = True
                with contextlib.suppress(ArtefactError):  # that of the trial matters more
                    self._note(trial, _ERROR, str(error))
                raise
            finally:  # it is not if the process is killed
                if not failed:
                    self._note(trial, _RUNNING, False)

    def _note(self, trial: optuna.Trial, attribute: str, value: Any) -> None:
        """Notes an attribute of a trial that has not ended."""
        with self._quietly():
            if not self._frozen(trial.number).state.is_finished():
                trial.set_user_attr(attribute, value)

    def _take(self, wanted: int, stack: contextlib.ExitStack) -> tuple[optuna.Trial | None, bool]:
        """A trial of which this process has the lock, and whether it was begun before."""
        trials = self._study.get_trials(deepcopy=False)
        for frozen in trials:
            if frozen.state.is_finished() or not self._claimed(frozen.number, stack):
                continue
            self._study.sampler = self._sampler(frozen.number)
            # The only way to a trial of another process that can be reported to.
            trial = self._optuna.Trial(self._study, frozen._trial_id)
            deaths = frozen.user_attrs.get(_DEATHS, 0) + bool(frozen.user_attrs.get(_RUNNING))
            if deaths < _MOST_DEATHS:
                trial.set_user_attr(_DEATHS, deaths)
                trial.set_user_attr(_RUNNING, True)
                return trial, True
            error = frozen.user_attrs.get(_ERROR)
            last = "" if error is None else f"; its last error: {error}"
            trial.set_user_attr(_REASON, f"its process died {deaths} times{last}")
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
            stack.close()
        if len(trials) >= wanted:
            return None, False
        # Optuna draws the values of a trial when it is made, or when the first is asked for.
        self._study.sampler = self._sampler(len(trials))
        trial = self._study.ask()
        if not self._claimed(trial.number, stack):  # somebody has put a study aside and back
            raise ArtefactError(
                f"Another process is at trial {trial.number} of {self.folder}. Wait for its end."
            )
        trial.set_user_attr(_RUNNING, True)
        return trial, False

    def _claimed(self, number: int, stack: contextlib.ExitStack) -> bool:
        try:
            stack.enter_context(claim(claim_of(self.folder, number)))
        except Taken:
            return False
        except OSError as error:
            raise ArtefactError(
                f"Cannot write {work_of(self.folder)}: {error.strerror or error}."
            ) from error
        return True

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Chooses the values of a trial, by its number."""
        return self._optuna.samplers.TPESampler(
            n_startup_trials=_RANDOM_TRIALS,
            multivariate=True,
            constant_liar=True,  # processes side by side try different values
            seed=seed_of(self._seed, number) % 2**32,
        )

    def _propose(self, trial: optuna.Trial) -> dict[str, Any]:
        """The values that a trial tries; those of one that was begun before stay the same."""
        found: dict[str, Any] = {}
        for name, values in self.space.items():
            found[name] = self._value(name, _suggested(trial, name, values))
        return found

    def finish(self, current: Current, accuracy: float, tested: float | None = None) -> None:
        """Notes that a trial has done all its epochs: its accuracy, and that on other test images."""
        with self._quietly():
            if tested is not None:
                figures = {**current.trial.user_attrs[_FIGURES], "test_accuracy": tested}
                current.trial.set_user_attr(_FIGURES, figures)
            self._study.tell(current.trial, accuracy)

    def give_up(self, current: Current, reason: str = "") -> None:
        """Notes that a trial was stopped, or with a reason that its settings are unsuitable."""
        with self._quietly():
            current.trial.set_user_attr(_REASON, reason)
            self._study.tell(current.trial, state=self._optuna.trial.TrialState.PRUNED)

    def trials(self) -> list[report.Trial]:
        """All trials so far, by their numbers."""
        with self._quietly():
            return [self._report(frozen) for frozen in self._study.get_trials(deepcopy=False)]

    def _frozen(self, number: int) -> optuna.trial.FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def _report(self, frozen: optuna.trial.FrozenTrial) -> report.Trial:
        states = self._optuna.trial.TrialState
        reason = frozen.user_attrs.get(_REASON, "")
        state = {
            states.COMPLETE: report.FINISHED,
            states.PRUNED: report.UNSUITABLE if reason else report.STOPPED,
            states.FAIL: report.FAILED,
        }.get(frozen.state, report.OPEN)
        values = {
            name: str(value if isinstance(kind, Choices) else kind.value(value))
            for name, kind in self.space.items()
            if (value := frozen.params.get(name)) is not None
        }
        figures = frozen.user_attrs.get(_FIGURES, {})
        curve = dict(frozen.intermediate_values)
        return report.Trial(frozen.number, state, values, curve, reason=reason, **figures)

    def values_of(self, number: int) -> dict[str, Any]:
        """The values that a trial has tried, by the names of the settings."""
        with self._quietly():
            tried = self._frozen(number).params
        return {name: self._value(name, value) for name, value in tried.items()}

    def _value(self, name: str, given: Any) -> Any:
        """The value of a setting for what Optuna knows it by."""
        kind = self.space[name]
        return kind.values[given] if isinstance(kind, Choices) else kind.value(given)

    def importance(self) -> dict[str, float]:
        """The share of the differences in accuracy that each setting explains, by fANOVA.

        Returns:
            Shares that add up to 1; empty if the finished trials are too few to tell.
        """
        importance = self._optuna.importance
        with self._quietly():
            finished = [trial for trial in self.trials() if trial.state == report.FINISHED]
            if len({trial.accuracy for trial in finished}) < 2:
                return {}
            found = importance.get_param_importances(
                self._study, evaluator=importance.FanovaImportanceEvaluator(seed=0)
            )
        return {name: float(share) for name, share in found.items()}


def _suggested(trial: optuna.Trial, name: str, values: Values) -> Any:
    """What a trial shall try of a setting, in the form in which Optuna keeps it."""
    if isinstance(values, Choices):
        return trial.suggest_categorical(name, [*values.values])
    low, high, step, log = values.low, values.high, values.step, values.log
    if values.whole:
        return trial.suggest_int(name, int(low), int(high), step=int(step or 1), log=log)
    return trial.suggest_float(name, low, high, step=step, log=log)


def _different(folder: Path, earlier: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Says in what a study was begun differently."""
    parts = [
        f"{name} was {earlier.get(name, 'none')}, not {about.get(name, 'none')}"
        for name in {**earlier, **about}
        if earlier.get(name) != about.get(name)
    ]
    return (
        f"The study in {folder} was begun with other settings: {'; '.join(sorted(parts))}. Go on with "
        "the same ones, choose another place, or start anew with --overwrite."
    )
