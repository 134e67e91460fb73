"""A TCP proxy before the teacher elsewhere, whose connections can be cut, slowed down, or silent."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress

_SLOW_S = 0.2
_CHUNK = 65536


class Line:
    """Carries what comes to `port` to another port of this machine.

    mode: open, dropped (those that are there are cut, new ones too), slow, or silent (taken, and nothing
    gets through).
    """

    def __init__(self, to: int) -> None:
        self._to, self._mode = to, "open"
        self._writers: set[asyncio.StreamWriter] = set()
        self._heard = asyncio.Event()
        self._heard.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._serve, name="line", daemon=True).start()

    def set(self, mode: str) -> None:
        """From another thread."""
        self._mode = mode
        self._loop.call_soon_threadsafe(self._heard.clear if mode == "silent" else self._heard.set)
        if mode == "dropped":
            self._loop.call_soon_threadsafe(self._cut)

    def close(self) -> None:
        """Cut what is left."""
        self._loop.call_soon_threadsafe(self._cut)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _serve(self) -> None:
        self._loop.run_until_complete(asyncio.start_server(self._connected, sock=self._listener))
        self._loop.run_forever()

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "dropped":
            writer.transport.abort()
            return
        try:
            there, onwards = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:  # it is gone, and so is this connection
            writer.transport.abort()
            return
        ends = {writer, onwards}
        self._writers |= ends
        try:
            await asyncio.gather(self._carry(reader, onwards), self._carry(there, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                if self._mode == "slow":
                    await asyncio.sleep(_SLOW_S)
                await self._heard.wait()
                target.write(data)
                await target.drain()
        with suppress(OSError, RuntimeError):
            target.write_eof()
