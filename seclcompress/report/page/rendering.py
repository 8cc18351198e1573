"""The templates of pages: everything is escaped, and styles stand in the page."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, **values: Any) -> str:
    """Fills a template of this package.

    Args:
        template: Its file name.
        values: What it shows, beside `style`.

    Returns:
        An HTML document that loads nothing: styles and pictures are in it, and it has no scripts.
    """
    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=Markup(style), **values)
