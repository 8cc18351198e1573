"""Makes Ctrl-C end the program at any moment, also where a library swallows KeyboardInterrupt."""

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

#: The exit code that a shell reports for a program ended by Ctrl-C.
EXIT_CODE = 130

TITLE, WORDS = "Interrupted", "nothing is half-written."

#: Modules that take seconds to import and swallow exceptions raised meanwhile: they then run without
#: the dependency whose import failed.
_SWALLOWING = ("torch", "torchvision")

_arrived = False


def has_arrived() -> bool:
    """Whether Ctrl-C was pressed since the program began; a later failure is attributed to it."""
    return _arrived


@contextlib.contextmanager
def ends_the_program() -> Iterator[None]:
    """Runs the whole program so that Ctrl-C ends it, even where KeyboardInterrupt is swallowed.

    A KeyboardInterrupt does not always reach the program. There are four cases:

    - During the import of torch: torch swallows exceptions while it looks for NumPy. NumPy is then
      missing, or fails at the second import ("cannot load module more than once per process"). No file
      is open for writing at this time, so Ctrl-C ends the process at once.
    - In a destructor or a weak reference callback: Python prints the exception and continues. The
      interrupt is raised again a moment later.
    - Anywhere else: KeyboardInterrupt is raised as usual, and the interrupt is recorded, so that a
      failure that it causes is reported as an interruption.
    - After the block: only the shutdown of the interpreter is left, so Ctrl-C ends the process at once.

    Where Ctrl-C is ignored, as under nohup, it stays ignored. Outside the main thread nothing changes.

    Raises:
        SystemExit: With code 130, in place of any later error or exit code, after Ctrl-C.
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
    except Exception:  # the command line shows errors itself, except with --debug or at its import
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
    os.write(2, f"{TITLE}: {WORDS}\n".encode())  # unbuffered, because os._exit flushes nothing


def _note(number: int, frame: Any) -> None:
    global _arrived
    _arrived = True
    if any(map(_being_imported, _SWALLOWING)):
        _say()
        os._exit(EXIT_CODE)
    signal.default_int_handler(number, frame)


def _being_imported(module: str) -> bool:
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))  # the attribute that importlib itself uses


def _raise_again(unraisable: Any) -> None:
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        # Delayed: an exception raised inside this hook would be swallowed as well.
        threading.Timer(0.01, _interrupt_main).start()
    else:
        sys.__unraisablehook__(unraisable)


def _interrupt_main() -> None:
    if hasattr(signal, "pthread_kill"):  # also wakes a main thread that is sleeping
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
