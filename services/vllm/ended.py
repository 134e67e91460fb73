"""That vLLM's engine process has ended, as services say it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vllm.v1.engine.exceptions import EngineDeadError

from services.serve.lost_engine import EngineLostError


@contextmanager
def told_as_lost(doing: str) -> Iterator[None]:
    """For what is asked of an engine.

    Args:
        doing: what it was asked for, in the past tense: "sampled".

    Raises:
        EngineLostError: its process has ended.
    """
    try:
        yield
    except EngineDeadError as error:
        raise EngineLostError(f"the vLLM engine has ended while it {doing}; its log says why") from error
