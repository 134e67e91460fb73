"""Clients that do not take their answers: each has a time, and all together a memory.

What was sent and is not taken lies in this process. Nobody else ends that: uvicorn waits for the client for
ever, also where it has closed the connection. So connections on which something lies are looked at again and
again, and one is cut off when its client

- has not taken `LEAST` in the time limit, nor the rest of its answer, or
- is the one that has waited longest, while all that lies here is over the memory limit.

A client is measured by what its machine has acknowledged. What the kernel takes from us says little: it has
room for some megabytes, and takes more only when a third of that is free, which is minutes for a client that
reads slowly. Where nothing waits on a connection, the client is not waited for, and no time counts.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from rlad_core import metrics
from rlad_core.metric_specs import LimitKind
from services.base import telemetry
from services.serve.http.refusals import PROXY
from services.serve.http.slow_clients.lying import is_forgotten, lies_in
from services.serve.http.variables import positive

_MIB = 2**20
LEAST = 256 * 1024
"""Bytes that a client takes within the time limit; some 9 KB/s of the usual one."""
_LOOKS = 30
"""In a time limit. They are counted, and not seconds: where this process was stopped, no client was slow."""
_LOOKS_IN_NEED = 5
"""Without `LEAST`, after which a client may be cut off for memory's sake."""
_ACKED = struct.Struct("120xQ")
"""Of Linux' ``struct tcp_info``: ``tcpi_bytes_acked``."""
_DROP_THE_REST = struct.pack("ii", 1, 0)
"""For ``SO_LINGER``. Otherwise the kernel would keep what it has, for a client that never takes it."""


@dataclass(frozen=True)
class AnswerLimits:
    """What answers may take that are not taken.

    Args:
        total_bytes: of all that are held at a time.
        timeout_s: within which a client takes `LEAST`.
    """

    total_bytes: int = 512 * _MIB
    timeout_s: float = 30.0

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> "AnswerLimits":
        """As ``RLAD_ANSWER_MEMORY_MIB`` and ``RLAD_ANSWER_TIMEOUT_S`` set them.

        Raises:
            ValueError: one is no positive number; names it.
        """
        usual = cls()
        memory_mib = positive(environment, "RLAD_ANSWER_MEMORY_MIB") or usual.total_bytes / _MIB
        return cls(
            total_bytes=int(memory_mib * _MIB),
            timeout_s=positive(environment, "RLAD_ANSWER_TIMEOUT_S") or usual.timeout_s,
        )


@dataclass
class _Wait:
    """For one client.

    Attributes:
        held: bytes of the message that is being sent.
        lies: bytes that lay here at the last look, those included.
        taken: bytes that the client had taken when it last had taken enough.
        looks: since then.
    """

    held: int = 0
    lies: int = 0
    taken: int = -LEAST
    looks: int = 0


class ClientsBehind:
    """Those whose answers lie here; one for all connections of a process."""

    def __init__(self, limits: AnswerLimits) -> None:
        self._limits = limits
        self._waits: dict[asyncio.Transport, _Wait] = {}
        self._timer: asyncio.TimerHandle | None = None

    def sent(self, connection: asyncio.Transport, held: int = 0) -> None:
        """That something was written to a connection.

        Args:
            held: bytes of a message that is not written whole yet. Afterwards it must be said that there are
                none.
        """
        wait = self._waits.get(connection)
        if wait is not None:
            wait.held = held
        elif held or lies_in(connection):
            self._waits[connection] = _Wait(held)
            if self._timer is None:
                self._plan()

    def _plan(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._limits.timeout_s / _LOOKS, self._look)

    def _look(self) -> None:
        self._timer = None
        try:
            self._cut_off_who_must_leave()
        finally:
            if self._waits:
                self._plan()

    def _cut_off_who_must_leave(self) -> None:
        for connection in list(self._waits):
            if not self._still_behind(connection):
                del self._waits[connection]
            elif self._waits[connection].looks >= _LOOKS:
                self._cut_off(connection, "time")
        held = sum(wait.lies for wait in self._waits.values())
        for connection, wait in sorted(self._waits.items(), key=lambda each: -each[1].looks):
            if held <= self._limits.total_bytes or wait.looks < _LOOKS_IN_NEED:
                break
            held -= wait.lies
            self._cut_off(connection, "memory")

    def _still_behind(self, connection: asyncio.Transport) -> bool:
        wait = self._waits[connection]
        if is_forgotten(connection):
            return False
        written = lies_in(connection)
        wait.lies = written + wait.held
        place = connection.get_extra_info("socket")
        if not wait.lies or place is None or place.fileno() < 0:  # it is taken, or the connection is gone
            return False
        [taken] = _ACKED.unpack(place.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.size))
        # Some kernels count nothing. Of those who really acknowledge nothing, TCP itself has the end.
        if not written or not taken or taken - wait.taken >= LEAST:
            wait.taken, wait.looks = taken, 0
        else:
            wait.looks += 1
        return True

    def _cut_off(self, connection: asyncio.Transport, limit: LimitKind) -> None:
        wait = self._waits.pop(connection)
        client = connection.get_extra_info("peername")
        connection.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_THE_REST)
        connection.abort()
        telemetry.log("answer_not_taken", level="warning", client=client, limit=limit, bytes=wait.lies)
        telemetry.count(metrics.SERVICE_LIMITS, service=PROXY, kind=limit)
