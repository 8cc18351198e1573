"""Run by test_killed.py, in a process without torch, which forks quickly.

Writes in forks that are killed (SIGKILL) before line 1, line 2, … of the code that writes, and checks
what is there after each. Prints how often each state was found.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from seclcompress.files import (
    add_file,
    check_free,
    manifest,
    place,
    set_aside,
    system,
    write,
    write_file,
    write_folder,
)

TRACED = {module.__file__ for module in (shutil, tempfile, manifest, place, system, write)}
OUT = Path("out")
UNKNOWN = "unknown.kind"  # only the manifest has this name


def killed_before_line(number: int, work: Callable[[], None]) -> bool:
    """Runs work in a fork that is killed before its `number`-th line; False if the work has fewer."""
    pid = os.fork()
    if pid == 0:
        lines = 0

        def trace(frame, event, argument):
            nonlocal lines
            if frame.f_code.co_filename not in TRACED:
                return None
            if event == "line":
                lines += 1
                if lines == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        work()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


def save(content: str) -> None:
    """Replaces the folder."""
    config = json.dumps({"versions": {"seclcompress": content}})
    texts = {"config.json": config, "model.safetensors": content, UNKNOWN: content}
    write_folder(OUT, {name: text.encode() for name, text in texts.items()}, overwrite=True)


def saved(path: Path) -> str:
    """The content of a folder, which must be whole."""
    names = ["config.json", "manifest.json", "model.safetensors", UNKNOWN]
    assert sorted(p.name for p in path.iterdir()) == names
    content = (path / "model.safetensors").read_text()
    assert (path / UNKNOWN).read_text() == content
    assert json.loads((path / "config.json").read_text()) == {"versions": {"seclcompress": content}}
    return content


def folders(there_before: bool) -> list[str]:
    """The states found after a kill before each line; the last run ends without a kill."""
    moments, dies = [], True
    while dies:
        if there_before:
            save("old")
        dies = killed_before_line(len(moments) + 1, lambda: save("new"))
        aside = set_aside(OUT)
        if OUT.exists():
            moments.append(saved(OUT))
        else:
            moments.append("missing" if aside is None else f"{saved(aside)} set aside")
        save("next")  # a later run works, and removes what is left over
        assert saved(OUT) == "next"
        assert list(Path().iterdir()) == [OUT], list(Path().iterdir())
        shutil.rmtree(OUT)
    return moments


def files() -> list[str]:
    """The same as `folders`, for a single file."""
    moments, dies = [], True
    while dies:
        write_file(OUT, b"old" * 1000)
        dies = killed_before_line(len(moments) + 1, lambda: write_file(OUT, b"new" * 1000))
        content = OUT.read_text()
        assert len(content) == 3000
        moments.append(content[:3])
    return moments


def parts() -> list[str]:
    """The same for a folder that is filled file by file; its manifest must name every file."""
    moments, dies = [], True
    while dies:
        if "there_before" in sys.argv:
            add_file(OUT, "earlier.kind", b"old")
        dies = killed_before_line(len(moments) + 1, lambda: add_file(OUT, UNKNOWN, b"new"))
        check_free(OUT, overwrite=True)
        moments.append((OUT / UNKNOWN).read_text() if (OUT / UNKNOWN).exists() else "old")
        if OUT.exists():
            assert place.remove_ours(OUT) == []
    return moments


os.fsync = lambda handle: (
    None
)  # slow, and a kill (unlike a power cut) loses nothing that was written
if "two_steps" in sys.argv:
    write.exchange = lambda one, other: False
if "file" in sys.argv:
    moments = files()
elif "parts" in sys.argv:
    moments = parts()
else:
    moments = folders("there_before" in sys.argv)
assert moments[-1] == "new"
print(json.dumps(Counter(moments)))
