"""The `seclcompress` command: parse, call, print, exit code. Nothing is computed here.

torch takes seconds to import, so the modules of this folder import it, and whatever needs it, inside
the functions that do the work: `--help` and usage errors come at once.
"""

from seclcompress.cli.app import app, main

__all__ = ["app", "main"]
