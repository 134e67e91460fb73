"""A teacher that is reached through our REST interface, with Arrow on the wire."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from rlad_core.client import AsyncTeacherClient
from services.clients.teachers.interface import Teacher
from services.clients.teachers.policy import (
    REPLY,
    Compared,
    MismatchError,
    PolicyFacts,
    check_scores,
    compare_ids,
    compare_lengths,
    compare_tokenizers,
    compare_told,
)


class RestTeacher(Teacher):
    """Asks `AsyncTeacherClient`.

    Args:
        client: its limits are this teacher's.
    """

    def __init__(self, client: AsyncTeacherClient) -> None:
        self.client = client

    async def score(self, sequences: pa.Table, end_token_ids: Sequence[int] = (), top_k: int = 0) -> pa.Table:
        """See `Teacher.score`."""
        return await self.client.score(sequences, end_token_ids=end_token_ids, top_k=top_k)

    async def score_again(self, sequences: pa.Table, end_token_ids: Sequence[int] = ()) -> pa.Table:
        """See `Teacher.score_again`: by the model's own forward pass, where the service offers that."""
        if "plain" not in (await self.client.info()).details:
            return await super().score_again(sequences, end_token_ids)
        return await self.client.score(sequences, end_token_ids=end_token_ids, plain=True)

    async def compare(self, policy: PolicyFacts) -> Compared:
        """See `Teacher.compare`."""
        compared = compare_tokenizers(policy.info, await self.client.tokenizer())
        info = await self.client.info()
        compare_lengths(policy.max_length, info.max_model_len)
        most = min(info.limits.max_top_k, info.vocab_size)
        return replace(
            compared,
            tells_end_tokens="end_token_ids" in info.details,
            most_top_k=most if "top_k" in info.details else 0,
            most_named=most if "named_token_ids" in info.details else 0,
        )

    async def probe(self, policy: PolicyFacts) -> Compared:
        """See `Teacher.probe`; the known text is scored as text too, which the service tokenizes."""
        compared = await self.compare(policy)
        compare_told(policy, compared)
        logprobs = check_scores(await self.score(policy.known_text(), top_k=policy.top_k), policy)
        *prompts, (reply, _, reply_ids) = policy.known
        told = await self.client.score_texts([(text, REPLY) for _, text, _ in prompts])
        for (what, _, ids), each in zip(prompts, told, strict=True):
            compare_ids(what, ids, each.prompt_token_ids or [], policy.tokenizer)
        as_text = told[0]
        compare_ids(reply, reply_ids, as_text.response_token_ids or [], policy.tokenizer)
        # With fewer digits they depend on what else is in the batch, and others may be asking too.
        tolerance = 1e-3 if (await self.client.info()).dtype == "float32" else 0.1
        if not np.allclose(logprobs, as_text.logprobs, rtol=0, atol=tolerance):
            raise MismatchError(
                f"the teacher says {as_text.logprobs} of a known text, and {logprobs.tolist()} of the same "
                "in token ids: what answers there is not one teacher"
            )
        return compared

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()
