"""Clients for code without an event loop: each has one of its own, in a thread."""

from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal


class Closable(Protocol):
    """A client with coroutines."""

    async def close(self) -> None:
        """Close the connections."""


Client = TypeVar("Client", bound=Closable)
Told = TypeVar("Told")


class Blocking(Generic[Client]):
    """The other client's methods, waited for; usable from several threads.

    Args:
        make: the client with coroutines; called on the loop that it is to be used on.
    """

    def __init__(self, make: Callable[[], Client]) -> None:
        self._closed = False
        self._loop = start_blocking_portal()
        self._portal: BlockingPortal = self._loop.__enter__()

        async def made() -> Client:
            return make()

        try:
            self._client = self._portal.call(made)
        except BaseException:
            self._loop.__exit__(None, None, None)  # its thread would keep the process from ending
            raise

    def close(self) -> None:
        """Close the connections, if that has not been done."""
        if self._closed:
            return
        self._closed = True
        self._portal.call(self._client.close)
        self._loop.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait_for(self, asked: Callable[[], Awaitable[Told]]) -> Told:
        return self._portal.call(asked)
