"""How much of its probability a stock server gives to rows of its model that are no tokens.

The embedding of many models has more rows than the tokenizer has tokens. Our own engines set those rows to
minus infinity; a stock vLLM server counts them in its softmax, so that the log-probs that it tells are too
low by -log(1 - mass), mass being what those rows have together. It says nothing of them by itself. But it
reads every row of the model as a token of a prompt, refuses what lies behind the last one, and tells the
log-prob of each token of a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

MOST_ROWS = 4096
"""More are no padding, and would take long to ask for."""


@dataclass(frozen=True)
class Padding:
    """Rows of a served model that are no tokens.

    rows: how many.
    mass: the probability that they have together, the largest that was seen, from 0 to 1.
    """

    rows: int
    mass: float

    def __str__(self) -> str:
        too_low = -math.log1p(-self.mass) if self.mass < 1 else math.inf
        return (
            f"{self.rows} rows of the served model are no tokens, and take up to {self.mass:.2g} of its "
            f"probability in a known text: log-probs of tokens are up to {too_low:.2g} nats too low there"
        )


async def measured(
    tokens: int,
    reads: Callable[[int], Awaitable[bool]],
    mass: Callable[[Sequence[int]], Awaitable[float]],
) -> Padding:
    """Find the rows, and ask what they take.

    Args:
        tokens: of the tokenizer; the ids from there on are none.
        reads: whether the server takes this id in a prompt.
        mass: the probability of these ids together, as the server has it.
    """
    rows = await _rows(tokens, reads)
    return Padding(rows, await mass(range(tokens, tokens + rows)) if rows else 0.0)


async def _rows(tokens: int, reads: Callable[[int], Awaitable[bool]]) -> int:
    """How many ids from `tokens` on are read, by halving."""
    low, high = 0, 1  # the first `low` are read; the one at `high` - 1 is not, once the first loop ends
    while high <= MOST_ROWS and await reads(tokens + high - 1):
        low, high = high, 2 * high
    high = min(high, MOST_ROWS + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if await reads(tokens + middle - 1):
            low = middle
        else:
            high = middle
    return low
