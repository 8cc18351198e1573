"""Ctrl-C ends the program wherever it falls, also where a library makes something else of it."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

#: What a shell reports for a program that Ctrl-C ended.
EXIT_CODE = 130

TITLE, WORDS = "Interrupted", "nothing is half-written."

#: They import for seconds, drop what goes wrong meanwhile, and are used without what they miss.
_SWALLOWING = ("torch", "torchvision")

_arrived = False


def has_arrived() -> bool:
    """Whether there was a Ctrl-C since the program began: what fails after it fails because of it."""
    return _arrived


@contextlib.contextmanager
def ends_the_program() -> Iterator[None]:
    """Runs a whole program in which a Ctrl-C does what it should, also where it raises nothing.

    A KeyboardInterrupt need not arrive. While torch looks for NumPy it drops what goes wrong, and NumPy
    then fails the second import ("cannot load module more than once per process"), or is missing: while
    torch is being imported, when no file is open for writing, a Ctrl-C ends the process at once. In a
    destructor or a weak reference Python prints it and goes on: it is raised again. Elsewhere it is
    noted, so that what fails because of it is known for that. After the block the work is done and only
    Python's own end is left: a Ctrl-C there ends the process at once. Where Ctrl-C is ignored, as under
    nohup, it stays ignored; outside the main thread nothing is changed.

    Raises:
        SystemExit: With 130 instead of another error or its code, if there was a Ctrl-C before it.
    """
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, _note)
        sys.unraisablehook = _raise_again
    try:
        yield
    except KeyboardInterrupt:
        _say()
        sys.exit(EXIT_CODE)
    except SystemExit as end:
        if end.code and has_arrived():
            sys.exit(EXIT_CODE)
        raise
    except Exception:  # shown by the command line already, but for --debug and its own import
        if not has_arrived():
            raise
        if "--debug" in sys.argv:
            traceback.print_exc()
        _say()
        sys.exit(EXIT_CODE)
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _say() -> None:
    os.write(2, f"{TITLE}: {WORDS}\n".encode())  # at once: os._exit flushes nothing


def _note(number: int, frame: Any) -> None:
    global _arrived
    _arrived = True
    if any(map(_being_imported, _SWALLOWING)):
        _say()
        os._exit(EXIT_CODE)
    signal.default_int_handler(number, frame)


def _being_imported(module: str) -> bool:
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))  # as importlib itself asks


def _raise_again(unraisable: Any) -> None:
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        # Not now: it would be raised in this hook, from which nothing can be raised either.
        threading.Timer(0.01, _interrupt_main).start()
    else:
        sys.__unraisablehook__(unraisable)


def _interrupt_main() -> None:
    if hasattr(signal, "pthread_kill"):  # wakes a main thread that sleeps or waits, too
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
