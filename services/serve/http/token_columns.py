"""A column of token ids whose rows come in any order: what a request has as ids is looked at before its texts
are tokenized, which costs far more.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.serve.http.elements import TokenLists

_MISSING = -1


class TokenColumn:
    """Token ids, int32 [tokens] a row.

    Args:
        rows: that it has; all are missing at first.
    """

    def __init__(self, rows: int) -> None:
        self._lists = TokenLists()
        self._numbers = np.full(rows, _MISSING, np.int32)
        self.sizes = np.zeros(rows, np.int64)
        """Tokens of each row: int64 [rows], 0 where it is missing."""

    def __setitem__(self, row: int, ids: npt.NDArray[np.int32]) -> None:
        self._numbers[row] = len(self._lists)
        self._lists.add(ids)
        self.sizes[row] = ids.size

    def __contains__(self, row: int) -> bool:
        return bool(self._numbers[row] != _MISSING)

    @property
    def missing(self) -> npt.NDArray[np.bool_]:
        """Which rows are: bool [rows]."""
        return self._numbers == _MISSING

    def packed(self) -> pa.Array:
        """All rows, when there are no more to come; null where one is missing."""
        lists = self._lists.packed()
        if np.array_equal(self._numbers, np.arange(len(self._lists))):
            return lists
        return lists.take(pa.array(self._numbers, mask=self.missing))
