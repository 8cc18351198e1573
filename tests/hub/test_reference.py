"""What names a repository: nothing in it may lead out of a cache, whatever a person types."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seclcompress.errors import UsageError
from seclcompress.hub.reference import Reference, is_reference, parse

_PART = st.from_regex(r"[a-zA-Z0-9_]([a-z.-]?[A-Z0-9_]){0,20}", fullmatch=True)


def test_what_it_names() -> None:
    assert parse("hf://ann/small") == Reference("ann/small")
    assert parse("hf://ann/small@v1.2") == Reference("ann/small", "v1.2")
    assert parse("hf://ann/small@refs/pr/3").revision == "refs/pr/3"
    commit = "0123456789abcdef" * 2 + "01234567"
    assert parse(f"hf://ann/small@{commit}").commit == commit
    assert parse(f"hf://ann/small@{commit[:39]}").commit is None
    assert parse("hf://ann/small").commit is None
    assert parse("hf://ann/small@v1").at(None) == Reference("ann/small")


@given(_PART, _PART, st.none() | _PART)
def test_spelled_and_read_it_is_the_same(owner: str, name: str, revision: str | None) -> None:
    reference = Reference(f"{owner}/{name}", revision)
    assert parse(str(reference)) == reference
    assert is_reference(str(reference))


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "hf://",
            "hf://ann",
            "hf:///small",
            "hf://ann/",
            "hf://ann/small/more",
            "hf://ann/sm all",
        ),
        *("hf://../etc", "hf://ann/..", "hf://ann/a..b", "hf://ann/a--b", "hf://ann/small.git"),
        *("hf://ann/-small", "hf://ann/small.", "hf://änn/small", f"hf://ann/{'x' * 97}"),
        *("hf://ann/small@", "hf://ann/small@../../x", "hf://ann/small@/etc", "hf://ann/small@-x"),
        *(
            "hf://ann/small@a//b",
            "hf://ann/small@a\nb",
            "hf://ann/small@v1@v2",
            "hf://ann\\x/small",
        ),
        *("ann/small", "HF://ann/small", "http://ann/small"),
    ],
)
def test_what_names_none_is_refused_in_words(typed: str) -> None:
    with pytest.raises(UsageError, match=r"hf://|the Hub has no|after the @"):
        parse(typed)


@given(st.text(max_size=30))
def test_whatever_is_typed_leads_nowhere_else(text: str) -> None:
    try:
        found = parse("hf://" + text)
    except UsageError:
        return
    for part in (*found.repository.split("/"), *(found.revision or "x").split("/")):
        assert part not in ("", ".", "..")
        assert part.isascii()
        assert "\\" not in part


def test_a_path_is_never_one() -> None:
    assert not is_reference(Path("hf://ann/small"))
    assert not is_reference("resnet18")
