"""What a service is asked when it is to end: to take nothing new, and how much it still works on."""

from services.serve.http.health import Intake
from services.serve.jobs.worker import Jobs


class Drains:
    """For a service to inherit; called on every replica, and never answered over HTTP."""

    _intake: Intake
    _jobs: Jobs

    async def drain(self) -> None:
        """Take nothing new over HTTP from now on."""
        self._intake.close()
        self._jobs.stop()

    async def in_work(self) -> int:
        """Requests over HTTP that are not answered yet."""
        return self._intake.in_work
