"""Writing so that what was there before is never lost and nothing half-written is left behind."""

from seclcompress.files.place import EVENTS, OUR_FILES, check_free, remove_ours, set_aside
from seclcompress.files.write import new_folder, write_file

__all__ = [
    "EVENTS",
    "OUR_FILES",
    "check_free",
    "new_folder",
    "remove_ours",
    "set_aside",
    "write_file",
]
