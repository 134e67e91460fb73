"""Limits that the environment of the Ray nodes sets."""

from collections.abc import Mapping


def positive(environment: Mapping[str, str], variable: str) -> float | None:
    """The number that a variable holds; None: it is not set, or empty.

    Raises:
        ValueError: it holds no positive number; names it.
    """
    text = environment.get(variable)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"{variable}: {text!r} is no positive number")
    return number
