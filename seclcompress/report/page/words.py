"""What the page and the command say in a sentence."""

from __future__ import annotations

from seclcompress.errors import short
from seclcompress.report.page.facts import Facts
from seclcompress.wording import printable

_LONGEST = 60  # characters of a stranger's name in a sentence
_MANY = 1000  # test images, of which one is 0.1 points
_SHOWN = 0.005  # points of accuracy; less is not seen in two decimals


def name(text: str, longest: int = _LONGEST) -> str:
    """A name from a file, without control characters and of limited length."""
    return short(printable(text).replace("\n", "\\n"), longest)


def times(before: int, after: int) -> str:
    """How many times smaller a quantity is: `35.8`; a dash where nothing is left."""
    return f"{before / after:,.1f}" if after > 0 and before > 0 else "–"


def headline(facts: Facts) -> str:
    """The sentence that a person would repeat: what became how much smaller, at what loss."""
    network = name(facts.network)
    if not facts.converted:
        accuracy = _reached(facts)
        return (
            f"{network} has {facts.before.parameters:,} parameters{accuracy}; it is not converted."
        )
    return (
        f"{network} became {times(facts.before.parameters, facts.after.parameters)} times smaller: "
        f"{facts.after.parameters:,} parameters instead of {facts.before.parameters:,}"
        f"{_loss(facts)}"
    )


def _reached(facts: Facts) -> str:
    if facts.accuracy is None:
        return ""
    return f" and names {facts.accuracy:.2f} % of the test images{_of(facts)} right"


def _of(facts: Facts) -> str:
    return "" if facts.accuracy_on is None else f" of {name(facts.accuracy_on)}"


def _loss(facts: Facts) -> str:
    if facts.accuracy is None:
        return ". What that costs in accuracy is not measured yet."
    if facts.accuracy_before is None:
        return f". It names {facts.accuracy:.2f} % of the test images{_of(facts)} right."
    if facts.taught_by_another:
        return (
            f". It names {facts.accuracy:.2f} % of the test images{_of(facts)} right, and its teacher, "
            f"{name(facts.teacher or '')}, {facts.accuracy_before:.2f} %."
        )
    lost, few = facts.accuracy_before - facts.accuracy, _few(facts)
    if abs(lost) < _SHOWN:
        if few:
            return (
                f". On these images{_of(facts)} it is as accurate as before: {facts.accuracy:.2f} %"
                f"{few}."
            )
        return f", without a loss of accuracy{_on(facts)}: {facts.accuracy:.2f} % as before."
    change = "a loss" if lost >= 0 else "a gain"
    return (
        f", for {change} of {abs(lost):.2f} points of accuracy{_on(facts)}: "
        f"{facts.accuracy:.2f} % instead of {facts.accuracy_before:.2f} %{few}."
    )


def _few(facts: Facts) -> str:
    """What one image counts, where the test images are few; else nothing."""
    number = facts.test_images
    if number is None or number >= _MANY:
        return ""
    return f" ({number} test images; one of them is {100 / number:.2g} points)"


def _on(facts: Facts) -> str:
    return "" if facts.accuracy_on is None else f" on {name(facts.accuracy_on)}"
