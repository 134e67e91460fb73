"""One way to ask a teacher, wherever it is.

A teacher scores a SEQUENCES table (see `rlad_core.schema`) and answers TEACHER_SCORES: the same ids in the
same order, and for each response exactly one float32 per token, the natural log-prob of the untruncated
distribution at temperature 1. Scoring has no side effects, so a call may always be repeated.
"""

from abc import ABC, abstractmethod

import pyarrow as pa
from ray.serve.handle import DeploymentHandle

from services.calls import call


class TeacherClient(ABC):
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
            TimeoutError: no answer within the client's limit.
        """


class HandleTeacher(TeacherClient):
    """A teacher deployed in this process's own Ray cluster.

    Args:
        handle: of the application that `services.teacher.build` makes.
        timeout_s: limit of a call, including attempts after a replica went away.
    """

    def __init__(self, handle: DeploymentHandle, timeout_s: float) -> None:
        self._handle = handle
        self._timeout_s = timeout_s

    async def score(self, sequences: pa.Table) -> pa.Table:
        """See `TeacherClient.score`."""
        what = f"the teacher's log-probs of {sequences.num_rows} sequences"
        scores: pa.Table = await call(self._handle.score, sequences, timeout_s=self._timeout_s, what=what)
        return scores
