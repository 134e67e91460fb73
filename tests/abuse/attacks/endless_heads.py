"""Heads of requests that never end, of one header or of many, and connections that wait within theirs."""

import socket
import time
from urllib.parse import urlsplit

from tests.abuse.target import MIB, Effort, Target

SENT = (
    "40 heads of 10 MiB each that do not end, of one header and of many; 200 connections that wait in theirs"
)
_HEADS, _WAITING = 40, 200
_BEGIN = b"GET /teacher/healthz HTTP/1.1\r\nHost: a\r\n"
_PIECES = {"one header": (b"X: ", b"a" * 65_536), "headers": (b"", b"x:a\r\n" * 13_107)}


def attack(target: Target, effort: Effort) -> str:
    """All are cut off, memory stays as it is, and health answers; a head that ends is told 431."""
    parts = urlsplit(target.url)
    place = parts.hostname or "", parts.port or 0
    [proxy] = target.processes("ProxyActor")
    target.expected("teacher")
    told = _sent(place, [_BEGIN + b"x:a\r\n" * 150 + b"\r\n"])
    assert b" 431 " in told, told[:200]
    waiting: list[socket.socket] = []
    with target.health_asked("teacher", "rollout", "verifier") as took:
        before = proxy.memory_info().rss
        try:
            for _ in range(_WAITING):
                waiting.append(socket.create_connection(place, timeout=60))
                waiting[-1].sendall(_BEGIN)
            for begin, piece in _PIECES.values():
                for _ in range(_HEADS // len(_PIECES)):
                    told = _sent(place, [_BEGIN + begin, *[piece] * (10 * MIB // len(piece))])
                    assert not told or b" 431 " in told, told[:200]
            grown = (proxy.memory_info().rss - before) / MIB
            began = time.monotonic()
            if effort.long:
                for each in waiting:
                    each.settimeout(120)
                    assert b" 408 " in each.recv(4096)
            waited_s = time.monotonic() - began
        finally:
            for each in waiting:
                each.close()
    assert grown < 50, grown
    assert max(took) < effort.health_s, max(took)
    late = f"; those that wait are told 408 after {waited_s:.0f} s" if effort.long else ""
    return f"all cut off; memory +{grown:.0f} MiB, health within {max(took):.2f} s{late}"


def _sent(place: tuple[str, int], pieces: list[bytes]) -> bytes:
    """What is answered; nothing, where the connection ends while it is still being sent."""
    with socket.create_connection(place, timeout=60) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            return connection.recv(4096)
        except ConnectionError:
            return b""
