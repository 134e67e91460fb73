"""A group is a visit: any number of prompts, steps of any size, over epochs, refills and a resumption."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerBase

from rlad_core import schema
from rlad_core.config import RunConfig, validate
from rlad_core.prompt_stream import PromptStream, rows_of
from rlad_core.slots import SlotLedger
from rlad_core.tasks.knights_knaves.tiny import build_tokenizer

EPOCHS = 5
REFILLS = 2
COUNTS, STEPS = (1, 2, 3, 7001), (1, 4, 256)
OWN = """
from rlad_core.tasks import Task, Verdict

class Counting(Task):
    def __init__(self, number):
        self.number = number

    def prompts(self, split, subset, count, seed):
        return [self.prompt(f"{split} {n}?", str(n)) for n in range(self.number if split == "train" else 1)]

    def verify(self, response, gold):
        return Verdict(1.0, {}, response == gold, "")
"""


def rows(count: int) -> list[dict[str, Any]]:
    return [{"question": f"{number}?", "answer": str(number)} for number in range(count)]


def math(folder: Path, count: int) -> dict[str, Any]:
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(count)))
    (folder / "held.jsonl").write_text('{"question": "a?", "answer": "1"}')
    return {
        "name": "math",
        "train": {"files": [str(folder / "train.jsonl")]},
        "evaluation": {"files": [str(folder / "held.jsonl")]},
    }


def prompts(folder: Path, count: int) -> dict[str, Any]:
    pq.write_table(pa.Table.from_pylist(rows(count)), folder / "train.parquet")
    (folder / "held.csv").write_text("question,answer\na?,1\n")
    (folder / "reward.py").write_text("def score(response, gold): return response == gold\n")
    return {
        "name": "prompts",
        "reward": f"{folder}/reward.py:score",
        "train": {"files": [str(folder / "train.parquet")]},
        "evaluation": {"files": [str(folder / "held.csv")]},
    }


def puzzles(folder: Path, count: int) -> dict[str, Any]:
    return {
        "name": "knights_knaves",
        "train": {"people": [2], "count": count},
        "evaluation": {"people": [2], "count": 1},
    }


def own(folder: Path, count: int) -> dict[str, Any]:
    (folder / "own.py").write_text(OWN)
    return {"name": f"{folder}/own.py:Counting", "settings": {"number": count}}


def recipe(task: dict[str, Any], prompts_per_step: int) -> RunConfig:
    values = {
        "name": "visits",
        "policy": {"model": "tiny:student", "init": "random", "max_length": 512},
        "task": task,
        "rollout": {
            "max_response_length": 16,
            "prompts_per_step": prompts_per_step,
            "refill_rounds": REFILLS,
        },
        "verifier": {"workers": 8},
        "stages": [{"steps": 1, "objective": {"kind": "grpo"}}],
    }
    return validate(values, "the test")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return build_tokenizer(1024)


class Run:
    """Draws, drops and refills as the collector does, without services: a third teaches nothing."""

    def __init__(self, stream: PromptStream, ledger: SlotLedger, size: int) -> None:
        self.stream, self.ledger, self.size = stream, ledger, size
        self.luck = np.random.default_rng(0)

    def step(self) -> tuple[list[int], list[int]]:
        """Positions that are trained on, and those that are dropped, of one step."""
        kept: list[int] = []
        dropped: list[int] = []
        for _ in range(1 + REFILLS):
            drawn = self.ledger.draw(self.size - len(kept))
            for position in drawn:
                self.ledger.advance(position, "in_flight")
                self.ledger.advance(position, "finished")
            useless = [position for position in drawn if self.luck.random() < 1 / 3]
            self.ledger.release(useless)
            dropped += useless
            kept += [position for position in drawn if position not in useless]
            if len(kept) == self.size:
                break
        for position in kept:
            self.ledger.advance(position, "taken")
        return kept, dropped


def assert_is_a_step(stream: PromptStream, positions: list[int]) -> None:
    """The tables of a step hold: each prompt once, each visit, and a batch that is matched by them."""
    asked = stream.prompts(positions)
    table = stream.table(asked)
    assert len(table) == len({prompt.prompt_id for prompt in asked})
    groups = [stream.group_id(position, prompt) for position, prompt in zip(positions, asked, strict=True)]
    assert len(set(groups)) == len(groups)
    rollouts = schema.build(
        schema.ROLLOUTS,
        {
            "group_id": groups,
            "sample_index": [0] * len(groups),
            "prompt_id": [prompt.prompt_id for prompt in asked],
            "prompt_token_ids": rows_of(table, asked)["prompt_token_ids"],
            "response_token_ids": [[1]] * len(groups),
            "rollout_logprobs": [[-1.0]] * len(groups),
            "policy_versions": [[0]] * len(groups),
            "finish_reason": ["stop"] * len(groups),
            "response": ["a"] * len(groups),
        },
        tokenizer_fingerprint=schema.fingerprint_of(table),
    )
    sequences = schema.sequence_ids(rollouts).to_pylist()
    rewards = schema.build(
        schema.REWARDS,
        {
            "sequence_id": sequences,
            "reward": [0.0] * len(groups),
            "reward_parts": [{}] * len(groups),
            "correct": [False] * len(groups),
            "verdict": [""] * len(groups),
        },
    )
    joined = schema.join_experience(
        rollouts, prompts=table, rewards=rewards, advantages=dict.fromkeys(sequences, 0.0)
    )
    assert joined["prompt_id"].to_pylist() == [prompt.prompt_id for prompt in asked]
    assert schema.to_responses(rollouts, table)["gold"].to_pylist() == [prompt.gold for prompt in asked]


@pytest.mark.parametrize("size", STEPS)
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("loader", [math, prompts, puzzles, own], ids=lambda loader: loader.__name__)
def test_every_visit_is_its_own_group(
    loader: Callable[[Path, int], dict[str, Any]],
    count: int,
    size: int,
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    config = recipe(loader(tmp_path, count), size)
    run = Run(PromptStream(config, tokenizer), SlotLedger(config.slots), size)
    steps: list[list[int]] = []
    consumed: list[int] = []
    resumed = False
    while len(consumed) < EPOCHS * count or not resumed:
        before = run.ledger.frontier
        kept, dropped = run.step()
        if not resumed and len(consumed) >= EPOCHS * count // 2:
            # Killed within a step: what was not trained on is drawn again, by another process.
            resumed = True
            run = Run(PromptStream(config, tokenizer), SlotLedger(config.slots, before), size)
            continue
        run.ledger.release(kept)
        consumed += [*kept, *dropped]
        if kept:
            steps.append(kept)
    assert resumed
    assert sorted(consumed) == list(range(len(consumed)))  # each visit once, and none skipped
    visits = Counter(
        run.stream.group_id(position, prompt)
        for position, prompt in zip(consumed, run.stream.prompts(consumed), strict=True)
    )
    assert set(visits.values()) == {1}
    epochs = Counter(prompt.prompt_id for prompt in run.stream.prompts(range(EPOCHS * count)))
    assert set(epochs.values()) == {EPOCHS}
    assert len(epochs) == count
    crossing = [step for step in steps if step[0] // count != step[-1] // count]
    for step in [*steps[:2], *crossing[:8], *steps[-2:]]:
        assert_is_a_step(run.stream, step)
    if size > count:
        assert crossing
    assert all(a < b for step in steps for a, b in pairwise(step))
