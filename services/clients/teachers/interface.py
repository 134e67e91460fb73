"""What a run asks of a teacher.

A teacher scores a SEQUENCES table (see `rlad_core.schema`) and answers TEACHER_SCORES: the same ids in the
same order, and for each response exactly one float32 per token, the natural log-prob of the untruncated
distribution at temperature 1. Scoring has no side effects, so a call may always be repeated.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import pyarrow as pa

from rlad_core.client.made_with import together
from rlad_core.waiting import all_of
from services.clients.teachers.policy import Compared, PolicyFacts, check_scores, compare_told


class Teacher(ABC):
    """A teacher that can be asked."""

    @abstractmethod
    async def score(self, sequences: pa.Table, end_token_ids: Sequence[int] = (), top_k: int = 0) -> pa.Table:
        """Log-probs of the responses.

        Args:
            sequences: SEQUENCES, any number of rows; or NAMED_SEQUENCES, whose named tokens' log-probs are
                told too.
            end_token_ids: tokens that count as one outcome; ``teacher_end_logprobs`` is told of them.
            top_k: how many of its likeliest tokens are told for the place of each response token.

        Returns:
            TEACHER_SCORES, or TEACHER_DETAILS where `top_k` or named tokens are asked for; the same ids in
            the same order.

        Raises:
            rlad_core.client.errors.ServiceError: the teacher cannot tell what is asked.
            rlad_core.client.errors.InvalidRequestError: a sequence cannot be scored; names it.
            TimeoutError: no answer within the teacher's limit.
        """

    async def score_again(self, sequences: pa.Table, end_token_ids: Sequence[int] = ()) -> pa.Table:
        """The same by another path, to compare the two; by default each sequence in a call of its own.

        Args, returns and raises: see `score`; one row at least.
        """
        rows = [sequences.slice(row, 1) for row in range(sequences.num_rows)]
        return together(await all_of(self.score(row, end_token_ids) for row in rows), "the teacher")

    async def compare(self, policy: PolicyFacts) -> Compared:
        """Compare what can be known of this teacher with the policy; by default nothing can.

        Raises:
            MismatchError: they do not fit; says what differs first.
            ServiceError, TimeoutError: the teacher does not answer.
        """
        return Compared()

    async def probe(self, policy: PolicyFacts) -> Compared:
        """Whether this teacher speaks the policy's language: `compare`, and then a known text is scored.

        Raises:
            MismatchError: it does not, or its answer is none; says what differs first.
            ServiceError, TimeoutError: the teacher does not answer.
        """
        compared = await self.compare(policy)
        compare_told(policy, compared)
        check_scores(await self.score(policy.known_text(), top_k=policy.top_k), policy)
        return compared

    async def close(self) -> None:  # noqa: B027 - most teachers hold nothing
        """Give back connections."""
