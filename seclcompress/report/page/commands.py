"""The commands that make a folder again, each with the reason for it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from seclcompress import hub
from seclcompress.networks import sources
from seclcompress.report.page.facts import Facts
from seclcompress.report.page.words import name
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.training import DISTILLATION, TrainingSettings, in_pairs
from seclcompress.wording import printable, shape

_TAKE_PLAN = (
    "import json, sys; "
    'json.dump(json.load(open(sys.argv[1], encoding="utf-8"))["plan"], sys.stdout)'
)

_MOST_PROCESSES = 4096  # what a stranger's file may make this page suggest


@dataclass(frozen=True)
class Step:
    """A command.

    Attributes:
        why: What it does, in a sentence.
        command: The command for a POSIX shell. Everything that stands in a folder is quoted.
    """

    why: str
    command: str


def steps(facts: Facts) -> list[Step]:
    """The commands that make the folder anew, evaluate the result and write its page."""
    made = making(facts)
    if not made:
        return []
    data = facts.trained_on or facts.data
    if data is not None:
        again = _line("seclcompress", "evaluate", "again", "--data", data, *_trust(facts))
        made.append(Step("Evaluate what came out.", again))
    made.append(Step("Write its page.", report_command(facts, "again", data, "again.html")))
    return made


def making(facts: Facts, *, fitted: bool = False, checkpoint: str | None = None) -> list[Step]:
    """The commands that make the folder anew; none if it does not say how it was made.

    Args:
        facts: What is known of the folder.
        fitted: Whether its rewritten layers started from the original's weights, which no folder says.
        checkpoint: The file of the SECL authors that it was made from, which no folder says either.
    """
    training, recovered = read_settings(facts), _recovered(facts)
    made: list[Step] = []
    if checkpoint is not None:
        made = [_take_over(facts, checkpoint)]
    elif facts.converted and _named(facts, "from_folder") is None:  # that one is converted already
        last = training is None and recovered is None
        made = [_take_plan(facts), _convert(facts, last=last, fitted=fitted)]
    if training is not None:
        made += _train(facts, training, None if recovered is None else recovered[0])
    elif recovered is not None:
        made.append(_recover(facts, *recovered))
    return made


def report_command(facts: Facts, folder: str, data: str | None, output: str) -> str:
    """The command that writes a page with everything that data can tell.

    Args:
        facts: What is known of the folder.
        folder: The folder.
        data: A data set's name; None for a placeholder.
        output: The file to write.
    """
    words = ["--data", data or "NAME", *_trust(facts), "-o", output]
    return _line("seclcompress", "report", folder, *words)


def _trust(facts: Facts) -> list[str]:
    """The option that a folder needs whose network is built by a person's own code."""
    network = facts.config.network
    return ["--factory", network.name] if sources.get(network.source).runs_foreign_code else []


def read_settings(facts: Facts) -> TrainingSettings | None:
    """The settings of the folder's training run; None if there was none, or a stranger wrote others."""
    known = TrainingSettings.model_fields
    given = {key: value for key, value in facts.config.training.items() if key in known}
    if "epochs" not in given or facts.trained_on is None:
        return None
    try:
        return TrainingSettings.model_validate(given)
    except ValidationError:
        return None


def flags(settings: BaseModel, leave_out: tuple[str, ...] = ()) -> list[str]:
    """Spells the settings that are not the defaults as on the command line."""
    words: list[str] = []
    for key in settings.model_dump(exclude_defaults=True, exclude=set(leave_out)):
        value, flag = getattr(settings, key), "--" + key.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words += [flag, spelled(value)]
    return words


def spelled(value: Any) -> str:
    """A setting's value as on the command line."""
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return in_pairs(value)
    return str(value)


def _take_plan(facts: Facts) -> Step:
    folder, before = facts.folder.rstrip("/"), ""
    if hub.is_reference(facts.folder):  # Python opens no such name
        reference, folder = hub.parse(facts.folder), "downloaded"
        at = [] if reference.revision is None else ["--revision", reference.revision]
        into = ["--local-dir", folder]
        before = _line("hf", "download", reference.repository, "config.json", *at, *into) + " && "
    return Step(
        "Take the plan out of this folder: what becomes of each layer.",
        f"{before}{_line('python', '-c', _TAKE_PLAN, f'{folder}/config.json')} > plan.json",
    )


def _take_over(facts: Facts, checkpoint: str) -> Step:
    riffled = any(layer.config.get("extra_riffle") for layer in facts.plan.rewritten)
    option = ["--option", "extra_riffle=true"] if riffled else []
    words = ["convert", *_head(facts), "--from-secl", checkpoint, *option, "-o", "again"]
    return Step("Take over the authors' checkpoint.", _line("seclcompress", *words))


def _head(facts: Facts) -> list[str]:
    """The original by its name, and its number of classes."""
    classes = facts.config.network.num_classes
    return [facts.network, *([] if classes is None else ["--num-classes", str(classes)])]


def _convert(facts: Facts, *, last: bool, fitted: bool) -> Step:
    seed = ["--seed", str(facts.config.seed)] if facts.config.seed else []
    start = ["--start", "original"] if fitted else []
    if last:
        network = [*_head(facts), "--input-size", shape(facts.config.input_size)]
        output = "again"
        why = "Convert the original with it. For its trained layers add --weights, or name its folder."
    else:
        network, output = ["ORIGINAL", *_trust(facts)], "student"
        why = (
            "Convert the original with it. ORIGINAL is the folder of the trained original, which this "
            "folder does not name."
        )
    words = ["convert", *network, "--plan", "plan.json", *seed, *start, "-o", output]
    return Step(why, _line("seclcompress", *words))


