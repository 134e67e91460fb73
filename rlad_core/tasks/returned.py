"""What users' code returns, as plain values: numbers that a table of rewards can hold, texts to read."""

import math
from typing import Any

LARGEST = 3.4028234663852886e38
"""The largest finite float32 (IEEE 754), which rewards and their parts are stored as."""


def number(value: Any) -> float:
    """A bool, an int or a float as a number.

    Raises:
        ValueError: it is none, or not finite as float32; the text completes "..., ".
    """
    if not isinstance(value, bool | int | float):
        raise ValueError("not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not a finite number")
    if abs(value) > LARGEST:
        raise ValueError("too large for a number of 32 bits")
    return float(value)


def scalar(value: Any) -> Any:
    """A scalar of numpy or torch as Python's own."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def excerpt(value: Any) -> str:
    """The beginning of a value's `repr`, or its type where it has none."""
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - of an int with many digits, or of a user's own class
        shown = f"a {type(value).__name__}"
    return shown if len(shown) <= 60 else shown[:57] + "..."
