"""How much of an answer its client has taken: Serve's proxy tells it to the replica, which then makes more.

Between the two Serve keeps whatever a replica sends, in memory and at last on the disk, and `send` returns at
once: of an answer whose client reads slowly all would lie there. So the proxy puts messages of its own among
those that a server tells an application, which Serve passes on as they are, and a replica waits before it
sends more than `MOST_UNDER_WAY` beyond what they say. A client that takes nothing is cut off by the proxy
(`clients_behind`). That ends the wait: the replica is told that it has left.
"""

import asyncio
from collections import deque

from starlette.types import Message, Receive, Scope, Send

TAKEN = "rlad.taken"
"""Type of these messages, and in a request's scope the extension that says that they come."""
MOST_UNDER_WAY = 2 * 2**20
"""Bytes of one answer between a replica and its client, and the message that was begun with fewer."""
TOLD_EVERY = MOST_UNDER_WAY // 4


class TellsTaken:
    """In the proxy: of one request, what comes from its client, and how much of the answer has gone there.

    Args:
        receive: the server's.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._has_come = False  # all of the body; before that there is no answer
        self._messages = asyncio.Queue[Message]()
        self._listening: asyncio.Task[None] | None = None
        self._taken = self._told = 0

    def extended(self, scope: Scope) -> Scope:
        """A request's scope that says so."""
        return {**scope, "extensions": {**scope.get("extensions", {}), TAKEN: {}}}

    async def receive(self) -> Message:
        """See ASGI."""
        if not self._has_come:
            message = await self._receive()
            self._has_come = not message.get("more_body", False)
            return message
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        if self._listening.done() and self._messages.empty():
            return await self._receive()  # that the client has left, once more
        return await self._messages.get()

    def add(self, size: int) -> None:
        """So many bytes more have gone to the connection."""
        self._taken += size
        if self._taken - self._told >= TOLD_EVERY:
            self._told = self._taken
            self._messages.put_nowait({"type": TAKEN, "bytes": self._taken})

    def close(self) -> None:
        """The answer is sent, or nobody wants it."""
        if self._listening is not None:
            self._listening.cancel()

    async def _listen(self) -> None:
        while (message := await self._receive())["type"] != "http.disconnect":
            self._messages.put_nowait(message)
        self._messages.put_nowait(message)


class HeldBack:
    """In a replica: of one request, what comes from its client, and an answer that waits for it.

    Args:
        receive, send: Serve's.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._reading = asyncio.Lock()
        self._others = deque[Message]()  # that are the application's
        self._under_way = self._sent = 0
        self._has_left = False

    async def receive(self) -> Message:
        """See ASGI."""
        while not self._others:
            async with self._reading:
                if not self._others:
                    await self._hear()
        return self._others.popleft()

    async def send(self, message: Message) -> None:
        """See ASGI; waits until the client has taken enough of what was sent before."""
        while self._under_way > MOST_UNDER_WAY and not self._has_left:
            async with self._reading:  # in turns with `receive`: either may hear what the other waits for
                if self._under_way > MOST_UNDER_WAY and not self._has_left:
                    await self._hear()
        size = len(message.get("body", b""))
        self._sent, self._under_way = self._sent + size, self._under_way + size
        await self._send(message)

    async def _hear(self) -> None:
        message = await self._receive()
        if message["type"] == TAKEN:
            self._under_way = self._sent - message["bytes"]
            return
        self._has_left = self._has_left or message["type"] == "http.disconnect"
        self._others.append(message)


def held_back(scope: Scope, receive: Receive, send: Send) -> tuple[Receive, Send]:
    """The two of a request; of one that came by a proxy of ours as `HeldBack` has them."""
    if TAKEN not in scope.get("extensions", {}):
        return receive, send
    held = HeldBack(receive, send)
    return held.receive, held.send
