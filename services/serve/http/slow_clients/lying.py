"""How much of what was written to a connection lies in this process yet."""

import asyncio
import gc
from typing import Any


def lies_in(connection: asyncio.Transport) -> int:
    """Bytes that were written to a connection and are not the kernel's.

    With TLS a connection itself tells of what is not encrypted; what is lies in the one below it while the
    kernel has no room.
    """
    if is_forgotten(connection):
        return 0
    below = _below(connection) if is_encrypted(connection) else None
    return connection.get_write_buffer_size() + (0 if below is None else int(below.get_write_buffer_size()))


def is_encrypted(connection: asyncio.Transport) -> bool:
    """Whether it is one with TLS."""
    return connection.get_extra_info("sslcontext") is not None


def is_forgotten(connection: asyncio.Transport) -> bool:
    """Whether it was closed twice, after which asyncio's with TLS answers no question; what lies there goes
    within 30 s.
    """
    return getattr(connection, "_ssl_protocol", connection) is None


def _below(connection: asyncio.Transport) -> Any:
    """The connection that one with TLS writes to; None: it has none any more."""
    layer = connection.get_extra_info("uvloop.sslproto")
    if layer is None:
        return vars(connection)["_ssl_protocol"]._transport
    # uvloop has it in C, where nobody but the garbage collector sees it.
    others = (each for each in gc.get_referents(layer) if each is not connection)
    return next((each for each in others if hasattr(each, "get_write_buffer_size")), None)
