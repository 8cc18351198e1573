"""The settings on a page: a record within them is opened, and a stranger's is no more than words."""

from __future__ import annotations

from seclcompress.report.page.sections import settings_rows


def test_a_recovery_is_shown_setting_by_setting() -> None:
    record = {
        "pictures": 500,
        "kept": True,
        "layers": [{"name": "a"}, {"name": "b"}],
        "left_out": {},
    }
    rows = settings_rows({"lr": 0.01, "data": "digits", "recovered": record})
    assert rows == [
        ("lr", "0.01", True),
        ("data", "digits", False),
        ("recovered.pictures", "500", False),
        ("recovered.kept", "on", False),
        ("recovered.layers", "2 in config.json", False),
        ("recovered.left_out", "0 in config.json", False),
    ]
