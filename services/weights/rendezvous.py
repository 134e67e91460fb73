"""The meeting of a transfer group's members, ended before its time.

vLLM's rank 0 opens a store and waits in it for all members, 300 s; nobody can tell it that one of them is
gone. But it asks that store over a connection of its own. Without this it gives up, and the store with it, so
that the members that did come learn of it too.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

_OPENED_S, _LOOK_S = 10.0, 0.1


def end_rendezvous(port: int) -> None:
    """End the meeting that a thread of this process has opened, or is just opening.

    Args:
        port: of the store.
    """
    deadline = time.monotonic() + _OPENED_S
    while not _disconnected(port) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)


def _disconnected(port: int) -> bool:
    """Whether this process had connections to such a port; they are shut down."""
    found = False
    for descriptor in os.listdir("/proc/self/fd"):
        with (
            suppress(OSError),  # no socket, one that is not connected, or none any more
            socket.fromfd(int(descriptor), socket.AF_INET, socket.SOCK_STREAM) as connection,
        ):
            peer = connection.getpeername()
            if isinstance(peer, tuple) and peer[1] == port:
                connection.shutdown(socket.SHUT_RDWR)
                found = True
    return found
