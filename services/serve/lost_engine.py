"""What a replica does without its engine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from services.base import telemetry


class EngineLostError(RuntimeError):
    """The engine's process has ended: this replica will not serve again."""


def end_with_engine(service: str, error: EngineLostError) -> NoReturn:
    """End the process with its engine.

    So callers turn to another replica at once, and Serve starts a new one, instead of all failing until the
    next health checks have passed.
    """
    telemetry.log("engine_lost", level="error", service=service, error=str(error), exc_info=error)
    os._exit(1)


@contextmanager
def ends_with_engine(service: str) -> Iterator[None]:
    """Where what is asked of the engine within the block says that it is lost, see `end_with_engine`."""
    try:
        yield
    except EngineLostError as error:
        end_with_engine(service, error)
