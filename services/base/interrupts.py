"""No Ctrl-C and no SIGTERM is lost, wherever it comes.

Python raises KeyboardInterrupt between any two instructions of the main thread. In a callback that nobody
called, it is printed as "Exception ignored" and gone: in a `__del__`, and in what modules do before and after
a fork. There it does harm, too: `logging` holds its lock over a fork, and where its release is interrupted,
every other thread that logs stands still for ever. Ray forks while it starts.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

_LATER_S = 0.02
_handlers: dict[signal.Signals, Any] = {}
"""Set aside during a fork."""
_came: list[int] = []
"""Signals that came during a fork."""
_kept = False


def keep_interrupts() -> None:
    """From now on, in this process. What is imported later has its callbacks of a fork outside of ours."""
    global _kept
    if _kept:
        return
    _kept = True
    os.register_at_fork(before=_set_aside, after_in_parent=_put_back, after_in_child=_put_back_in_child)
    before = sys.unraisablehook

    def ignored(what: sys.UnraisableHookArgs) -> None:
        if issubclass(what.exc_type, KeyboardInterrupt) and not sys.is_finalizing():
            _send_later([signal.SIGINT])
        else:
            before(what)

    sys.unraisablehook = ignored


def _set_aside() -> None:
    if threading.current_thread() is not threading.main_thread():  # no signal interrupts this one
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(handler := signal.getsignal(number)) and handler is not _note:
            _handlers[number] = handler
            signal.signal(number, _note)


def _put_back() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    try:
        _restore(signal.SIGTERM)
    finally:  # what interrupts again from here on may do so at once
        try:
            _restore(signal.SIGINT)
        finally:
            _send_later(_came)
            _came.clear()


def _restore(number: signal.Signals) -> None:
    if number in _handlers:
        signal.signal(number, _handlers[number])
        del _handlers[number]  # only now: the other signal may interrupt anywhere here


def _put_back_in_child() -> None:
    """The process that was meant is the parent."""
    _came.clear()
    _put_back()


def _note(number: int, frame: FrameType | None) -> None:
    _came.append(number)


def _send_later(numbers: Sequence[int]) -> None:
    """When the callback is through. Where it is not, they are lost, and sent, once more."""
    main = threading.main_thread().ident
    for number in set(numbers):
        timer = threading.Timer(_LATER_S, signal.pthread_kill, (main, number))
        timer.daemon = True
        timer.start()
