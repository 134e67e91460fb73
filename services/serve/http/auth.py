"""Bearer tokens (RFC 6750) that a service accepts; several at a time, so that they can be exchanged.

They come from the environment of the service's process, never from its arguments, which Ray shows:

=========================  ===========================================================
``RLAD_API_TOKENS``        tokens, separated by commas or blanks
``RLAD_API_TOKENS_FILE``   a file with a token on each line, of any bytes; read again when it changes
=========================  ===========================================================

Without either, only this machine is served.
"""

import hmac
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

TOKENS, TOKENS_FILE = "RLAD_API_TOKENS", "RLAD_API_TOKENS_FILE"


class AuthError(Exception):
    """The tokens cannot be read; says from where."""


class Tokens:
    """The accepted tokens, as they are now.

    Args:
        environment: where the two variables are looked up; by default the process's.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._stamp: tuple[str, int, int, int] | None = None
        self._from_file: tuple[bytes, ...] = ()

    @property
    def required(self) -> bool:
        """Whether requests must carry a token: so from the moment one of the variables is set."""
        return bool(self._environment.get(TOKENS) or self._environment.get(TOKENS_FILE))

    def accept(self, authorization: str | None) -> bool:
        """Whether the header ``Authorization`` carries a valid token.

        Raises:
            AuthError: the file with the tokens cannot be read. Nobody is let in then.
        """
        if (sent := bearer(authorization)) is None:
            return False
        # Every token is compared, each in constant time: the time tells nothing of which one came close.
        matches = [hmac.compare_digest(sent, token) for token in self._tokens()]
        return any(matches)

    def check(self) -> None:
        """See that somebody can be let in.

        Raises:
            AuthError: the file with the tokens cannot be read, or there are none though they are required.
        """
        if self.required and not self._tokens():
            given = [name for name in (TOKENS, TOKENS_FILE) if self._environment.get(name)]
            raise AuthError(f"{' and '.join(given)}: there is no token in it, so nobody could be let in")

    def _tokens(self) -> tuple[bytes, ...]:
        listed = self._environment.get(TOKENS, "").replace(",", " ").split()
        return (*map(os.fsencode, listed), *self._read_file())

    def _read_file(self) -> tuple[bytes, ...]:
        path = self._environment.get(TOKENS_FILE)
        if not path:
            return ()
        try:
            status = os.stat(path)
            # With its size: a file that is emptied and then written may be read between the two, and the
            # kernel's clock need not have gone on by then.
            stamp = (path, status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                lines = (line.strip(b" \t\r") for line in Path(path).read_bytes().split(b"\n"))
                self._from_file = tuple(line for line in lines if line)
                self._stamp = stamp
        except OSError as error:
            raise AuthError(f"{TOKENS_FILE}: {path} cannot be read ({error.strerror})") from error
        return self._from_file


def bearer(authorization: str | None) -> bytes | None:
    """The token in the header ``Authorization``, however scheme and blanks are written; None: no bearer's."""
    scheme, _, given = (authorization or "").partition(" ")
    # Headers are bytes, which ASGI's servers show as Latin-1.
    return given.strip(" \t").encode("latin-1", "replace") if scheme.lower() == "bearer" else None


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    # As a socket for both protocols tells an IPv4 address; Python looks inside from 3.13 on.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
