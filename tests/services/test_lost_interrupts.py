"""Ctrl-C and SIGTERM in the places where Python loses them, and leaves a lock behind."""

import signal
import subprocess
import sys

import pytest

PLACES = {
    "before a fork": "os.register_at_fork(before=stop)",
    # The next Python function is the one with which logging releases its lock.
    "after a fork": "os.register_at_fork(after_in_parent=stop)",
    "at the end of an object": "",
}
PROGRAM = """
import ctypes, functools, os, signal, subprocess, sys, threading, time

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests are in the background
number = {number}
stop = functools.partial(ctypes.CDLL(None)["raise"], number)  # heard at the next instruction, as a terminal's
{register}
import logging
from services.base.interrupts import keep_interrupts
from services.base.stopping import sigterm_interrupts

keep_interrupts()
keep_interrupts()  # as well as once

class Ends:
    def __del__(self):
        stop()
        for _ in range(10):
            pass

heard = 0
with sigterm_interrupts():
    try:
        if {forks}:
            subprocess.run([sys.executable, "-c", ""], preexec_fn=lambda: None, check=True)
        else:
            Ends()
        time.sleep(20)  # which the signal ends, at once
    except KeyboardInterrupt:
        heard += 1
    try:
        time.sleep(0.3)  # long enough for a second one, were it sent twice
    except KeyboardInterrupt:
        heard += 1
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
logs = threading.Thread(target=logging.getLogger("a").warning, args=("logged",), daemon=True)
logs.start()
logs.join(10)
print(heard, not logs.is_alive(), [each.__name__ for each in before])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", PLACES)
def test_a_stop_is_heard_once_and_no_lock_stays(place: str, number: signal.Signals) -> None:
    program = PROGRAM.format(number=int(number), register=PLACES[place], forks="fork" in place)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "1 True ['_interrupt', 'default_int_handler']", done.stderr
    assert "Exception ignored" not in done.stderr
