"""Why a run does not start or does not finish, for the person who started it."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.report.record_lines import LinesError


class RunError(Exception):
    """The run failed on the way: exit code 1."""


class RefusedError(RunError):
    """The run does not start, and no engine was started: exit code 2."""


class LearnerError(RunError):
    """A rank failed with what another one would fail with too.

    Args:
        said: what it was.
        whole: with all stacks.
    """

    def __init__(self, said: str, whole: str) -> None:
        super().__init__(said)
        self.whole = whole


@contextmanager
def refused_if_broken() -> Iterator[None]:
    """For who reads or changes a run's record, see `services.report.taking_back`.

    Raises:
        RefusedError: it is broken.
    """
    try:
        yield
    except LinesError as error:
        raise RefusedError(str(error)) from error
