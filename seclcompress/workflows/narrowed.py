"""What a narrowed network was before, so that no report takes it for the whole one."""

from __future__ import annotations

from dataclasses import replace

from seclcompress.observer import Observer
from seclcompress.resolve import Located


def before_narrowing(located: Located) -> int | None:
    """The parameters of a narrowed network as its source builds it; None if it is not narrowed."""
    if not located.network.widths:
        return None
    wide = replace(located, network=located.network.model_copy(update={"widths": {}}))
    return sum(parameter.numel() for parameter in wide.skeleton().parameters())


def tell_narrowed(located: Located, observer: Observer) -> None:
    """Reports that the column of the original has a narrowed network's figures."""
    whole = before_narrowing(located)
    if whole is not None:
        observer.message(
            f"{located.label} was narrowed: {located.network.name} itself has {whole:,} parameters. "
            "“Original” below means the narrowed network."
        )
