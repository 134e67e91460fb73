"""A token's bytes on their way from a file to a header: any but line breaks, as services take them."""

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
