"""Faults of a teacher's signal, put into the answers of a real engine."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from rlad_core import schema
from rlad_core.client.details import NO_DETAILS, Details
from rlad_core.client.made_with import MadeWith, marked
from rlad_core.config import load, resolve_model
from rlad_core.prompt_stream import PromptStream
from services.base.tokenizer import load_tokenizer
from services.clients.teachers import PolicyFacts, Teacher
from services.teacher.scoring.tables import to_pairs, to_scores
from services.teacher.scoring.torch_engine import TorchEngine

MODEL = resolve_model("rlad:kk-teacher")
GROUPS, EACH = 6, 4
Values = list[np.ndarray]


@cache
def engine(model: str = MODEL, dtype: str = "float32") -> TorchEngine:
    return TorchEngine(
        model, dtype=dtype, max_model_len=1024, logits_memory_bytes=2**26, threads=1, tokens=None
    )


@cache
def altered(temperature: float = 1.0, zero: bool = False, dtype: str = "float32") -> TorchEngine:
    """Another engine with the same model, spoiled."""
    made = engine.__wrapped__(MODEL, dtype)
    made._head._scale /= temperature
    if zero:
        with torch.no_grad():
            for weight in made._model.parameters():
                weight.zero_()
    return made


@cache
def prompts() -> tuple[pa.Table, PolicyFacts]:
    """GROUPS groups of SEQUENCES whose responses have one length within a group and end with an end token."""
    config = load("kk-tiny-trrd", ["task.train.count=40", "task.evaluation.count=4"])
    tokenizer, generator = load_tokenizer(MODEL), np.random.default_rng(0)
    stream = PromptStream(config, tokenizer)
    asked = stream.prompts(range(GROUPS * EACH))
    solved = stream.demonstrations(asked, [str(place) for place in range(len(asked))]).to_pylist()
    rows = []
    for group in range(GROUPS):
        own = solved[group * EACH : (group + 1) * EACH]
        length = min(len(row["response_token_ids"]) for row in own) - 1
        for place, row in enumerate(own):
            written = row["response_token_ids"][:length]
            if place == 0:  # as a student writes that has not learned yet
                written = generator.integers(8, 100, length).tolist()
            rows.append(
                {
                    "sequence_id": f"p{group}#0/{place}",
                    "prompt_token_ids": own[0]["prompt_token_ids"],
                    "response_token_ids": [*written, tokenizer.eos_token_id],
                }
            )
    facts = PolicyFacts(tokenizer, 144, prompts=tuple(stream.table(asked[:4]).column("prompt").to_pylist()))
    return schema.build(schema.SEQUENCES, rows, tokenizer_fingerprint=facts.fingerprint), facts


async def scored(by: TorchEngine, sequences: pa.Table, details: Details = NO_DETAILS) -> pa.Table:
    pairs = to_pairs(sequences, details)
    made_with = MadeWith(
        engine="torch",
        weights=await by.weights(),
        tokenizer=schema.fingerprint_of(sequences) or "",
        chat_template=None,
        dtype=str(by._model.dtype).removeprefix("torch."),
    )
    return marked(to_scores(sequences, pairs, await by.score(pairs.pairs), details), made_with)


def values_of(scores: pa.Table) -> Values:
    values, offsets = schema.flatten(scores.column("teacher_logprobs"))
    return [values[start:stop].copy() for start, stop in pairwise(offsets)]


def with_values(scores: pa.Table, values: Sequence[np.ndarray]) -> pa.Table:
    """The same table with others; it says of itself what it said."""
    place = scores.schema.get_field_index("teacher_logprobs")
    column = schema.list_column([each.astype(np.float32) for each in values], scores.schema.field(place).type)
    return scores.set_column(place, scores.schema.field(place), column)


@dataclass
class Injected(Teacher):
    """A real engine whose answers are spoiled once `fault` is set.

    everywhere: also those to what is asked again and to known texts.
    """

    dtype: str = "float32"
    everywhere: bool = False
    fault: "Callable[[pa.Table, Values, str], Any] | None" = None

    async def score(self, sequences: pa.Table, end_token_ids: Sequence[int] = ()) -> pa.Table:
        known = sequences.column("sequence_id")[0].as_py().startswith("known")
        return await self._answer(sequences, NO_DETAILS, self.everywhere or not known)

    async def score_again(self, sequences: pa.Table, end_token_ids: Sequence[int] = ()) -> pa.Table:
        return await self._answer(sequences, Details(plain=True), self.everywhere)

    async def _answer(self, sequences: pa.Table, details: Details, spoiled: bool) -> pa.Table:
        scores = await scored(engine(dtype=self.dtype), sequences, details)
        if self.fault is None or not spoiled:
            return scores
        made = self.fault(sequences, values_of(scores), self.dtype)
        return with_values(scores, await made if asyncio.iscoroutine(made) else made)


def each(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[pa.Table, Values, str], Values]:
    return lambda sequences, values, dtype: [change(value) for value in values]


def by_another(choose: Callable[[str], TorchEngine]) -> Callable[[pa.Table, Values, str], Any]:
    async def made(sequences: pa.Table, values: Values, dtype: str) -> Values:
        return values_of(await scored(choose(dtype), sequences))

    return made


def at_temperature(temperature: float) -> Callable[[pa.Table, Values, str], Any]:
    return by_another(lambda dtype: altered(temperature=temperature, dtype=dtype))


async def truncated(sequences: pa.Table, values: Values, dtype: str) -> Values:
    """Of the five likeliest tokens alone, and what is not among them a little."""
    found = await scored(engine(dtype=dtype), sequences, Details(top_k=5))
    tops, _ = schema.flatten(found.column("top_logprobs"))
    mass = np.log(np.exp(tops.reshape(-1, 5)).sum(-1))
    bounds = np.cumsum([0, *(value.size for value in values)])
    return [np.minimum(v - mass[a:b], 0) for v, (a, b) in zip(values, pairwise(bounds), strict=True)]


async def another_template(sequences: pa.Table, values: Values, dtype: str) -> Values:
    """The prompt without what opens the turn, so that each value is of another context."""
    rows = [{**row, "prompt_token_ids": row["prompt_token_ids"][:-3] or [1]} for row in sequences.to_pylist()]
    fingerprint = schema.fingerprint_of(sequences)
    asked = schema.build(schema.SEQUENCES, rows, tokenizer_fingerprint=fingerprint)
    return values_of(await scored(engine(dtype=dtype), asked))


def swapped(sequences: pa.Table, values: Values, dtype: str) -> Values:
    """Each response of a group has the scores of the one before it."""
    found: dict[str, list[int]] = {}
    for row, sequence in enumerate(sequences.column("sequence_id").to_pylist()):
        found.setdefault(sequence.partition("/")[0], []).append(row)
    other = {row: rows[place - 1] for rows in found.values() for place, row in enumerate(rows)}
    return [values[other[row]] for row in range(len(values))]


FAULTS: dict[str, Callable[[pa.Table, Values, str], Any]] = {
    "one late": each(lambda v: np.concatenate([v[:1], v[:-1]])),
    "one early": each(lambda v: np.concatenate([v[1:], v[-1:]])),
    "zeros": each(np.zeros_like),
    "stand-ins": each(lambda v: np.where(np.arange(v.size) % 3 == 2, -9999.0, v)),
    "temperature": at_temperature(0.7),
    "truncated vocabulary": truncated,
    "another model": by_another(lambda dtype: engine(resolve_model("rlad:kk-student"), dtype)),
    "zero weights": by_another(lambda dtype: altered(zero=True, dtype=dtype)),
    "another chat template": another_template,
    "swapped in a group": swapped,
    "float16": each(lambda v: v.astype(np.float16).astype(np.float32)),
    "no end token": each(lambda v: v[:-1]),
    "end token filled": each(lambda v: np.concatenate([v[:-1], [0.0]])),
}
