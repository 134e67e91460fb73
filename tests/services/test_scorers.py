"""Who scores a group: what a privileged teacher is asked, and the scores of several as those of one."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from teacher_faults import MODEL, engine, prompts, scored
from transformers import AutoModelForCausalLM

from rlad_core import schema
from rlad_core.client.details import Details, named_per_token
from rlad_core.config import resolve_model
from services.clients.teachers import Teacher
from services.experience.scorers import Scorer, Told, together

POLICY = resolve_model("rlad:kk-student")
SOLUTION = [20, 30, 40]


class Local(Teacher):
    """A model in this process."""

    def __init__(self, model: str) -> None:
        self._model = model

    async def score(self, sequences: pa.Table, end_token_ids: Sequence[int] = (), top_k: int = 0) -> pa.Table:
        named = named_per_token(sequences)
        details = Details(end_token_ids=tuple(end_token_ids), top_k=top_k, named_token_ids=named)
        return await scored(engine(self._model), sequences, details)


def rollouts() -> pa.Table:
    """Two responses to one prompt."""
    sequences, _ = prompts()
    rows = sequences.slice(0, 2).to_pylist()
    return schema.build(
        schema.ROLLOUTS,
        [
            {
                "group_id": "p0#0",
                "prompt_id": "p0",
                "prompt_token_ids": row["prompt_token_ids"],
                "sample_index": place,
                "response_token_ids": row["response_token_ids"],
                "rollout_logprobs": [-1.0] * len(row["response_token_ids"]),
                "policy_versions": [0] * len(row["response_token_ids"]),
                "finish_reason": "stop",
                "response": "words",
            }
            for place, row in enumerate(rows)
        ],
        tokenizer_fingerprint=schema.fingerprint_of(sequences),
    )


def reference(model: str, prompt: list[int], response: list[int]) -> np.ndarray:
    """Probabilities of the response's tokens, by transformers in float64."""
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)
    with torch.no_grad():
        logits = loaded(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    return logits.softmax(dim=1)[range(len(response)), response].numpy()


def test_a_mixture_with_a_privileged_teacher_is_what_transformers_say_of_both() -> None:
    table = rollouts()
    [prompt] = {tuple(row) for row in table.column("prompt_token_ids").to_pylist()}
    scorers = [
        Scorer("teachers.0", Local(MODEL), 3.0),
        Scorer("teachers.1", Local(POLICY), 1.0, prompt_token_ids=[*SOLUTION, *prompt]),
    ]

    async def told() -> list[Told]:
        return [Told(scorer.reads(table), await scorer.score(table)) for scorer in scorers]

    answers = asyncio.run(told())
    found = together(scorers, answers, "probabilities")
    assert found is not None
    schema.validate(found, schema.TEACHER_SCORES)
    assert found.column("sequence_id").to_pylist() == ["p0#0/0", "p0#0/1"]
    for row, response in enumerate(table.column("response_token_ids").to_pylist()):
        wanted = 0.75 * reference(MODEL, list(prompt), response)
        wanted += 0.25 * reference(POLICY, [*SOLUTION, *prompt], response)
        np.testing.assert_allclose(
            found.column("teacher_logprobs")[row].as_py(), np.log(wanted), rtol=0, atol=1e-4
        )
    # What is scored again is what each of them was asked.
    assert answers[0].read.column("prompt_token_ids").to_pylist() == [list(prompt)] * 2
    assert answers[1].read.column("prompt_token_ids").to_pylist() == [[*SOLUTION, *prompt]] * 2


def test_one_teacher_is_told_as_it_is_and_none_as_nothing() -> None:
    table = rollouts()
    scorer = Scorer("teacher", Local(MODEL))
    scores = asyncio.run(scorer.score(table))
    assert together([scorer], [Told(scorer.reads(table), scores)], "logprobs") is scores
    assert together([], [], "logprobs") is None


def test_a_teacher_that_is_asked_about_the_policys_tokens_is_asked_again_without_them() -> None:
    table = rollouts()
    lengths = schema.lengths(table.column("response_token_ids"))
    named = schema.list_column([np.arange(2 * length) % 50 + 8 for length in lengths], pa.list_(pa.int32()))
    details = schema.build(
        schema.ROLLOUT_DETAILS,
        {
            **{name: table.column(name) for name in table.column_names},
            "rollout_top_token_ids": named.cast(pa.list_(pa.int32())),
        },
        tokenizer_fingerprint=schema.fingerprint_of(table),
    )
    scorer = Scorer("teacher", Local(MODEL), policy_top_k=2)
    scores = asyncio.run(scorer.score(details))
    assert schema.lengths(scores.column("named_logprobs")).tolist() == (2 * lengths).tolist()
    assert scorer.reads(details).column_names == schema.SEQUENCES.names
    both = together([scorer, scorer], [Told(scorer.reads(details), scores)] * 2, "probabilities")
    assert both is not None
    np.testing.assert_allclose(
        np.concatenate(both.column("named_logprobs").to_pylist()),
        np.concatenate(scores.column("named_logprobs").to_pylist()),
        atol=1e-6,
        rtol=0,
    )
