"""The tokens of a request, counted while its texts become tokens: what is too much is not tokenized whole."""

from rlad_core.client.errors import LimitError


class TokenSum:
    """Tokens of a request so far.

    Args:
        most: that it may have.
    """

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0

    def add(self, count: int, where: str) -> None:
        """Count so many more.

        Args:
            where: what they are of, for the error.

        Raises:
            LimitError: together they are more than the request may have.
        """
        self._count += count
        if self._count > self._most:
            raise LimitError(
                "tokens",
                f"{self._count} tokens in one request with {where}; at most {self._most} are taken",
            )
