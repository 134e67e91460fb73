"""The Python clients of rollouts and verifier against the services, over real HTTP."""

import asyncio
import json

import httpx
import numpy as np
import pyarrow as pa
import pytest

from rlad_core import schema
from rlad_core.client import (
    AsyncRolloutClient,
    AsyncVerifierClient,
    RolloutClient,
    VerifierClient,
    rollouts,
    verifier,
)
from rlad_core.client.errors import InvalidRequestError, UnknownNameError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CHAT = [{"role": "user", "content": "Mia is a knight."}]


def prompts(fingerprint: str, count: int) -> pa.Table:
    return schema.build(
        schema.PROMPTS,
        {
            "prompt_id": [f"p{row}" for row in range(count)],
            "task": ["knights_knaves"] * count,
            "subset": ["2_people"] * count,
            "prompt": ["Mia"] * count,
            "prompt_token_ids": [[5, 6 + row] for row in range(count)],
            "gold": ["{}"] * count,
        },
        tokenizer_fingerprint=fingerprint,
    )


def test_rollouts_as_text_as_tokens_and_as_tables(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollouts, "RESPONSES_PER_PART", 4)  # several requests, whose answers are put together
    with RolloutClient(f"{http.base_url}/rollout") as client:
        policy = client.policy()
        table = client.generate(prompts(policy.tokenizer_fingerprint, 5), group_size=2, max_tokens=6, seed=3)
        schema.validate(table, schema.ROLLOUTS, tokenizer_fingerprint=policy.tokenizer_fingerprint)
        assert table["prompt_id"].to_pylist() == [f"p{row}" for row in range(5) for _ in range(2)]
        assert table["sample_index"].to_pylist() == [0, 1] * 5

        groups = client.sample_tokens([[5, 6], [5, 7], [5, 8]], group_size=2, max_tokens=6, seed=3)
        assert [len(group) for group in groups] == [2, 2, 2]
        for group in groups:
            for response in group:
                assert len(response.token_ids) == len(response.logprobs) == len(response.policy_versions)

        [[text]] = client.sample_texts([CHAT], group_size=1, max_tokens=8, temperature=0, training=False)
        [again] = client.sample_texts([CHAT], group_size=1, max_tokens=8, temperature=0, training=False)
        assert text.text == again[0].text
        assert client.sample_tokens([], group_size=2, max_tokens=4) == []
        with pytest.raises(InvalidRequestError, match="temperature"):
            client.sample_texts(["Mia"], group_size=1, max_tokens=8, temperature=0.5)


def test_rollouts_by_coroutines_are_the_same(http: httpx.Client) -> None:
    async def sampled() -> list[list[int]]:
        async with AsyncRolloutClient(f"{http.base_url}/rollout") as client:
            table = await client.generate(
                prompts((await client.policy()).tokenizer_fingerprint, 2), group_size=1, max_tokens=6, seed=9
            )
            return table["response_token_ids"].to_pylist()

    assert asyncio.run(sampled()) == asyncio.run(sampled())


def test_verdicts_of_texts_and_tables(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "RESPONSES_PER_PART", 2)
    asked = [(rf"So it is \boxed{{{value}}}.", {"answer": "5"}) for value in (5, 6, 5, 7, 5)]
    with VerifierClient(f"{http.base_url}/verifier") as client:
        assert "math" in client.info().tasks
        verdicts = client.judge("math", asked)
        assert [each.correct for each in verdicts] == [True, False, True, False, True]
        assert [each.id for each in verdicts] == ["0", "1", "2", "3", "4"]
        table = schema.build(
            schema.RESPONSES,
            {
                "sequence_id": [f"r{place}" for place in range(5)],
                "task": ["math"] * 5,
                "response": [response for response, _ in asked],
                "gold": [json.dumps(gold) for _, gold in asked],
            },
        )
        rewards = client.verify(table)
        assert rewards["sequence_id"].to_pylist() == table["sequence_id"].to_pylist()
        np.testing.assert_allclose(rewards["reward"].to_numpy(), [each.reward for each in verdicts])
        assert client.verify(table.slice(0, 0)).num_rows == 0
        with pytest.raises(UnknownNameError, match="not judged here"):
            client.judge("no_such_task", asked)


def test_verdicts_by_coroutines(http: httpx.Client) -> None:
    async def judged() -> list[bool]:
        async with AsyncVerifierClient(f"{http.base_url}/verifier") as client:
            cut_off = await client.judge(
                "math", [(r"\boxed{5}? I must", {"answer": "5"})], opened="<think>\n"
            )
            whole = await client.judge("math", [(r"\boxed{5}", '{"answer": "5"}')])
            return [cut_off[0].correct, whole[0].correct]

    assert asyncio.run(judged()) == [False, True]
