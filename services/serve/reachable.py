"""Whether a Ray cluster answers at an address, before Ray itself tries: for a minute, with C++ warnings."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

_WITHIN_S, _AGAIN_S = 10.0, 1.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How HTTP/2 begins (RFC 9113, 3.4), which is what gRPC speaks, with settings of which none is set."""
_SETTINGS = 4


def check_reachable(address: str, within_s: float = _WITHIN_S) -> None:
    """Connect to a cluster's control store, or to its server for clients, and see whether it speaks gRPC.

    Args:
        address: ``host:port``, ``ray://host:port`` or ``auto``.
        within_s: how long it is tried; a cluster may just be starting.

    Raises:
        ConnectionError: nobody answers there, or somebody else does; says what to do.
    """
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address

        found = canonicalize_bootstrap_address(address)
        if found is None:
            raise ConnectionError("no Ray runs on this machine. Start one with `ray start --head`")
        address = found
    place = address.removeprefix("ray://")
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or "/" in place:
        raise ConnectionError("the address is not of the form host:port, ray://host:port or auto")
    deadline = time.monotonic() + within_s
    while (fault := _fault(host.strip("[]"), int(port), within_s)) is not None:
        if time.monotonic() + _AGAIN_S > deadline:
            raise ConnectionError(f"{place}: {fault}")
        time.sleep(_AGAIN_S)


def _fault(host: str, port: int, within_s: float) -> str | None:
    """Why no cluster is there; None: one is."""
    try:
        connection = socket.create_connection((host, port), timeout=within_s)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"{reason or type(error).__name__}. Is the cluster up, and its address right?"
    if os.environ.get("RAY_USE_TLS", "0") == "1":
        connection.close()
        return None
    answer = b""
    with connection, suppress(OSError):
        connection.settimeout(within_s)
        connection.sendall(_PREFACE)
        while len(answer) < 9 and (more := connection.recv(9 - len(answer))):
            answer += more
    if len(answer) == 9 and answer[3] == _SETTINGS:
        return None
    return (
        "what answers there is no Ray cluster. The port is that of `ray start --port`, 6379 by default, or "
        "10001 behind ray://; 8265 is the dashboard's"
    )
