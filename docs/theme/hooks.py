"""What mkdocs asks while it makes the site: pages that stand elsewhere, and links out of docs/.

Documents are written to be read in the repository, where `../CONTRIBUTING.md` is right. On the site a
link leads to the page of the same text if there is one, and else to the file in the repository, whose
address is `[project.urls] Repository` of pyproject.toml. Without that address the words stay, and the
path is said.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Code first, so that what looks like a link in it is not taken for one.
_CODE_OR_LINK = re.compile(
    r"^(?P<fence>```+|~~~+).*?^(?P=fence)|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)"
    r"|(?P<image>!?)\[(?P<words>(?:`[^`]*`|[^\[\]`])*)\]\(\s*(?P<target>[^)\s]+)\s*\)",
    re.DOTALL | re.MULTILINE,
)


def rewritten(
    markdown: str, source: str, elsewhere: Mapping[str, str], root: Path, repository: str | None
) -> str:
    """Turns the links of a document in the repository into links of the site.

    Args:
        markdown: The document.
        source: Its path in the repository.
        elsewhere: Texts outside docs/: the path in the repository by the path of the page.
        root: The repository.
        repository: The address of the repository, under which a file is `/blob/main/PATH`; None if it
            has none.

    Raises:
        PluginError: If a link leads to nothing in the repository.
    """
    places = {text: page for page, text in elsewhere.items()}
    page = places.get(source) or posixpath.relpath(source, "docs")

    def replace(match: re.Match[str]) -> str:
        target, words = match["target"], match["words"]
        if target is None or re.match(r"[a-z]+:|#", target):
            return match[0]
        path, mark, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if not (root / path).exists():
            raise PluginError(f"{source}: [{words}]({target}) leads to {path}, which is not there.")
        there = places.get(path)
        if there is None and path.startswith("docs/"):
            there = posixpath.relpath(path, "docs")
        if there is not None:
            relative = posixpath.relpath(there, posixpath.dirname(page) or ".")
            return f"{match['image']}[{words}]({relative}{mark}{anchor})"
        if repository is not None:
            return f"{match['image']}[{words}]({repository}/blob/main/{path}{mark}{anchor})"
        return words if path in words else f"{words} (`{path}`)"

    return _CODE_OR_LINK.sub(replace, markdown)


def repository_of(root: Path) -> str | None:
    """The repository's address by pyproject.toml, without a slash at its end; None if it names none."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = project.get("urls", {}).get("Repository")
    return None if address is None else str(address).rstrip("/")


def on_config(config: Any) -> Any:
    """Shows the repository's address, if it has one."""
    config.repo_url = repository_of(_root(config))
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages whose text stands elsewhere in the repository."""
    for page, source in config.extra["elsewhere"].items():
        text = (_root(config) / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001
    """Rewrites a page's links."""
    elsewhere = config.extra["elsewhere"]
    path = page.file.src_uri
    source = elsewhere.get(path, f"docs/{path}")
    return rewritten(markdown, source, elsewhere, _root(config), config.repo_url)


def _root(config: Any) -> Path:
    return Path(os.fspath(config.config_file_path)).parent
