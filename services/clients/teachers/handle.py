"""A teacher deployed in this process's own Ray cluster."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
from ray.serve.handle import DeploymentHandle

from rlad_core.client.details import Details
from services.clients.calls import call
from services.clients.teachers.interface import Teacher
from services.clients.teachers.policy import Compared, PolicyFacts, compare_model


class HandleTeacher(Teacher):
    """Asks by deployment handle, in Arrow.

    Args:
        handle: of the application that `services.teacher.service.build` makes.
        model: folder or hub id of what it serves.
        timeout_s: limit of a call, including attempts after a replica went away.
        tells_all: whether its engine tells of named tokens, and of several end tokens together.
    """

    def __init__(
        self, handle: DeploymentHandle, model: str, timeout_s: float, *, tells_all: bool = True
    ) -> None:
        self._tells_all = tells_all
        self._handle = handle
        self._model = model
        self._timeout_s = timeout_s

    async def score(self, sequences: pa.Table, end_token_ids: Sequence[int] = (), top_k: int = 0) -> pa.Table:
        """See `Teacher.score`."""
        return await self._score(sequences, Details(top_k=top_k, end_token_ids=tuple(end_token_ids)))

    async def score_again(self, sequences: pa.Table, end_token_ids: Sequence[int] = ()) -> pa.Table:
        """See `Teacher.score_again`: by the model's own forward pass."""
        return await self._score(sequences, Details(end_token_ids=tuple(end_token_ids), plain=True))

    async def compare(self, policy: PolicyFacts) -> Compared:
        """See `Teacher.compare`."""
        compared = compare_model(policy, self._model)
        tokens = len(policy.tokenizer.get_vocab())  # its limit is set to what the run asks for
        return replace(
            compared,
            tells_end_tokens=self._tells_all,
            most_top_k=tokens,
            most_named=tokens if self._tells_all else 0,
        )

    async def _score(self, sequences: pa.Table, details: Details) -> pa.Table:
        what = f"the teacher's log-probs of {sequences.num_rows} sequences"
        scores: pa.Table = await call(
            self._handle.score, sequences, details, timeout_s=self._timeout_s, what=what
        )
        return scores
