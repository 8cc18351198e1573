"""Text as Markdown and values as YAML. What is put in may come from a stranger's folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seclcompress.wording import printable

#: What could begin a link, a picture, a tag, code, emphasis or a cell of a table. An underline between
#: letters or digits, as in `wrn10_1`, begins nothing.
_SPECIAL = re.compile(r"([\\`*\[\]<>|&$]|(?<![^\W_])_|_(?![^\W_]))")


def plain(text: str) -> str:
    """A text in one line in which nothing is markup."""
    return _SPECIAL.sub(r"\\\1", _line(text))


def code(text: str) -> str:
    """A name as it is typed, in a line or a cell of a table."""
    shown = _line(text).replace("|", r"\|")
    if "`" not in shown:
        return f"`{shown}`"
    longest = max(map(len, re.findall("`+", shown)))
    return f"{'`' * (longest + 1)} {shown} {'`' * (longest + 1)}"


def block(lines: Iterable[str], language: str) -> str:
    """Lines of code; none of them can end the block."""
    text = "\n".join(lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; numbers stand on the right. The cells are Markdown."""
    aligned = ["---", *(["---:"] * (len(heads) - 1))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, aligned, *rows))


#: What YAML 1.1 takes for a truth value or for nothing, and not for a text, where it is not quoted.
_NO_TEXTS = frozenset("y n yes no on off true false null".split())


def yaml(value: Any, indent: int = 0) -> str:
    """Mappings and lists in YAML's block style; texts and numbers as JSON, which YAML takes as it is."""
    space = " " * indent
    if isinstance(value, Mapping):
        lines = []
        for key, item in value.items():
            nested = isinstance(item, Mapping | list)
            lines.append(
                f"{space}{_key(key)}:\n{yaml(item, indent + 2)}"
                if nested
                else f"{space}{_key(key)}: {yaml(item)}"
            )
        return "\n".join(lines)
    if isinstance(value, list):
        return "\n".join(f"{space}- {yaml(item, indent + 2).lstrip()}" for item in value)
    text = json.dumps(_line(value) if isinstance(value, str) else value, ensure_ascii=False)
    if isinstance(value, float) and "." not in text:  # YAML 1.1 takes 1e-05 for a text
        text = text.replace("e", ".0e")
    return text


def _key(name: str) -> str:
    return json.dumps(name) if name.lower() in _NO_TEXTS else name


def _line(text: str) -> str:
    return printable(text).replace("\n", "\\n")
