"""When a group was sampled, and when all who score and judge it had said so."""

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from rlad_core import schema
from services.base.span_collector import SpanCollector
from services.experience.groups import Group, GroupWorker
from services.experience.scorers import Scorer
from services.rollout.settings import SamplingSettings

FINGERPRINT = "sha256:mine"


def rollouts(index: int) -> pa.Table:
    row = {
        "group_id": "g",
        "prompt_id": "p",
        "sample_index": index,
        "prompt_token_ids": [1, 2],
        "response_token_ids": [3],
        "rollout_logprobs": [-1.0],
        "policy_versions": [0],
        "finish_reason": "stop",
        "response": "yes",
    }
    return schema.build(schema.ROLLOUTS, [row], tokenizer_fingerprint=FINGERPRINT)


class Services:
    """Two responses, and a teacher and a verifier that take their time for the last."""

    async def sample_in_parts(self, group: Any, sampling: Any, version: int, add: Any, top: int) -> None:
        for index in range(2):
            await asyncio.sleep(0.02)
            add(rollouts(index))

    async def judge(self, part: pa.Table, prompts: pa.Table) -> pa.Table:
        await asyncio.sleep(0.05)
        ids = schema.sequence_ids(part).to_pylist()
        count = len(ids)
        columns = {
            "sequence_id": ids,
            "reward": [1.0] * count,
            "reward_parts": [{}] * count,
            "correct": [True] * count,
            "verdict": ["right"] * count,
        }
        return schema.build(schema.REWARDS, columns)

    async def score(
        self, sequences: pa.Table, end_token_ids: Any = (), top_k: int = 0, seconds: float = 0.1
    ) -> pa.Table:
        await asyncio.sleep(seconds)
        columns = {
            "sequence_id": sequences.column("sequence_id"),
            "teacher_logprobs": [[-1.0]] * len(sequences),
        }
        return schema.build(schema.TEACHER_SCORES, columns, tokenizer_fingerprint=FINGERPRINT)


def worked(*scorers: Scorer) -> Group:
    services: Any = Services()
    table = pa.table({"group_id": ["g"], "prompt_id": ["p"], "prompt_token_ids": [[1, 2]]})
    sampling = SamplingSettings(group_size=2, max_tokens=4)
    worker = GroupWorker(services)
    group = asyncio.run(worker.work(0, table, table, sampling, 0, scorers))
    assert len(group.rollouts) == 2
    return group


def test_it_is_known_how_long_a_group_waited_for_its_teacher_and_its_verifier() -> None:
    services: Any = Services()
    group = worked(Scorer("teacher", services))
    # The second response was there while both were at the first.
    assert group.scored["teacher"] - group.sampled >= 0.1
    assert group.judged - group.sampled >= 0.05
    assert not worked().scored


def test_a_frozen_reference_is_waited_for_by_itself() -> None:
    services: Any = Services()
    slow: Any = SimpleNamespace(score=services.score)
    quick: Any = SimpleNamespace(score=partial(services.score, seconds=0.0))
    collector = SpanCollector()
    group = worked(Scorer("teacher", quick), Scorer("reference", slow))
    collector.close()
    assert group.scored["reference"] > group.scored["teacher"]
    assert {span.stage for span in collector.take()} == {"rollout", "teacher", "reference"}
