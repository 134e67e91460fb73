"""A strictly on-policy run by the real collector and pool: what is asked, and what the learner gets.

The three services alone are stubs, whose answers prompt, seed and version decide.

    python tests/services/on_policy.py > tests/services/on_policy.json

records it anew, where a change of it is wanted; say why in the commit.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import ray
from ray import serve
from transformers import PreTrainedTokenizerBase

from rlad_core import schema
from rlad_core.client.details import Details
from rlad_core.client.made_with import MadeWith, marked
from rlad_core.config import RunConfig, load, resolve_model
from rlad_core.metric_specs import SHARED
from rlad_core.prompt_stream import Selection
from services.base import telemetry
from services.base.log_lines import configure_logging
from services.base.tokenizer import load_tokenizer
from services.experience.collector import ExperienceCollector
from services.experience.shards import Shard
from services.rollout.settings import SamplingSettings
from services.rollout.tables import SampledResponse, group_seed, to_part, to_prompt_rows
from services.teacher.scoring.interface import Scored, TokenPair
from services.teacher.scoring.tables import to_pairs, to_scores

FOLDER = resolve_model("rlad:kk-student")
STEPS = 4
SETTINGS = (
    "name=golden",
    "stages=[{steps: 1, objective: {kind: sft}}, {steps: 3, objective: {kind: trrd}}]",
    "task.train.count=20",
    "task.evaluation.count=4",
    "rollout.prompts_per_step=4",
    "rollout.group_size=3",
    "rollout.refill_rounds=1",
    "learner.workers=2",
    "learner.warmup_steps=0",
)
RANKS = 2

Turns = Callable[[str], int]
"""How many turns of the event loop an answer takes, by what is asked."""


def at_once(asked: str) -> int:
    return 0


def drawn(seed: int) -> Turns:
    """Any, of up to 40."""
    return lambda asked: _bytes(seed, asked)[0] % 41


@dataclass
class Services:
    """Rollouts, teacher and verifier as their handles are asked; they note what is asked of the first."""

    turns: Turns = at_once
    asked: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    """By the oldest version that may answer, in the order of asking."""

    def handle(self, app: str) -> Any:
        if app.endswith("-rollout"):
            streamed = SimpleNamespace(generate_in_parts=SimpleNamespace(remote=self._sample))
            return SimpleNamespace(options=lambda stream: streamed)
        if app.endswith("-verifier"):
            return SimpleNamespace(verify=SimpleNamespace(remote=self._judge))
        return SimpleNamespace(score=SimpleNamespace(remote=self._score))

    async def _wait(self, asked: str) -> None:
        for _ in range(self.turns(asked)):
            await asyncio.sleep(0)

    async def _sample(
        self, prompts: pa.Table, sampling: SamplingSettings, min_version: int, top_tokens: int
    ) -> AsyncIterator[pa.Table]:
        [row] = to_prompt_rows(prompts)
        group, tokens = row["group_id"], row["prompt_token_ids"].tolist()
        assert sampling.seed is not None
        seed = group_seed(sampling.seed, group)
        told = {"group": group, "prompt": tokens, "first_seed": seed, "top_tokens": top_tokens}
        self.asked.setdefault(min_version, []).append({**told, **sampling.model_dump(mode="json")})
        fingerprint = schema.fingerprint_of(prompts)
        assert fingerprint is not None
        done = 0
        for turns, index in sorted((self.turns(f"{group}/{i}"), i) for i in range(sampling.group_size)):
            for _ in range(turns - done):
                await asyncio.sleep(0)
            done = turns
            response = self._response(tokens, seed + index, min_version, sampling)
            yield to_part(row, [(index, response)], _tokenizer(), fingerprint)

    def _response(
        self, prompt: Sequence[int], seed: int, version: int, sampling: SamplingSettings
    ) -> SampledResponse:
        dice = _bytes(prompt, seed, version)
        length = 2 + dice[0] % 10
        tokens = np.frombuffer(dice[1 : 1 + length], np.uint8).astype(np.int32) % 190 + 8
        tokens[-1] = sampling.stop_token_ids[0]
        values: dict[str, Any] = {
            "response_token_ids": tokens,
            "rollout_logprobs": np.frombuffer(dice[12 : 12 + length], np.uint8).astype(np.float32) / -64,
            "policy_versions": np.full(length, version, np.int32),
        }
        return SampledResponse(values, "stop")

    async def _judge(self, responses: pa.Table) -> pa.Table:
        ids, texts = (responses.column(name).to_pylist() for name in ("sequence_id", "response"))
        await self._wait(f"judge {ids[0]}")
        right = [_bytes(text)[0] % 2 == 0 for text in texts]
        columns = {
            "sequence_id": ids,
            "reward": [float(each) for each in right],
            "reward_parts": [{"answer": float(each)} for each in right],
            "correct": right,
            "verdict": ["so it is" if each else "it is not" for each in right],
        }
        return schema.build(schema.REWARDS, columns, tokenizer_fingerprint=schema.fingerprint_of(responses))

    async def _score(self, sequences: pa.Table, details: Details) -> pa.Table:
        await self._wait(f"score {sequences.column('sequence_id')[0].as_py()}")
        pairs = to_pairs(sequences, details)
        scores = to_scores(sequences, pairs, [self._scored(pair) for pair in pairs.pairs], details)
        made_with = MadeWith(
            engine="torch",
            weights="sums:stub",
            tokenizer=schema.fingerprint_of(sequences) or "",
            chat_template=None,
            dtype="float32",
        )
        return marked(scores, made_with)

    def _scored(self, pair: TokenPair) -> Scored:
        prompt, response = pair.prompt.tolist(), pair.response.tolist()
        values = [-0.01 - _bytes(prompt, response[: n + 1])[0] / 64 for n in range(len(response))]
        told = {"teacher_logprobs": np.asarray(values, np.float32)}
        if pair.details.end_token_ids:
            told["teacher_end_logprobs"] = np.full(len(values), -4.0, np.float32)
        return Scored(told)


@cache
def _tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer(FOLDER)


def _bytes(*what: Any) -> bytes:
    return hashlib.sha256(json.dumps(what).encode()).digest()


class Run:
    """The learner's side: takes both ranks' shards, trains on nothing, and publishes before the next step."""

    def __init__(self, services: Services, run_dir: Path, *overrides: str) -> None:
        self._services = services
        self._config: RunConfig = load("kk-tiny-trrd", [*SETTINGS, *overrides])
        self.collector = ExperienceCollector(self._config, FOLDER, str(run_dir))

    async def begin(self, frontier: dict[str, Any] | None = None, step: int = 0) -> None:
        await self.collector.read_prompts(Selection())
        await self.collector.probe_teachers({})
        await self.collector.begin(frontier, step)

    async def step(self, step: int) -> dict[str, Any]:
        """What was asked and given, as `on_policy.json` has it."""
        shards = [await self.collector.next_shard(step, rank) for rank in range(RANKS)]
        assert all(shard is not None for shard in shards)
        await self.collector.trained(step)
        told = _told(step, self._services.asked.get(step, []), [shard for shard in shards if shard])
        await self.collector.published(step + 1)
        return told

    async def breaks_off_in(self, step: int) -> dict[str, Any]:
        """What the checkpoint before the step keeps; the step is then collected for a while."""
        kept = json.dumps(await self.collector.frontier())
        collecting = asyncio.create_task(self.collector.next_shard(step, 0))
        await asyncio.wait([collecting], timeout=0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert self._services.asked.pop(step)
        assert not collecting.done()
        return dict(json.loads(kept))


@contextmanager
def behind(services: Services) -> Iterator[Path]:
    """The collector in this process, with these services; gives a folder for its log."""
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(serve, "get_app_handle", services.handle),
        patch.object(ray, "put", lambda value: value),
    ):
        try:
            yield Path(folder)
        finally:
            telemetry.nothing_waits()
            configure_logging(None)
            telemetry.name_run(SHARED)


def _told(step: int, asked: list[dict[str, Any]], shards: Sequence[Shard]) -> dict[str, Any]:
    facts = shards[0].facts
    numbers = {name: value for name, value in facts.numbers.items() if name != "teacher_check_seconds"}
    given = [
        [_columns(shard.table), asdict(shard.plan), shard.end_tokens, shard.early_ends] for shard in shards
    ]
    others = [facts.trained_groups, facts.dropped_groups, facts.stale_masked, numbers]
    visits = [asdict(visit) for visit in facts.visits]
    # In words by their positions in the stream of prompts.
    places = {visit.group_id: visit.position for visit in facts.visits}
    return {
        "step": step,
        "asked": [
            f"{places.get(each['group'], each['group'])}: {each['group_size']} responses to "
            f"{len(each['prompt'])} tokens, from seed {each['first_seed']} on"
            for each in asked
        ],
        "trained": [places[group] for group in facts.trained_groups],
        "dropped": [places[group] for group in facts.dropped_groups],
        "given": [_in_words(shard.table, places) for shard in shards],
        "numbers": numbers,
        "digests": {"asked": _digest(asked), "given": _digest(given), "facts": _digest([others, visits])},
    }


def _in_words(rows: Any, places: dict[str, int]) -> str:
    tokens = int(schema.lengths(rows.column("response_token_ids")).sum())
    names = (name.partition("/") for name in rows.column("sequence_id").to_pylist())
    responses = " ".join(f"{places[group]}{slash}{number}" for group, slash, number in names)
    return f"{tokens} tokens of {responses}"


def _columns(table: Any) -> dict[str, Any]:
    """By name, without those that hold nothing: another one that nobody fills is no change."""
    return {
        name: [str(column.type), column.to_pylist()]
        for name, column in zip(table.column_names, table.columns, strict=True)
        if column.null_count < len(column)
    }


def _digest(what: Any) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return [str(value.dtype), value.tolist()]
        return [value.start, value.stop] if isinstance(value, range) else dict(value)

    return hashlib.sha256(json.dumps(what, default=plain, sort_keys=True).encode()).hexdigest()


async def whole(services: Services, run_dir: Path, *overrides: str) -> list[dict[str, Any]]:
    """All steps, without a break."""
    run = Run(services, run_dir, *overrides)
    await run.begin()
    return [await run.step(step) for step in range(STEPS)]


if __name__ == "__main__":
    plain = Services()
    with behind(plain) as place:
        print(json.dumps(asyncio.run(whole(plain, place)), indent=1))
