"""Places in the engine for responses: how many may wait for one, and whose turn it is."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager

from rlad_core import metrics
from rlad_core.client.parts import cut
from services.base import telemetry
from services.rollout.app import SERVICE
from services.serve.fair import OWN, FairPlaces, asker
from services.serve.shares import QueueShares

_RETRY_AFTER_S = 2.0


class EngineTurns:
    """Of one replica.

    Args:
        places: responses that the engine has at a time.
        weights: of callers, see `services.serve.replica_settings.ReplicaArgs`.
        most: responses in work and waiting, with which more are refused.
        unfinished: tells the responses that the engine has not finished.
    """

    def __init__(
        self, places: int, weights: Mapping[str, float], most: int, unfinished: Callable[[], int]
    ) -> None:
        self._places, self._count = FairPlaces(places, weights), places
        self._shares = QueueShares(most, weights, "responses are in work", "responses", _RETRY_AFTER_S)
        self._unfinished = unfinished
        self._at_a_time = max(1, places // 4)
        self.waiting = 0
        """Responses, for a turn."""

    @property
    def callers(self) -> int:
        """Those who wait for a turn."""
        return self._places.callers

    def parts(self, responses: int) -> Iterator[tuple[int, int]]:
        """First and end of responses to a prompt that take a turn together; others get theirs between."""
        return cut([1] * responses, self._at_a_time, self._at_a_time)

    def parts_together(self, responses: int) -> int:
        """How many parts of so many responses to each prompt have all places together."""
        return max(1, self._count // min(responses, self._at_a_time))

    def admitted(self, responses: int) -> AbstractContextManager[None]:
        """Room for a request for so many responses until it is answered.

        Raises:
            BusyError: too many are in work here already, or too many of this caller; see `QueueShares.taken`.
        """
        return self._shares.taken(responses, self._unfinished() + self.waiting)

    @asynccontextmanager
    async def turn(self, responses: int, cost: float) -> AsyncIterator[None]:
        """Places for so many responses. The run that a service belongs to waits for nobody.

        Args:
            cost: tokens that they may come to, prompt included.
        """
        if asker().caller == OWN:
            yield
            return
        self.waiting += responses
        self._record()
        try:
            await self._places.take(responses, cost)
        finally:
            self.waiting -= responses
            self._record()
        try:
            yield
        finally:
            self._places.give(responses)

    def _record(self) -> None:
        telemetry.gauge(metrics.SERVICE_QUEUE, self.waiting, service=SERVICE)
        telemetry.gauge(metrics.SERVICE_CALLERS, self.callers, service=SERVICE)
