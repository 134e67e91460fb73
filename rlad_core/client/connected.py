"""What the clients with coroutines have in common: an endpoint whose connections they close."""

from collections.abc import Callable
from typing import ClassVar, Self

from rlad_core.client.endpoint import Endpoint


class Connected:
    """A client as an async context manager.

    Args:
        url: under which the service's routes are.
        token: bearer token, where the service wants one.
        call_timeout_s: limit of one HTTP request; None: the client's own.
        timeout_s: limit of such a request with its repetitions; None: the client's own.
        connections: requests at a time.
        say: told while the service does not answer: after 10 s and then every 30 s, with URL and cause.

    Raises:
        ValueError: the token cannot be sent in a header, or there are no connections.
    """

    CALL_TIMEOUT_S: ClassVar[float]
    TIMEOUT_S: ClassVar[float]

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
        self._connections = connections
        self._endpoint = Endpoint(
            url,
            token=token,
            call_timeout_s=self.CALL_TIMEOUT_S if call_timeout_s is None else call_timeout_s,
            timeout_s=self.TIMEOUT_S if timeout_s is None else timeout_s,
            connections=connections,
            say=say,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
