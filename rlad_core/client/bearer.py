"""A bearer token, from where it is kept to a header: any bytes but line breaks, as services take them."""

import os
import re
from pathlib import Path

_NO_HEADER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""What no header takes (RFC 9110, 5.5)."""
_BLANKS = b" \t\r"
"""That services take off a line of their tokens."""


def authorization(token: str) -> bytes:
    """The value of the header.

    Args:
        token: its other characters than ASCII's are sent in UTF-8; surrogates that stand for bytes, as of
            `os.fsdecode`, as those.

    Raises:
        ValueError: it cannot be sent. It is not shown: the HTTP library's error would quote it.
    """
    try:
        given = token.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError("the token holds half a character, which no header takes") from None
    if b"\n" in given or b"\r" in given:
        raise ValueError("the token has line breaks, which no header takes; a token is one line")
    if _NO_HEADER.search(given):
        raise ValueError("the token has control characters, which no header takes")
    if given.strip(_BLANKS) != given:
        raise ValueError("the token begins or ends with a blank, which headers lose; leave it out")
    return b"Bearer " + given


def first_line(file: Path) -> str:
    """The first token of a file with one on each line, its bytes as `authorization` wants them.

    Raises:
        OSError: the file cannot be read.
        LookupError: it holds none.
    """
    lines = (line.strip(_BLANKS) for line in file.read_bytes().split(b"\n"))
    if (token := next(filter(None, lines), None)) is None:
        raise LookupError("its lines are empty")
    return token.decode("utf-8", "surrogateescape")


def token_from(environment_variable: str | None, file: str | None) -> str | None:
    """A token from where a recipe says it is; recipes never hold it.

    Args:
        environment_variable: that holds it, its bytes as `os.environ` has them.
        file: with a token on each line; its first one, as a service reads such a file.

    Raises:
        ValueError: it is not there, or cannot be sent in a header.
    """
    if file is not None:
        try:
            token = first_line(Path(file))
        except (OSError, LookupError) as error:
            raise ValueError(f"there is no token in {file}: {error}") from error
        return _sendable(token, file)
    if environment_variable is None:
        return None
    if not (token := os.environ.get(environment_variable, "").strip(" \t\r\n")):
        raise ValueError(f"the environment variable {environment_variable} holds no token")
    return _sendable(token, f"the environment variable {environment_variable}")


def _sendable(token: str, place: str) -> str:
    try:
        authorization(token)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    return token
