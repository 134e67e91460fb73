"""Places in the engine for responses: how many may wait for one, and whose turn it is."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from rlad_core import metrics
from rlad_core.client.errors import BusyError
from services.base import telemetry
from services.rollout.app import SERVICE
from services.serve.fair import OWN, FairPlaces, asker

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
        self._places = FairPlaces(places, weights)
        self._most = most
        self._unfinished = unfinished
        self.waiting = 0
        """Responses, for a turn."""

    @property
    def callers(self) -> int:
        """Those who wait for a turn."""
        return self._places.callers

    def refuse_if_busy(self, responses: int) -> None:
        """Refuse a request for so many responses where too many are in work.

        A lone request is always taken, however small the limit is.

        Raises:
            BusyError: it would be more than the limit.
        """
        if (waiting := self._unfinished() + self.waiting) and waiting + responses > self._most:
            raise BusyError(
                f"{waiting} responses are in work here, and with these {responses} it would be more than "
                f"{self._most}",
                retry_after_s=_RETRY_AFTER_S,
            )

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
