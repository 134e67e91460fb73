"""Run by test_token_values.py in a copy of the source that declares two more values per token.

From what the engines tell to what an objective reads, by the functions that a run goes through.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from rlad_core import schema
from rlad_core.assembly import plan_shards
from rlad_core.objectives import TokenBatch
from services.experience.groups import Group
from services.experience.joining import join_groups
from services.learner.training_rows import TrainingRows
from services.rollout.tables import SampledResponse, to_rollouts
from services.teacher.scoring.interface import Scored
from services.teacher.scoring.tables import to_pairs, to_scores

MINE = schema.tokenizer_fingerprint({"a": 0})
LENGTHS = [3, 1]


class Tokenizer:
    """Writes nothing."""

    def batch_decode(self, rows: list[Any], skip_special_tokens: bool) -> list[str]:
        return ["" for _ in rows]


def sampled(length: int, likeliest: bool) -> SampledResponse:
    values = {
        "response_token_ids": np.arange(length, dtype=np.int32),
        "rollout_logprobs": np.full(length, -0.5, np.float32),
        "policy_versions": np.full(length, 7, np.int32),
    }
    if likeliest:
        values["rollout_likeliest"] = np.arange(2 * length, dtype=np.int32).reshape(length, 2)
    return SampledResponse(values, "stop")


def group(prompt: str, *, likeliest: bool = True, entropy: bool = True) -> Group:
    """One prompt's way through the services, whose engines tell the new values or cannot."""
    rows = [{"group_id": f"{prompt}#0", "prompt_id": prompt, "prompt_token_ids": np.zeros(2, np.int32)}]
    tokenizer: Any = Tokenizer()
    rollouts = to_rollouts(rows, [[sampled(length, likeliest) for length in LENGTHS]], tokenizer, MINE)
    rollouts = schema.from_ipc(schema.to_ipc(rollouts))
    sequences = schema.to_sequences(rollouts)
    pairs = to_pairs(sequences)
    scored = [
        Scored(
            {"teacher_logprobs": np.full(pair.response.size, -1, np.float32)}
            | ({"teacher_entropy": pair.response.astype(np.float32) / 4} if entropy else {})
        )
        for pair in pairs.pairs
    ]
    scores = schema.from_ipc(schema.to_ipc(to_scores(sequences, pairs, scored)))
    schema.validate(scores, schema.TEACHER_SCORES, tokenizer_fingerprint=MINE)
    verdict = {"reward_parts": {}, "correct": True, "verdict": ""}
    ids = schema.sequence_ids(rollouts).to_pylist()
    rewards = schema.build(
        schema.REWARDS, [{"sequence_id": i, "reward": float(n), **verdict} for n, i in enumerate(ids)]
    )
    return Group(0, rollouts, rewards, scores)


def batch_of(*groups: Group) -> TokenBatch:
    ids = [group.rollouts.column("prompt_id")[0].as_py() for group in groups]
    texts = {name: name for name in ("task", "subset", "prompt", "gold")}
    prompts = schema.build(
        schema.PROMPTS,
        [{"prompt_id": prompt, "prompt_token_ids": [0, 0], **texts} for prompt in ids],
        tokenizer_fingerprint=MINE,
    )
    table, names = join_groups(groups, prompts)
    schema.validate(table, schema.EXPERIENCE, vocab_size=10)
    [plan] = plan_shards(
        table, groups=names, mini_batches=1, ranks=1, token_weights=lambda lengths, _: np.ones(lengths.size)
    )
    rows = TrainingRows(table.take(pa.array(plan.rows)), plan)
    chosen = np.argsort(plan.rows)[::-1].copy()
    packed = rows.pack(chosen)
    logprobs = torch.full((packed.response_ids.numel(),), -1.0, requires_grad=True)
    return rows.token_batch(chosen, packed, logprobs, entropy=None)


def main() -> None:
    batch = batch_of(group("p"))
    assert torch.equal(batch.teacher_entropy, torch.tensor([0.0, 0.0, 0.25, 0.5]))
    likeliest = torch.tensor([[0, 1], [0, 1], [2, 3], [4, 5]], dtype=torch.int32)
    assert torch.equal(batch.rollout_likeliest, likeliest)

    batch = batch_of(group("p", likeliest=False, entropy=False))
    assert batch.teacher_entropy is None
    assert batch.rollout_likeliest is None
    assert torch.equal(batch.teacher_logprobs, torch.full((4,), -1.0))

    batch = batch_of(group("p"), group("q", entropy=False))
    assert batch.teacher_entropy is None, "of one teacher's responses, and not of the other's"
    assert batch.rollout_likeliest.shape == (8, 2)
    print("all values arrived")


if __name__ == "__main__":
    main()
