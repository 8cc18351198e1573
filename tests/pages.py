"""Saved folders for the tests of pages, and a reader of HTML."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

from seclcompress import workflows
from seclcompress.settings.training import DISTILLATION, TrainingSettings

#: Names as a stranger might choose them.
EVIL = "<script>alert(1)</script>"
QUOTED = "\"><img src='https://example.org/x' onerror=alert(2)>"
VOID = {"meta", "br", "img", "link", "input"}


def write_folder(folder: Path, *, taught: bool = True, classes: list[str] | None = None) -> Path:
    """A converted wrn10_1 with the metrics of a run that nobody made."""
    workflows.convert("wrn10_1", folder, num_classes=10, input_size=(3, 16, 16))
    settings = TrainingSettings(
        epochs=3,
        lr=0.0123456789,
        taps=("group1",),
        flip=False,
        group_decay={},
        mean=(0.5,),
        std=(2,),
    )
    left_out = set() if taught else set(DISTILLATION)
    epochs = [
        {"epoch": 1, "train_loss": 467.0, "test_loss": 9.0, "accuracy": 20.0, "seconds": 61.0},
        {
            "epoch": 2,
            "train_loss": 1.5,
            "test_loss": float("nan"),
            "accuracy": 91.5,
            "seconds": 60.0,
        },
        {"epoch": 3, "train_loss": 0.05, "test_loss": 0.4, "accuracy": 90.25, "seconds": 59.0},
    ]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["metrics"] = {"accuracy": 90.25} | (
        {"teacher_accuracy": 92.75, "before_accuracy": 8.5} if taught else {}
    )
    config["training"] = {
        "data": "digits",
        "processes": 1,
        **json.loads(settings.model_dump_json(exclude=left_out)),
    }
    config["classes"] = classes
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    lines = "".join(json.dumps(epoch) + "\n" for epoch in epochs)
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    return folder


class Reader(HTMLParser):
    """Reads a page: its words, tags and attributes. Tags that do not match are an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self._text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []
        self.words = " ".join(" ".join(self._text).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(key, value or "") for key, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self._text.append(data)

    def values(self, attribute: str) -> list[str]:
        return [value for key, value in self.attributes if key == attribute]
