"""300 connections to each service that send one byte of a body and wait."""

import socket
import time
from urllib.parse import urlsplit

from tests.abuse.target import PATHS, SERVICES, SMALL, Effort, Target

SENT = "300 connections that send one byte of a body and wait, each service"
_CONNECTIONS = 300


def attack(target: Target, effort: Effort) -> str:
    """Health answers, and others are served."""
    place = urlsplit(target.url)
    worst = 0.0
    for service in SERVICES:
        target.expected(service)
        path = PATHS[service]
        head = f"POST {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: 1000\r\n\r\n{{"
        slow: list[socket.socket] = []
        try:
            with target.health_asked(service) as took, target.client() as http:
                for _ in range(_CONNECTIONS):
                    slow.append(socket.create_connection((place.hostname, place.port), timeout=60))
                    slow[-1].sendall(head.encode())
                time.sleep(10 if effort.long else 1)
                assert target.is_right(service, http.post(path, json=SMALL[service])), service
            if effort.long:
                slow[0].settimeout(60)
                assert b" 408 " in slow[0].recv(4096)
        finally:
            for connection in slow:
                connection.close()
        worst = max(worst, *took)
    assert worst < effort.health_s, worst
    return f"others are served; health within {worst:.2f} s"
