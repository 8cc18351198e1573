"""Makes Ctrl-C end the program at any moment, also where a library swallows KeyboardInterrupt.

The signals by which a terminal closes and schedulers ask a job to end are handled like Ctrl-C.
"""

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

WORDS = "nothing is half-written."

#: The signals that ask the program to end, beside Ctrl-C: `kill`, a closed terminal, and the warnings of
#: schedulers before they kill a job. Windows has the first one only.
ENDING = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU")
    if hasattr(signal, name)
)

#: Modules that take seconds to import and swallow exceptions raised meanwhile: they then run without
#: the dependency whose import failed.
_SWALLOWING = ("torch", "torchvision")

_arrived = 0  # the number of the first signal


def has_arrived() -> bool:
    """Whether Ctrl-C or another such signal came since the program began.

    A later failure is attributed to it.
    """
    return _arrived != 0


def title() -> str:
    """What ended the program: `Interrupted` for Ctrl-C, otherwise the signal by name."""
    by_hand = _arrived in (0, signal.SIGINT)
    return "Interrupted" if by_hand else f"Ended by {signal.Signals(_arrived).name}"


def exit_code() -> int:
    """The exit code of the program: 128 and the number of the signal."""
    return 128 + (_arrived or signal.SIGINT)


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

    The signals of `ENDING` raise KeyboardInterrupt as well. Where a signal is ignored, as under nohup,
    it stays ignored. Outside the main thread nothing changes.

    Raises:
        SystemExit: With code 128 + the signal's number, in place of any later error or exit code.
    """
    before = _take_signals()
    try:
        yield
    except KeyboardInterrupt:
        _say()
        sys.exit(exit_code())
    except SystemExit as end:
        # A run that saved its state when a signal came says so itself, by EXIT_CODE.
        if end.code and has_arrived() and end.code != EXIT_CODE:
            sys.exit(exit_code())
        raise
    except Exception:  # the command line shows errors itself, except with --debug or at its import
        if not has_arrived():
            raise
        if "--debug" in sys.argv:
            traceback.print_exc()
        _say()
        sys.exit(exit_code())
    finally:
        for number in before:
            signal.signal(number, signal.SIG_DFL)


def _take_signals() -> list[int]:
    """Handles the signals that are not ignored, and are not handled by somebody else."""
    if threading.current_thread() is not threading.main_thread():
        return []
    usual = (signal.SIG_DFL, signal.default_int_handler)
    ours = [n for n in (signal.SIGINT, *ENDING) if signal.getsignal(n) in usual]
    for number in ours:
        signal.signal(number, _note)
    if ours:
        sys.unraisablehook = _raise_again
    return ours


def _say() -> None:
    # Unbuffered, because os._exit flushes nothing. A closed terminal takes no words.
    with contextlib.suppress(OSError):
        os.write(2, f"{title()}: {WORDS}\n".encode())


def _note(number: int, frame: Any) -> None:
    del frame
    global _arrived
    _arrived = _arrived or number
    importing = False
    with contextlib.suppress(RecursionError):  # the signal came where hardly a call is left
        importing = any(map(_being_imported, _SWALLOWING))
    if importing:
        _say()
        os._exit(exit_code())
    raise KeyboardInterrupt


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
