"""Whether downloads show how far they are: by the bars of the libraries that do them, on standard error.

The library shows nothing; the command line switches the bars on where a person looks at its progress.
"""

from __future__ import annotations

_shown = False


def show_progress(shown: bool) -> None:
    """Switches the bars of all later downloads of this process on or off."""
    global _shown
    _shown = shown


def progress_is_shown() -> bool:
    """Whether a download shows its progress."""
    return _shown
