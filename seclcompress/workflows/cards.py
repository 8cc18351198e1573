"""The model cards (README.md) of the folders that workflows write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from seclcompress.artefact import CARD, ArtefactConfig, library_versions
from seclcompress.count import Count, count_network
from seclcompress.errors import SeclcompressError
from seclcompress.observer import Observer
from seclcompress.plan import Plan
from seclcompress.report.card import card
from seclcompress.report.card.markdown import code
from seclcompress.report.page.facts import Facts
from seclcompress.resolve import Located
from seclcompress.workflows.locating import beginning
from seclcompress.workflows.planning import plan_network

_UNTRAINED = (
    "**It is not trained:** it is no use before it has been distilled from its original "
    "(`seclcompress distill`). "
)


def card_of_conversion(
    located: Located, config: ArtefactConfig, plan: Plan, count: Count, *, fitted: bool
) -> dict[str, bytes]:
    """The card of a network that was converted and not trained, by the name of its file.

    Args:
        located: The original.
        config: The configuration of the folder.
        plan: The plan of the conversion.
        count: The figures before and after.
        fitted: Whether the new layers were fitted to the original's weights.
    """
    new = (
        "start from the original's weights where their family can"
        if fitted
        else "have random values"
    )
    kept = "those that were kept have no trained weights either"
    whose = _whose_weights(located)
    if whose is not None:
        kept = f"those that were kept have the weights of {code(whose)}"
    facts = _facts(config, plan, count, converted=True)
    text = card(facts, f"{_UNTRAINED}The rewritten layers {new}; {kept}.", fitted=fitted)
    return {CARD: text.encode("utf-8")}


def card_of_import(
    checkpoint: Path, config: ArtefactConfig, plan: Plan, count: Count
) -> dict[str, bytes]:
    """The card of a network that was taken over from the SECL authors, by the name of its file.

    Args:
        checkpoint: Their file.
        config: The configuration of the folder.
        plan: The plan of the conversion.
        count: The figures before and after.
    """
    state = (
        f"It has the weights of {code(checkpoint.name)}, a checkpoint of the SECL authors' programs, "
        "and computes what their network computes. Nothing was trained here."
    )
    facts = _facts(config, plan, count, converted=True)
    return {CARD: card(facts, state, checkpoint=checkpoint.name).encode("utf-8")}


def card_of_slimming(
    located: Located, config: ArtefactConfig, before: int, tell: Callable[[str], object]
) -> dict[str, bytes]:
    """The card of a network that lost channels and was not trained since, by the name of its file.

    Args:
        located: The network with all its channels.
        config: The configuration of the folder.
        before: The parameters that it had.
        tell: Receives a line if there is no card.
    """
    narrowed = replace(located, network=config.network, folder=None, config=None)
    whose = _whose_weights(located)
    weights = "random values" if whose is None else f"the weights of {code(whose)}"
    state = (
        f"It is a network of {before:,} parameters that lost whole channels (`seclcompress slim`); "
        f"those left have {weights}. **It was not trained since**{_what_is_left(config)} "
        "`seclcompress distill` and `seclcompress train` train it."
    )
    return _card(narrowed, config, state, tell)


def _what_is_left(config: ArtefactConfig) -> str:
    """The end of a sentence on a network that lost channels and was not trained since."""
    left, before = (config.metrics.get(name) for name in ("accuracy", "teacher_accuracy"))
    if left is None or before is None:
        return ", and its accuracy was not measured: expect it to be of little use."
    return f": of the test images {left:.2f} % are right, where {before:.2f} % were."


def card_of_run(
    source: Located, config: ArtefactConfig, tell: Callable[[str], object]
) -> dict[str, bytes]:
    """The card of a network that was trained, by the name of its file.

    A network of a person's own code may run in training and still not be traced. That is no reason to
    lose a run, so such a folder gets no card.

    Args:
        source: The network that was trained, as it was located before the run.
        config: The configuration of the folder.
        tell: Receives a line if there is no card.
    """
    return _card(source, config, _state_of_run(config), tell)


def card_of_recovery(
    source: Located, config: ArtefactConfig, tell: Callable[[str], object]
) -> dict[str, bytes]:
    """The card of a network that was recovered from its teacher, by the name of its file.

    Args:
        source: The student, as it was located.
        config: The configuration of the folder.
        tell: Receives a line if there is no card.
    """
    pictures = config.training["recovered"]["pictures"]
    state = (
        "Its rewritten layers took over the outputs of the teacher's, one after another, on "
        f"{pictures:,} pictures (`seclcompress recover`). It was not trained: `seclcompress distill` "
        "makes it better. The error of each layer is in `config.json`."
    )
    return _card(source, config, state, tell)


def _whose_weights(located: Located) -> str | None:
    """The file, or else the folder, that a network's weights come from; None if they are random."""
    began = beginning(located)
    return began["from_weights"] or began["from_folder"]


def _card(
    source: Located, config: ArtefactConfig, state: str, tell: Callable[[str], object]
) -> dict[str, bytes]:
    try:
        planned = plan_network(source, may_be_empty=True, observer=Observer())
        count = count_network(planned.skeleton, planned.trace, planned.plan)
    except SeclcompressError as error:
        tell(f"No {CARD}, which says what the network costs: {error}")
        return {}
    facts = _facts(config, planned.plan, count, converted=planned.saved)
    return {CARD: card(facts, state).encode("utf-8")}


def _facts(config: ArtefactConfig, plan: Plan, count: Count, *, converted: bool) -> Facts:
    dated = config.model_copy(update={"versions": library_versions()})
    return Facts("", dated, count, plan, converted)


def _state_of_run(config: ArtefactConfig) -> str:
    epochs = config.metrics.get("epochs", config.training.get("epochs"))
    how = (
        "learnt from a teacher, by attention transfer and knowledge distillation"
        if config.distilled
        else "was trained without a teacher"
    )
    recovered = config.training.get("recovered")
    if recovered:
        how = (
            f"first took over the outputs of its teacher's layers, on {recovered['pictures']:,} "
            f"pictures, and then {how}"
        )
    decay = config.training.get("ema")
    averaged = (
        f"Its weights are a moving average over the steps (decay {decay:g}). " if decay else ""
    )
    return (
        f"It {how} (epochs: {epochs}). {averaged}All settings are in `config.json`, and the figures of "
        f"each epoch in `metrics.jsonl`. {_how_judged(config)}"
    )


def _how_judged(config: ArtefactConfig) -> str:
    slimmed, validated = config.training.get("slimmed"), "validation_accuracy" in config.metrics
    once = "The test images chose nothing: they were looked at once, at the end."
    if slimmed:
        return (
            f"It lost whole channels meanwhile (`seclcompress slim --method {slimmed['method']}`), from "
            f"{slimmed['parameters']:,} parameters on. {once if validated else ''}".rstrip()
        )
    how = (
        f"chosen on images held out of the training images. {once}"
        if validated
        else "chosen on the test images, so that its accuracy flatters."
    )
    return f"`best.safetensors` has the weights of the best epoch, {how}"
