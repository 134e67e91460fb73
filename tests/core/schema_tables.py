"""Tables that the schema tests share."""

import json
from typing import Any

import numpy as np
import pyarrow as pa

from rlad_core import schema

VOCAB = {"a": 0, "b": 1, "c": 2, "</s>": 3}
MINE = schema.tokenizer_fingerprint(VOCAB)


def rollout_columns(count: int = 4) -> dict[str, Any]:
    lengths = [2 + i % 3 for i in range(count)]
    return {
        "group_id": [f"p{i // 2}#0" for i in range(count)],
        "sample_index": [i % 2 for i in range(count)],
        "prompt_id": [f"p{i // 2}" for i in range(count)],
        "prompt_token_ids": [[0, 1]] * count,
        "response_token_ids": [np.arange(n) % 4 for n in lengths],
        "rollout_logprobs": [np.full(n, -0.5) for n in lengths],
        "policy_versions": [[7] * n for n in lengths],
        "finish_reason": ["stop", "length"] * (count // 2),
        "response": ["a b"] * count,
    }


def rollouts(count: int = 4, **changes: Any) -> pa.Table:
    columns = rollout_columns(count) | changes
    return schema.build(schema.ROLLOUTS, columns, tokenizer_fingerprint=MINE, vocab_size=4)


def prompts(ids: list[str]) -> pa.Table:
    rows = [
        {
            "prompt_id": i,
            "task": "toy",
            "subset": f"subset of {i}",
            "prompt": "?",
            "prompt_token_ids": [0, 1],
            "gold": json.dumps({"of": i}),
        }
        for i in ids
    ]
    return schema.build(schema.PROMPTS, rows, tokenizer_fingerprint=MINE)


def rewards(ids: list[str]) -> pa.Table:
    rows = [
        {
            "sequence_id": i,
            "reward": float(n),
            "reward_parts": {"format": 1.0, "answer": n - 1.0},
            "correct": n > 0,
            "verdict": f"about {i}",
        }
        for n, i in enumerate(ids)
    ]
    return schema.build(schema.REWARDS, rows)


def scores(table: pa.Table, value: float = -1.0) -> pa.Table:
    lengths = schema.lengths(table.column("response_token_ids"))
    columns = {
        "sequence_id": schema.sequence_ids(table),
        "teacher_logprobs": [np.full(n, value - i) for i, n in enumerate(lengths)],
    }
    return schema.build(schema.TEACHER_SCORES, columns, tokenizer_fingerprint=MINE)


def joined(table: pa.Table, teacher: bool = True, seed: int = 0) -> pa.Table:
    """Experience from inputs in an order of their own."""
    ids = schema.sequence_ids(table).to_pylist()
    shuffled = np.random.default_rng(seed).permutation(len(ids))
    return schema.join_experience(
        table,
        prompts=prompts(sorted(set(table.column("prompt_id").to_pylist()), reverse=True)),
        rewards=rewards(ids).take(shuffled),
        advantages={ids[i]: float(i) for i in shuffled[::-1]},
        teacher_scores=scores(table).take(shuffled[::-1]) if teacher else None,
    )


def any_columns(kind: pa.Schema, prompts: list[int], responses: list[int], k: int = 2) -> dict[str, Any]:
    """Columns of a right table of any schema, with so many tokens in its rows, and k where there are k."""
    count = {"prompt token": prompts, "teacher's prompt token": prompts[::-1], "response token": responses}
    count |= {f"{several} per response token": [k * length for length in responses] for several in "kmd"}
    declared = {value.name: value for value in schema.TOKEN_VALUES}
    columns: dict[str, Any] = {}
    for field in kind:
        if value := declared.get(field.name):
            fine = next(n for n in (1, -0.5) if value.rule.holds(np.array([n])).all())
            columns[field.name] = [np.full(length, fine) for length in count[value.per]]
        else:
            columns[field.name] = [_scalar(field, row) for row in range(len(responses))]
    return columns


def _scalar(field: pa.Field, row: int) -> Any:
    known = {"finish_reason": "stop", "sample_index": 0, "group_id": f"g{row}", "sequence_id": f"g{row}/0"}
    if field.name in known:
        return known[field.name]
    if pa.types.is_map(field.type):
        return {"format": 1.0}
    if pa.types.is_boolean(field.type):
        return True
    return f"{field.name} {row}" if pa.types.is_string(field.type) else 0
