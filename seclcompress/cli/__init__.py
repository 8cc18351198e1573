"""The `seclcompress` command. It parses options, calls `workflows`, and prints; it computes nothing.

The import of torch takes seconds. So these modules import torch, and modules that need it, inside the
functions that do the work, and `--help` and usage errors appear at once.
"""

from seclcompress.cli.app import app, main

__all__ = ["app", "main"]
