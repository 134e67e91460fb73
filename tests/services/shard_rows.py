"""A small shard, written out by hand: the rows of two groups, and how they are trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from rlad_core.assembly import ShardPlan
from rlad_core.schema import EXPERIENCE, build, tokenizer_fingerprint

FINGERPRINT = tokenizer_fingerprint({f"w{index}": index for index in range(100)})
PROMPTS = [[1, 2], [3], [4, 5, 6]]
RESPONSES = [[10, 11, 12], [20], [30, 31]]
ROLLOUT = [[-0.5, -1.0, -1.5], [-2.0], [-0.25, -0.75]]
VERSIONS = [[4, 4, 5], [5], [3, 4]]
TEACHER = [[-0.1, -0.2, -0.3], [-0.4], [-0.5, -0.6]]
ADVANTAGES = [1.0, -1.0, 0.5]
CORRECT = [True, False, False]


def experience(*, teacher: bool = True) -> pa.Table:
    """Rows written out by hand: two of one group, one of another."""
    rows = range(3)
    columns: dict[str, Any] = {
        "group_id": ["p#0", "p#0", "q#0"],
        "sample_index": [0, 1, 0],
        "prompt_id": ["p", "p", "q"],
        "prompt_token_ids": PROMPTS,
        "response_token_ids": RESPONSES,
        "rollout_logprobs": ROLLOUT,
        "policy_versions": VERSIONS,
        "finish_reason": ["stop"] * 3,
        "response": ["text"] * 3,
        "sequence_id": ["p#0/0", "p#0/1", "q#0/0"],
        "task": ["knights_knaves"] * 3,
        "subset": ["2_people"] * 3,
        "reward": [3.0, -1.0, 0.0],
        "reward_parts": [[("format", 1.0)] for _ in rows],
        "correct": CORRECT,
        "verdict": ["right", "wrong", "wrong"],
        "advantage": ADVANTAGES,
        "teacher_logprobs": TEACHER if teacher else [None] * 3,
    }
    return build(EXPERIENCE, columns, tokenizer_fingerprint=FINGERPRINT)


PLAN = ShardPlan(
    rows=np.array([0, 1, 2]),
    mini_batch=np.array([0, 0, 1]),
    token_weights=np.array([0.125, 0.25, 0.5]),
    group_has_correct=np.array([True, True, False]),
)
