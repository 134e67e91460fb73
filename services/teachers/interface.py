"""What a run asks of a teacher.

A teacher scores a SEQUENCES table (see `rlad_core.schema`) and answers TEACHER_SCORES: the same ids in the
same order, and for each response exactly one float32 per token, the natural log-prob of the untruncated
distribution at temperature 1. Scoring has no side effects, so a call may always be repeated.
"""

from abc import ABC, abstractmethod

import pyarrow as pa


class Teacher(ABC):
    """A teacher that can be asked."""

    @abstractmethod
    async def score(self, sequences: pa.Table) -> pa.Table:
        """Log-probs of the responses.

        Args:
            sequences: SEQUENCES, any number of rows.

        Returns:
            TEACHER_SCORES, the same ids in the same order.

        Raises:
            services.errors.InvalidRequestError: a sequence cannot be scored; names it.
            TimeoutError: no answer within the teacher's limit.
        """

    async def close(self) -> None:  # noqa: B027 - most teachers hold nothing
        """Give back connections."""
