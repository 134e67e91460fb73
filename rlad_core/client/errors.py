"""What a service refuses or fails, told to handle callers as exceptions and to HTTP callers by status.

All of them survive pickling, so a caller of a deployment handle can catch them by class.
"""

from rlad_core.metric_specs import LimitKind


class ServiceError(Exception):
    """An answer other than the wanted one.

    Attributes:
        status: of the HTTP answer.
        title: of the kind of problem, the same every time.
        limit: which limit was hit; None: none was, or nobody knows.
    """

    status = 500
    title = "The service failed"
    limit: LimitKind | None = None


class InvalidRequestError(ServiceError, ValueError):
    """What was sent is readable and cannot be worked on; the message says which part of it.

    Args:
        message: what is wrong.
        path: the field that it is wrong of, where it is one.
    """

    status = 422
    title = "The request cannot be worked on"

    def __init__(self, message: str, path: str | None = None) -> None:
        super().__init__(message, path)
        self.message, self.path = message, path

    def __str__(self) -> str:
        return self.message if self.path is None else f"{self.path}: {self.message}"


class RowError(InvalidRequestError):
    """One of a request's rows cannot be worked on. Its place is said as JSON bodies have it, also of a table.

    Args:
        message: what is wrong.
        rows: what rows are called in JSON.
        row: number of the row, from 0.
        field: of it, that is wrong; None: no single one.
    """

    def __init__(self, message: str, rows: str, row: int, field: str | None = None) -> None:
        super().__init__(message, f"{rows}[{row}]" + ("" if field is None else f".{field}"))
        self.args = message, rows, row, field

    def behind(self, rows: int) -> "RowError":
        """The same where so many rows come before those that were looked at."""
        message, name, row, field = self.args
        return RowError(message, name, row + rows, field)


class UnknownNameError(ServiceError, LookupError):
    """The model or task that was asked for is not served here."""

    status = 404
    title = "Not served here"


class LimitError(ServiceError):
    """The request is over a limit of the service.

    Args:
        limit: which one; None: the service that refused it did not say.
        message: how much it is, and how much is allowed.
    """

    status = 413
    title = "The request is over a limit"

    def __init__(self, limit: LimitKind | None, message: str) -> None:
        super().__init__(limit, message)
        self.limit = limit

    def __str__(self) -> str:
        return str(self.args[1])


class DeadlineError(ServiceError, TimeoutError):
    """The work did not end in time; it was given up."""

    status = 504
    title = "The time limit was reached"
    limit = "time"


class BusyError(ServiceError):
    """Too much waits here already; to be asked again.

    Args:
        message: how much waits, and how much may.
        retry_after_s: when asking again makes sense.
    """

    status = 429
    title = "Too much is waiting"
    limit: LimitKind | None = "queue"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return str(self.args[0])


class DrainingError(ServiceError):
    """The service finishes what it has and takes nothing new; another replica does, or a later one."""

    status = 503
    title = "The service is shutting down"
    retry_after_s = 5.0


class AsleepError(ServiceError):
    """The engine sleeps while the learner of its run works; to be asked again."""

    status = 503
    title = "The engine sleeps"
    retry_after_s = 10.0


class NotReadyError(ServiceError):
    """The service is up, and what it serves with does not answer."""

    status = 503
    title = "Not ready"
    retry_after_s = 5.0
