"""Ctrl-C ends the program wherever it falls, also where a library makes something else of it."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

#: What a shell reports for a program that Ctrl-C ended.
EXIT_CODE = 130

WORDS = "Interrupted: nothing is half-written."

_arrived = False


def has_arrived() -> bool:
    """Whether there was a Ctrl-C since the program began: what fails after it fails because of it."""
    return _arrived


@contextlib.contextmanager
def ends_the_program() -> Iterator[None]:
    """Runs a whole program in which no Ctrl-C is lost.

    A KeyboardInterrupt need not arrive. While torch looks for NumPy it drops what goes wrong, and NumPy
    then fails the second import ("cannot load module more than once per process"); in a destructor or a
    weak reference Python prints it and goes on. So each Ctrl-C is noted before it becomes an exception.
    After the block the work is done and only Python's own end is left: a Ctrl-C there ends the process
    at once. Where Ctrl-C is ignored, as under nohup, it stays ignored.

    Raises:
        SystemExit: With 130 instead of another error's code, if there was a Ctrl-C before it.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _note)
        sys.unraisablehook = _raise_again
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write(WORDS + "\n")
        sys.exit(EXIT_CODE)
    except SystemExit as end:
        if end.code and has_arrived():
            sys.exit(EXIT_CODE)
        raise
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _note(number: int, frame: Any) -> None:
    global _arrived
    _arrived = True
    signal.default_int_handler(number, frame)


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
