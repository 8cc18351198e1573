"""The search space of `tune` as a person writes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seclcompress.errors import UsageError
from seclcompress.settings.search import Choices, Range, parse_space
from seclcompress.settings.training import INCIDENTAL, TrainingSettings


def one(text: str) -> Choices | Range:
    [values] = parse_space([text]).values()
    return values


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("lr=0.01..0.4:log", Range(0.01, 0.4, log=True)),
        ("lr = 0.01 .. 1", Range(0.01, 1.0)),
        ("cutout=0..16:4", Range(0, 16, step=4, whole=True)),
        ("batch_size=16..256:log", Range(16, 256, log=True, whole=True)),
        ("temperature=1..8:0.5", Range(1.0, 8.0, step=0.5)),
        ("factor_decay=1e-6..1e-3:log", Range(1e-6, 1e-3, log=True)),
        ("--factor-lr=0.1..1", Range(0.1, 1.0)),
        ("batch-size=64,128", Choices({"64": 64, "128": 128})),
        (
            "factor_decay=ratio,fixed,1e-5",
            Choices({"ratio": "ratio", "fixed": "fixed", "1e-05": 1e-5}),
        ),
        ("flip=true,false", Choices({"true": True, "false": False})),
        ("factor_lr=none,0.5", Choices({"none": None, "0.5": 0.5})),
        ("optimizer=sgd,adamw", Choices({"sgd": "sgd", "adamw": "adamw"})),
        ("taps=a,b|c", Choices({"a,b": ("a", "b"), "c": ("c",)})),
        (
            "group_decay=gains=0|gains=1e-4",
            Choices({"gains=0": {"gains": 0.0}, "gains=0.0001": {"gains": 1e-4}}),
        ),
        ("lr=0.1,0.10,0.2", Choices({"0.1": 0.1, "0.2": 0.2})),
    ],
)
def test_values_are_what_the_settings_take(text: str, found: Choices | Range) -> None:
    assert one(text) == found
    name = next(iter(parse_space([text])))
    assert one(f"{name}={found}") == found  # a space is compared by its spelling
    for value in found.values.values() if isinstance(found, Choices) else (found.low, found.high):
        assert getattr(TrainingSettings.model_validate({name: value}), name) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lrr=1,2", "there is no setting lrr. Did you mean lr?"),
        ("zzz=1,2", "there is no setting zzz. There are: epochs, batch_size"),
        ("lr", "it takes NAME=VALUES, as lr=0.01..0.4:log"),
        ("lr=", "it takes NAME=VALUES"),
        ("=1,2", "it takes NAME=VALUES"),
        ("lr=0.1", "one value is no choice"),
        ("lr=0.1,0.1", "one value is no choice"),
        ("lr=-1..3", r"lr: Input should be greater than 0 \(got '-1'\)"),
        ("lr=0.1,x", "lr: Input should be a valid number"),
        ("lr=0.1,none", "lr: Input should be a valid number"),
        ("lr=0.1..inf", "lr: "),
        ("batch_size=1.5..3", "batch_size: Input should be a valid integer"),
        ("lr=3..1", "the range goes from 3 down to 1"),
        ("lr=1..1", "the range goes from 1 down to 1"),
        ("momentum=0..0.9:log", "a logarithmic range cannot begin at 0"),
        ("cutout=1..8:3.5", "after the colon comes log, or a step of at most 7, a whole number"),
        ("lr=1..2:3", "after the colon comes log, or a step of at most 1."),
        ("lr=1..2:lin", "after the colon comes log"),
        ("flip=false..true", "flip has no range"),
        ("optimizer=sgd..adamw", "optimizer has no range"),
        ("epochs=10..20", "epochs cannot be searched: it is what the trials are given more or"),
        ("patience=1,2", "patience cannot be searched: a study has a way of its own to stop runs"),
        ("validation=0.1,0.2", "validation cannot be searched: the trials are compared on"),
        *((f"{name}=1,2", f"{name} cannot be searched") for name in sorted(INCIDENTAL)),
    ],
)
def test_what_will_not_do(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        parse_space([text])
    assert str(raised.value).startswith(f"--search {text}: ")


def test_several_and_none() -> None:
    assert list(parse_space(["lr=1,2", "cutout=0,4"])) == ["lr", "cutout"]
    with pytest.raises(UsageError, match="lr is given twice"):
        parse_space(["lr=1,2", "lr=3..4"])
    with pytest.raises(UsageError, match="There is nothing to try"):
        parse_space([])
    assert list(parse_space(["alpha=0..1"])) == ["alpha"]
    with pytest.raises(UsageError, match="alpha is used with a teacher only"):
        parse_space(["alpha=0..1"], distils=False)


ends = st.floats(1e-9, 1e9)


@given(ends, ends, st.floats(0, 1))
def test_a_value_is_short_and_within_its_range(one_end: float, other: float, where: float) -> None:
    low, high = sorted((one_end, other))
    number = min(max(low + where * (high - low), low), high)
    value = Range(low, high).value(number)
    assert low <= value <= high
    assert value in (low, high) or value == float(f"{value:.4g}")
    assert abs(value - number) <= 1e-3 * number
    assert Range(1, 9, whole=True).value(3.0) == 3
