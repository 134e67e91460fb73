"""JSON that is sent: of plain numbers, texts and lists, whatever library's numbers the caller has."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rlad_core.client.errors import InvalidRequestError


def encoded(value: Any, what: str) -> bytes:
    """A body of UTF-8.

    Args:
        value: numbers and arrays of numpy and of other libraries that have `tolist` are written as lists.
        what: is sent, for errors.

    Raises:
        InvalidRequestError: it cannot be written, as half a character, NaN or some other object.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)
        return text.encode()
    except UnicodeEncodeError as error:
        odd = error.object[error.start]
        raise InvalidRequestError(
            f"{what} holds half a character (the lone surrogate {odd!r}), which cannot be sent"
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{what} cannot be sent as JSON: {error}") from error


def row_bytes(rows: Sequence[Mapping[str, Any]], what: str) -> list[int]:
    """What each row takes in a body, at most.

    Args:
        what: a row is, for errors, which add its number from 0.

    Raises:
        InvalidRequestError: see `encoded`; names the first row that cannot be sent, and its field.
    """
    sizes: list[int] = []
    for number, row in enumerate(rows):
        try:
            sizes.append(len(encoded(row, "")) + 1)
        except InvalidRequestError:
            for field, value in row.items():
                encoded(value, f"{what} {number}: {field}")
            raise
    return sizes


def _plain(value: Any) -> Any:
    if (tolist := getattr(value, "tolist", None)) is None:
        raise TypeError(f"a {type(value).__name__} is no number, text or list")
    return tolist()