def _recovered(facts: Facts) -> tuple[RecoverySettings, int] | None:
    """The settings and the seed of the folder's recovery; None if there was none, or a stranger's."""
    record = facts.config.training.get("recovered")
    if not isinstance(record, dict) or facts.trained_on is None:
        return None
    seed = record.get("seed")
    try:
        given = {key: record[key] for key in RecoverySettings.model_fields if key in record}
        known = seed if isinstance(seed, int) and 0 <= seed < 2**32 else 0
        return RecoverySettings.model_validate(given), known
    except ValidationError:
        return None


def _recover(facts: Facts, settings: RecoverySettings, seed: int, output: str = "again") -> Step:
    folder = _named(facts, "from_folder")
    student = "student" if folder is None else _place(folder)
    teacher, _ = _teacher(facts)
    options = ["--data", facts.trained_on or "", *flags(settings)]
    options += ["--seed", str(seed)] if seed else []
    return Step(
        "Recover it from its original with the settings of this folder's recovery.",
        _line("seclcompress", "recover", student, *teacher, *options, *_trust(facts), "-o", output),
    )


def _train(
    facts: Facts, settings: TrainingSettings, recovery: RecoverySettings | None
) -> list[Step]:
    size = ["--input-size", shape(facts.config.input_size)]
    network = ["student"] if facts.converted else [facts.network, *size]
    folder, weights = _named(facts, "from_folder"), _named(facts, "from_weights")
    if folder is not None:
        network = [_place(folder), *size]
    if weights is not None:
        key = _named(facts, "from_weights_key")
        network += [f"--weights={weights}", *([] if key is None else [f"--weights-key={key}"])]
    unused: tuple[str, ...] = ()
    first: list[Step] = []
    more: list[str] = []
    if recovery is not None:
        if set(recovery.model_dump(exclude_defaults=True)) <= {"pictures"}:
            more = ["--recover", *flags(recovery)]
        else:  # `distill` takes no other settings of a recovery
            first = [_recover(facts, recovery, settings.seed, "recovered")]
            network = ["recovered"]
    if facts.config.distilled:
        what, (teacher, who) = "distill", _teacher(facts)
        why = f"Distil it with the settings of this folder's run. {who}"
    else:
        what, teacher, unused = "train", [], DISTILLATION
        why = "Train it with the settings of this folder's run."
    why += _beginning(facts, folder, weights)
    options = ["--data", facts.trained_on or "", *more, *flags(settings, unused)]
    if facts.converted or folder is not None or teacher:  # one of them is a folder, or may be
        options += _trust(facts)
    line = _line(*_program(facts), what, *network, *teacher, *options, "-o", "again")
    return [*first, Step(why, line)]


def _teacher(facts: Facts) -> tuple[list[str], str]:
    """The options that name the teacher, and a sentence on it, as far as the folder knows it."""
    folder, network = _named(facts, "teacher_folder"), _named(facts, "teacher_network")
    weights, key = _named(facts, "teacher_weights"), _named(facts, "teacher_weights_key")
    if folder is None and network is None:
        return ["--teacher", "TEACHER"], (
            "TEACHER is the network that it learnt from, most often ORIGINAL."
        )
    options = [f"--teacher={network if folder is None else _place(folder)}"]
    options += [] if weights is None else [f"--teacher-weights={weights}"]
    options += [] if key is None else [f"--teacher-weights-key={key}"]
    return options, (
        f"It learnt from {name(folder or network or '')}; put the path before the name of a folder or "
        "of a file."
    )


def _place(folder: str) -> str:
    """A folder by the name that is known of it; a repository of the Hub has its whole name."""
    return folder if hub.is_reference(folder) else f"./{folder}"


def _named(facts: Facts, key: str) -> str | None:
    """What a run began with, by its key in the folder's `training`; None if with nothing of the kind."""
    value = facts.config.training.get(key)
    return value if isinstance(value, str) and value else None


def _beginning(facts: Facts, folder: str | None, weights: str | None) -> str:
    """Says where the run began, as far as the folder knows it, which has names without paths."""
    if "from_folder" not in facts.config.training:
        return (
            " This folder does not say where the run began: if it began from trained weights, name "
            "them (--weights, or the folder they are in)."
        )
    if folder is None and weights is None:
        return ""
    began = " and ".join(
        f"{what} {name(value)}"
        for what, value in (("the folder", folder), ("the weights", weights))
        if value is not None
    )
    where = " It has to be downloaded (--download)." if hub.is_reference(folder) else ""
    path = "" if hub.is_reference(folder) and weights is None else "; put the path before the name"
    return f" The run began from {began}{path}.{where}"


def _program(facts: Facts) -> list[str]:
    """The program, started in as many processes as the folder's run had."""
    processes = facts.config.training.get("processes")
    if isinstance(processes, int) and 1 < processes <= _MOST_PROCESSES:
        return ["torchrun", "--nproc-per-node", str(processes), "-m", "seclcompress"]
    return ["seclcompress"]


def _line(*words: str) -> str:
    return shlex.join(printable(word) for word in words)
