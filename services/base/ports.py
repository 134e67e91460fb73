"""A free TCP port, for those who must name one and cannot leave the choice to the kernel."""

import errno
import secrets
import socket
from pathlib import Path

#: "LOW HIGH": the ports that Linux gives to connections (ip_local_port_range in the kernel's ip-sysctl.rst).
_FOR_CONNECTIONS = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: Below it are the ports of well-known services, and 10,002 to 19,999, of which Ray takes its workers'.
_LOWEST = 20_000
_TRIES = 50


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on, for a process that has yet to start.

    It is none of those that the kernel gives out by itself: in the seconds until it is listened on, it would
    give it to any connection of this machine.

    Raises:
        OSError: `host` is no address of this machine.
    """
    for _ in range(_TRIES):
        try:
            return listened_on(host, _drawn())
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
    return listened_on(host, 0)


def listened_on(host: str, port: int) -> int:
    """Listen on a port for a moment, and return it; for 0 the kernel chooses.

    Raises:
        OSError: it is taken, or `host` is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listening:
        return int(listening.getsockname()[1])


def _drawn() -> int:
    """At random, so that two processes that look for one at a time do not both find the first."""
    try:
        first_for_connections = int(_FOR_CONNECTIONS.read_text().split()[0])
    except (OSError, ValueError, IndexError):  # not Linux
        return 0
    if first_for_connections <= _LOWEST:
        return 0
    return _LOWEST + secrets.randbelow(first_for_connections - _LOWEST)
