"""Taking what a user's code returns apart: nothing of it but plain numbers and texts leaves a worker."""

from typing import Any

from rlad_core.tasks.base import Verdict
from rlad_core.tasks.returned import excerpt, number, scalar

MAX_TEXT = 1000
"""Characters of a reason."""


class UnusableError(ValueError):
    """What came back is no verdict; the text completes "the check ..."."""


def plain(made: Any) -> Verdict:
    """The verdict, made of Python's own types. Scalars of numpy count as numbers.

    Raises:
        UnusableError: it is none, or its numbers are no finite numbers.
    """
    if not isinstance(made, Verdict):
        raise UnusableError(f"returned {excerpt(made)}, which is no Verdict")
    correct = scalar(made.correct)
    if not isinstance(correct, bool):
        raise UnusableError(f"returned a Verdict whose correct is {excerpt(correct)}, not True or False")
    if not isinstance(made.parts, dict):
        raise UnusableError(f"returned a Verdict whose parts are {excerpt(made.parts)}, no dict")
    parts = {text(str(name)): _number(f"part {name}", value) for name, value in made.parts.items()}
    return Verdict(_number("reward", made.reward), parts, correct, text(str(made.reason)))


def text(said: str) -> str:
    """A text as Arrow takes it, no longer than people read."""
    short = said if len(said) <= MAX_TEXT else said[: MAX_TEXT - 4] + " ..."
    return short.encode("utf-8", "replace").decode()


def _number(what: str, value: Any) -> float:
    try:
        return number(scalar(value))
    except ValueError as error:
        raise UnusableError(f"returned a Verdict whose {what} is {excerpt(value)}, {error}") from error
