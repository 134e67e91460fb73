"""What service and worker send each other: a length, then so many bytes.

To a worker go pickles. What comes from one is JSON and nothing else: users' code runs there, and programs
that it may execute, so whatever is read is data, and runs nothing here.
"""

import json
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from rlad_core.tasks.base import Verdict
from services.verifier.checking.messages import Failed, Outcome

_LENGTH = struct.Struct("!Q")
_MOST_BYTES = 2**26


class BrokenError(OSError):
    """What was read is no message."""


def framed(message: bytes) -> bytes:
    """As it is sent."""
    return _LENGTH.pack(len(message)) + message


def read(connection: socket.socket) -> bytes | None:
    """The next message of a blocking connection; None: the other end is closed."""
    head = _exactly(connection, _LENGTH.size)
    return None if head is None else _exactly(connection, _LENGTH.unpack(head)[0])


class Messages:
    """Puts together what was read in pieces."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now.

        Raises:
            BrokenError: one is longer than any that a worker sends.
        """
        self._rest += data
        found, start = [], 0
        while (body := start + _LENGTH.size) <= len(self._rest):
            (length,) = _LENGTH.unpack_from(self._rest, start)
            if length > _MOST_BYTES:
                raise BrokenError(f"a worker's message of {length} bytes")
            if body + length > len(self._rest):
                break
            found.append(bytes(self._rest[body : body + length]))
            start = body + length
        del self._rest[:start]
        return found


def outcomes(some: Sequence[Outcome]) -> bytes:
    """Outcomes as JSON. A verdict's numbers are finite, so all of them come back as they are."""
    return orjson.dumps(
        [
            [each.kind, each.why]
            if isinstance(each, Failed)
            else [each.reward, each.parts, each.correct, each.reason]
            for each in some
        ]
    )


def words(said: Mapping[str, Any]) -> bytes:
    """What a worker says that is no outcome, as JSON. Paths may hold what UTF-8 does not have."""
    return json.dumps(said).encode()


def understood(message: bytes) -> dict[str, Any] | list[Outcome]:
    """What `outcomes` or `words` wrote.

    Raises:
        BrokenError: neither did.
    """
    try:
        told = json.loads(message) if message.startswith(b"{") else orjson.loads(message)
    except ValueError as error:
        raise BrokenError(str(error)) from error
    if isinstance(told, list):
        return [_outcome(each) for each in told]
    if isinstance(told, dict):
        return told
    raise BrokenError(f"neither words nor outcomes: {str(told)[:80]}")


def _outcome(told: Any) -> Outcome:
    match told:
        case [str(kind), str(why)]:
            return Failed(kind, why)
        case [float(reward), dict(parts), bool(correct), str(reason)]:
            if all(isinstance(number, float) for number in parts.values()):
                return Verdict(reward, parts, correct, reason)
    raise BrokenError(f"no outcome: {str(told)[:80]}")


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    pieces = bytearray()
    while len(pieces) < count:
        if not (piece := connection.recv(min(count - len(pieces), 2**20))):
            return None
        pieces += piece
    return bytes(pieces)
