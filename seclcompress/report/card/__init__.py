"""The model card of a saved folder: a README.md for people, with a head for the Hugging Face Hub.

A card is a function of the folder's figures. It has no times and no paths of the machine that wrote it,
so equal runs give equal bytes, and it can be shown to anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from seclcompress.artefact import ArtefactConfig
from seclcompress.networks import sources
from seclcompress.report.card.front_matter import front_matter, task_name
from seclcompress.report.card.markdown import block, code, plain, table
from seclcompress.report.page.commands import Step, making
from seclcompress.report.page.facts import Facts
from seclcompress.report.page.words import headline, name, times
from seclcompress.substitutions import get as family
from seclcompress.wording import numbers, shape, without_path

__all__ = ["card"]

#: What stands for the folder in commands, which does not know where it will lie.
_FOLDER = "FOLDER"
_MOST_CLASSES = 100  # more are a matter for config.json


def card(facts: Facts, state: str, *, fitted: bool = False, checkpoint: str | None = None) -> str:
    """Writes a model card.

    Args:
        facts: What is known of the folder; where it lies is not shown.
        state: How far its weights are trained, in sentences (Markdown).
        fitted: As in `report.page.commands.making`.
        checkpoint: As there.

    Returns:
        The content of a README.md.
    """
    facts = replace(facts, folder=_FOLDER, config=_without_paths(facts.config))
    sections = {
        "What it is": _what(facts, state),
        "Accuracy": _accuracy(facts),
        "How it was made": _making(facts, making(facts, fitted=fitted, checkpoint=checkpoint)),
        "What it sees": _input(facts),
        "Classes": _classes(facts),
        "Loading it": _loading(facts),
        "What it is not known to be good for": _limits(facts),
    }
    body = [f"# {_title(facts)}", plain(headline(facts))]
    for title, parts in sections.items():
        body += [f"## {title}", *parts] if parts else []
    return front_matter(facts) + "\n" + "\n\n".join(body) + "\n"


def _without_paths(config: ArtefactConfig) -> ArtefactConfig:
    """A configuration without the place where a person's images lie."""
    data = config.training.get("data")
    if not isinstance(data, str):
        return config
    training = {**config.training, "data": without_path(data)}
    return config.model_copy(update={"training": training})


def _title(facts: Facts) -> str:
    network = plain(name(facts.network))
    if not facts.converted:
        return network
    return f"{network}, {times(facts.before.parameters, facts.after.parameters)} times smaller"


def _what(facts: Facts, state: str) -> list[str]:
    task = task_name(facts)
    purpose = "" if task is None else f" for {task}"
    parts = [f"A network{purpose}, made with seclcompress: {code(name(facts.network))}."]
    heads, columns = ["", "this network"], [facts.after]
    if facts.converted:
        count, whole = len(facts.plan.rewritten), len(facts.plan.layers)
        families = "; ".join(f"{code(one)}: {family(one).summary}" for one in facts.plan.families)
        parts[0] += f" {count} of its {whole} {facts.plan.kind} were rewritten ({families})."
        heads = ["", "original", "plain separable", "this network"]
        columns = [facts.before, facts.count.columns["separable"], facts.after]
    size = shape(facts.config.input_size)
    rows = [
        ["parameters", *(f"{one.parameters:,}" for one in columns)],
        [f"Mult-Adds for an input of {size}", *(f"{one.mult_adds:,}" for one in columns)],
    ]
    parts += [table(heads, rows), state]
    if facts.converted:
        parts.append(
            "“Plain separable” is what the same rewrite into plain depthwise and pointwise convolutions "
            "saves; what is special to this network is the step from there. Fewer Mult-Adds are not "
            "always fewer seconds."
        )
    return parts


