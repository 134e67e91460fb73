"""Clients for code without an event loop: each has one of its own, in a thread.

The thread is a daemon, so that a program that forgets to close a client ends all the same. What is open then
is closed on the way out; so is what nobody holds any more.
"""

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from functools import partial
from typing import Any, Generic, NoReturn, Self, TypeVar

from rlad_core.client.connected import Connected

_CLOSING_S = 10.0
"""Until connections are closed; some peers never answer to a goodbye."""


Client = TypeVar("Client", bound=Connected)
Told = TypeVar("Told")


class _Life(Generic[Client]):
    """An event loop in a thread, with a client that is made, used and closed on it.

    Args:
        make: the client; what it raises comes from here.
    """

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._begun: Future[Client] = Future()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="rlad client", daemon=True)
        self._thread.start()
        try:
            self.client = self._begun.result()
        except BaseException:
            self._thread.join(_CLOSING_S)
            raise

    def start(self, asked: Coroutine[Any, Any, Told]) -> Future[Told]:
        """Begin with something on the loop."""
        return asyncio.run_coroutine_threadsafe(asked, self._loop)

    def end_soon(self) -> None:
        """Close the client, and wait for nothing."""
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._end.set)

    def end(self) -> None:
        """Close the client.

        Raises:
            TimeoutError: its connections do not close.
        """
        self.end_soon()
        try:
            self._ended.result(_CLOSING_S)
        except FutureTimeoutError as error:
            raise TimeoutError(f"waited {_CLOSING_S:g} s for a client's connections to close") from error
        self._thread.join(_CLOSING_S)

    def _run(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        try:
            client = self._make()
        except BaseException as error:  # noqa: BLE001 - it is raised by who waits for the client
            self._begun.set_exception(error)
            return
        self._begun.set_result(client)
        await self._end.wait()
        try:
            # First what is asked for: it would take its connections for broken, and ask again.
            asked = asyncio.all_tasks() - {asyncio.current_task()}
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            await client.close()
        except BaseException as error:  # noqa: BLE001 - it is raised by who closes the client
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)


class Blocking(Generic[Client]):
    """The other client's methods, waited for; usable from several threads, and in processes forked later.

    Args:
        url, token, call_timeout_s, timeout_s, connections, say: see `Connected`; `say` is called in another
            thread.

    Raises:
        ValueError: see `Connected`.
    """

    KIND: type[Client]
    """The client with coroutines; made on the loop that it is to be used on."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        call_timeout_s: float | None = None,
        timeout_s: float | None = None,
        connections: int = 8,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._make = partial(
            self.KIND,
            url,
            token=token,
            call_timeout_s=call_timeout_s,
            timeout_s=timeout_s,
            connections=connections,
            say=say,
        )
        self._closed = False
        self._lock = threading.RLock()
        self._life: _Life[Client] | None = None
        self._unheld: weakref.finalize[..., Any] | None = None
        self.waited_for: set[Future[Any]] = set()
        self._begun()
        _open.add(self)

    def close(self) -> None:
        """Close the connections, if that has not been done. Who waits for an answer gets a `RuntimeError`.

        Raises:
            TimeoutError: they do not close.
        """
        with self._lock:
            closed, self._closed = self._closed, True
            life, self._life = self._life, None
        if closed or life is None:
            return
        self._leave_to_itself()
        life.end()

    def after_fork(self) -> None:
        """Begin anew when next asked: a fork has none of its parent's threads, and shares no connections."""
        self._lock = threading.RLock()
        self._leave_to_itself()
        self._life = None
        self.waited_for = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be sent to another process; make one there")

    @property
    def _client(self) -> Client:
        return self._begun().client

    def _begun(self) -> _Life[Client]:
        with self._lock:
            if self._closed:
                raise RuntimeError(f"this {type(self).__name__} is closed; make another one")
            if self._life is None:
                self._life = _Life(self._make)
                self._unheld = weakref.finalize(self, self._life.end_soon)
                self._unheld.atexit = False  # what is held until then is _close_open's
            return self._life

    def _leave_to_itself(self) -> None:
        if self._unheld is not None:
            self._unheld.detach()

    def _wait_for(self, asked: Callable[[], Coroutine[Any, Any, Told]]) -> Told:
        """What a coroutine of the client returns.

        Raises:
            RuntimeError: the client is closed.
        """
        with self._lock:  # what is begun here is there when close() ends it
            waited_for = self._begun().start(asked())
            self.waited_for.add(waited_for)
        try:
            return waited_for.result()
        except CancelledError as error:
            raise RuntimeError(f"this {type(self).__name__} was closed before the answer came") from error
        except BaseException:
            waited_for.cancel()  # who was interrupted, as by Ctrl-C, wants no answer any more
            raise
        finally:
            self.waited_for.discard(waited_for)


_open: weakref.WeakSet[Blocking[Any]] = weakref.WeakSet()


@atexit.register
def _close_open() -> None:
    """Say goodbye to the services, as far as that can be done now."""
    for client in list(_open):
        # A daemon thread that waits for an answer ends with the process, and is not to be told of it.
        if not client.waited_for:
            with suppress(Exception):
                client.close()


def _forget_threads() -> None:
    for client in list(_open):
        client.after_fork()


os.register_at_fork(after_in_child=_forget_threads)
