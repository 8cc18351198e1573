"""Writes files and folders whole or not at all; an earlier file or folder is never lost."""

from seclcompress.files.cache import Cache
from seclcompress.files.manifest import MANIFEST, ManifestError
from seclcompress.files.place import (
    check_free,
    is_ours,
    missing_folder,
    our_files,
    remove_ours,
    set_aside,
)
from seclcompress.files.write import add_file, give_second_name, note, write_file, write_folder

__all__ = [
    "MANIFEST",
    "Cache",
    "ManifestError",
    "add_file",
    "check_free",
    "give_second_name",
    "is_ours",
    "missing_folder",
    "note",
    "our_files",
    "remove_ours",
    "set_aside",
    "write_file",
    "write_folder",
]