def _accuracy(facts: Facts) -> list[str]:
    if facts.accuracy is None:
        return ["Not measured."]
    on = code(name(facts.accuracy_on or "unknown data"))
    parts = [f"{facts.accuracy:.2f} % of the test images of {on} are named right (top-1)."]
    if facts.accuracy_before is not None:
        parts[0] += f" Its teacher names {facts.accuracy_before:.2f} % of them right."
    held_out = facts.config.metrics.get("validation_accuracy")
    if held_out is not None:
        parts[0] += (
            f" Of the images that were held out of the training images, {held_out:.2f} % are."
        )
    patient = facts.config.training.get("patience") is not None
    which = "best epoch, chosen on the held-out images" if patient else "last epoch"
    parts.append(
        "Measured by seclcompress at the end of one run with one seed, with the weights of the "
        f"{which}. Another seed gives a somewhat different figure."
    )
    return parts


def _making(facts: Facts, steps: Sequence[Step]) -> list[str]:
    versions = ", ".join(f"{name(k)} {name(v)}" for k, v in facts.config.versions.items())
    parts = [part for one in steps for part in (plain(one.why), block([one.command], "sh"))]
    if not steps:
        parts = ["The folder does not say how."]
    return [*parts, plain(f"Versions: {versions}.")] if versions else parts


def _input(facts: Facts) -> list[str]:
    size = facts.config.input_size
    what = "an image" if len(size) == 3 else "an input"
    words = f"It takes {what} of {shape(size)} (channels first)."
    seen = facts.config.preprocessing
    if seen is None:
        return [words + " How pixel values become its inputs is not known here."]
    crop = (
        "An image that has this size is left as it is; of others the shorter side is resized to 256/224 "
        "of the input's"
        if seen.resize is None
        else f"The shorter side is resized to {seen.resize} pixels"
    )
    return [
        f"{words} {crop} ({seen.interpolation}), and the centre is cropped. Pixel values from 0 to 1 "
        f"lose the mean {numbers(seen.mean)} and are divided by {numbers(seen.std)}."
    ]


def _classes(facts: Facts) -> list[str]:
    classes = facts.config.classes
    if not classes:
        return []
    shown = ", ".join(code(name(one)) for one in classes[:_MOST_CLASSES])
    more = len(classes) - _MOST_CLASSES
    rest = f" and {more:,} more, which stand in `config.json`" if more > 0 else ""
    return [f"{len(classes):,}, in this order: {shown}{rest}."]


def _loading(facts: Facts) -> list[str]:
    network = facts.config.network
    trusted = ""
    parts = ["`pip install 'seclcompress[hub]'`, then:"]
    if sources.get(network.source).runs_foreign_code:
        trusted = f", factory_name={name(network.name, 1000)!r}"
        parts = [
            "The network is built by Python code that is not in this folder, and that will run. With "
            f"that code at hand and {parts[0]}"
        ]
    lines = [
        "import seclcompress",
        "",
        f'network = seclcompress.load("{_FOLDER}"{trusted})  # a torch.nn.Module in eval mode',
        "# or from the Hugging Face Hub, with the owner and the name of the repository:",
        f'network = seclcompress.load("hf://OWNER/NAME", download=True{trusted})',
    ]
    parts.append(block(lines, "python"))
    parts.append(
        f"{_FOLDER} stands for the place of this folder. `seclcompress count`, `evaluate`, `export`, "
        "`bench` and `report` take it, or `hf://OWNER/NAME`, as well. Loading it runs no code of the "
        "folder's: the weights are safetensors and the configuration is JSON."
    )
    return parts


def _limits(facts: Facts) -> list[str]:
    where = facts.accuracy_on if facts.accuracy is not None else None
    if where is None:
        known = "Nothing was measured: it is not known to be good for anything yet."
    else:
        known = (
            f"Only the accuracy above was measured, on the test images of {code(name(where))}. Other "
            "images, other cameras and other classes were not tried."
        )
    lines = [f"- {known}"]
    if facts.converted:
        lines.append(
            "- Compression can cost some classes more than others, which one figure does not show; "
            "`seclcompress report --data …` shows the classes."
        )
    lines.append(
        "- Whether its scores can be read as probabilities, how it takes noise or deliberate attacks, "
        "and whether it treats people fairly, was not looked at. Do not let it decide about people."
    )
    return ["\n".join(lines)]
