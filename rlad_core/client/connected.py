"""What the clients with coroutines have in common: an endpoint whose connections they close."""

from typing import Self

from rlad_core.client.endpoint import Endpoint


class Connected:
    """A client as an async context manager.

    Args:
        endpoint: that it asks; closed with it.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
