"""Faults of a teacher's signal, put into its answers: none of them is trained on."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from rlad_core import schema
from rlad_core.client.details import NO_DETAILS, Details
from rlad_core.client.errors import ServiceError
from rlad_core.client.made_with import MadeWith, made_with_of, marked, together
from rlad_core.config import load, resolve_model
from rlad_core.language_model.weight_hash import weight_hash
from rlad_core.prompt_stream import PromptStream
from services.base.tokenizer import load_tokenizer
from services.clients.teachers import PolicyFacts, SignalError, Teacher
from services.clients.teachers.agreement import Tolerance, difference, is_rounded, is_suspect, looks_like
from services.clients.teachers.pinned import Pinned, known_texts, pin
from services.clients.teachers.verification import Verification
from services.teacher.scoring.interface import TokenPair
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


def verification(teacher: Teacher, *, one_in: int = 500, tolerance: float | None = None) -> Verification:
    _, facts = prompts()
    pinned = asyncio.run(pin(teacher, known_texts(facts.known_pairs, facts.fingerprint)))
    return Verification("teacher", teacher, pinned, one_in=one_in, tolerance=tolerance, seed=0)


def check(verified: Verification, teacher: Teacher, step: int = 0) -> Any:
    """As a step does: all groups scored at once, then looked at."""
    sequences, _ = prompts()

    async def body() -> Any:
        answers = []
        for group in range(GROUPS):
            asked = sequences.slice(group * EACH, EACH)
            answers.append((asked, await teacher.score(asked)))
        return await verified.check(step, answers)

    return asyncio.run(body())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_right_signal_passes_whatever_is_drawn(dtype: str) -> None:
    teacher = Injected(dtype)
    verified = verification(teacher, one_in=2)
    found = [check(verified, teacher, step) for step in range(4)]
    assert min(each.sequences for each in found) >= GROUPS * EACH // 2
    assert 0 < max(each.difference for each in found) < Tolerance.of(dtype).mean / 2


@pytest.mark.parametrize("everywhere", [False, True], ids=["in the batch", "in every answer"])
@pytest.mark.parametrize("name", FAULTS)
def test_in_float32_no_fault_of_a_whole_batch_is_trained_on(name: str, everywhere: bool) -> None:
    teacher = Injected(everywhere=everywhere)
    verified = verification(teacher)
    teacher.fault = FAULTS[name]
    with pytest.raises(SignalError, match=r"teacher, step 3: .*(sequence '|known text)"):
        check(verified, teacher, step=3)


#: Of this teacher, which is sure of what it says, they change less than bfloat16 rounds.
HIDDEN = {"temperature", "truncated vocabulary"}


@pytest.mark.parametrize("name", sorted(FAULTS.keys() - HIDDEN))
def test_in_bfloat16_these_faults_of_a_batch_are_caught_too(name: str) -> None:
    teacher = Injected("bfloat16")
    verified = verification(teacher)
    teacher.fault = FAULTS[name]
    with pytest.raises(SignalError):
        check(verified, teacher)


def test_the_error_has_the_sequence_both_numbers_the_place_and_where_to_look() -> None:
    teacher = Injected()
    verified = verification(teacher)
    teacher.fault = FAULTS["one late"]
    with pytest.raises(SignalError) as caught:
        check(verified, teacher)
    for part in (
        "teacher, step 0: the log-probs of sequence 'p",
        "nats a token apart, most at response token",
        "in the batch, ",
        "scored again by itself; they stand one token too late. Rounding in float32 explains 0.0001. Look at",
        "No update was made of it.",
    ):
        assert part in str(caught.value)


def test_other_weights_are_found_by_their_hash_alone() -> None:
    class Awoken(Injected):
        async def _answer(self, sequences: pa.Table, details: Details, spoiled: bool) -> pa.Table:
            return await scored(altered(zero=True) if self.fault else engine(), sequences, details)

    teacher = Awoken()
    verified = verification(teacher, tolerance=100.0)
    check(verified, teacher)
    teacher.fault = swapped
    with pytest.raises(SignalError, match=r"the scores of sequence 'p0#0/0' and its group differ weights: s"):
        check(verified, teacher)


def test_a_resumed_run_compares_with_what_was_pinned_when_it_began() -> None:
    teacher = Injected(everywhere=True)
    saved = verification(teacher).pinned.saved()
    teacher.fault = at_temperature(1.1)
    resumed = verification(teacher)
    check(resumed, teacher)  # by itself it would take the fault for the truth
    resumed.restore(Pinned.read(saved))
    with pytest.raises(SignalError, match=r"sequence 'known text 0' .* at the start of the run"):
        check(resumed, teacher)


def test_a_plain_pass_tells_what_a_packed_one_does_with_the_end_tokens() -> None:
    sequences, _ = prompts()

    async def both() -> list[pa.Table]:
        ends = (1, 7)
        return [
            await scored(engine(), sequences, Details(end_token_ids=ends, plain=p)) for p in (False, True)
        ]

    packed, plain = asyncio.run(both())
    for name in ("teacher_logprobs", "teacher_end_logprobs"):
        ours, theirs = (schema.flatten(table.column(name))[0] for table in (packed, plain))
        assert 0 < np.abs(ours - theirs).max() < 1e-4  # not one computation under two names


def test_long_responses_are_computed_in_parts_with_equal_results() -> None:
    made = engine.__wrapped__()
    generator = np.random.default_rng(0)
    pair = TokenPair(*(generator.integers(200, size=n, dtype=np.int32) for n in (9, 70)), Details(plain=True))
    [whole] = asyncio.run(made.score([pair]))
    made._chunk_size = 16
    [parts] = asyncio.run(made.score([pair]))
    np.testing.assert_allclose(whole.values["teacher_logprobs"], parts.values["teacher_logprobs"], atol=1e-6)


def test_the_hash_of_weights_sees_zeros_exchanges_and_names() -> None:
    def made(change: Callable[[torch.Tensor], torch.Tensor], name: str = "weight") -> str:
        layer = torch.nn.Module()
        values = torch.arange(6, dtype=torch.float32).reshape(2, 3)
        layer.register_parameter(name, torch.nn.Parameter(change(values)))
        return weight_hash(layer)

    same = made(lambda w: w)
    others = [
        made(torch.zeros_like),
        made(lambda w: w.flip(0)),
        made(lambda w: w.flip(1)),
        made(lambda w: w.reshape(3, 2)),
        made(lambda w: w.bfloat16()),
        made(lambda w: w, "other"),
    ]
    assert same == made(torch.clone)
    assert len({same, *others}) == 7


def test_parts_of_an_answer_by_different_weights_are_refused() -> None:
    sequences, _ = prompts()
    ours = asyncio.run(scored(engine(), sequences.slice(0, 2)))
    other = made_with_of(ours)
    assert other is not None
    theirs = marked(ours, other.model_copy(update={"weights": "sums:0"}))
    assert made_with_of(together([ours, ours], "it")) == other
    with pytest.raises(ServiceError, match=r"http://t answered parts .* \(weights: sums:\w+ and sums:0\)"):
        together([ours, theirs], "http://t")


def test_what_values_look_like() -> None:
    right = np.array([-1.25e-3, -2.7, -0.31, -4.1, -0.2], dtype=np.float32)
    tolerance = Tolerance.of("float32")
    late, early = np.concatenate([right[:1], right[:-1]]), np.concatenate([right[1:], right[-1:]])
    assert looks_like(late, right, tolerance) == "they stand one token too late"
    assert looks_like(early, right, tolerance) == "they stand one token too early"
    assert looks_like(right * 2, right, tolerance) == ""
    assert difference(right, right + np.float32(0.5)).mean == pytest.approx(0.5)
    assert np.isnan(difference(right, np.full_like(right, np.nan)).mean)
    assert not tolerance.explains(difference(right, np.full_like(right, np.nan)))
    many = np.random.default_rng(0).normal(-2, 1, 64).astype(np.float32)
    halves = many.astype(np.float16).astype(np.float32)
    assert [is_rounded(v) for v in (many, halves, halves[:8])] == [False, True, False]
    assert [is_suspect(v) for v in (many, np.zeros(9, np.float32), many[:1])] == [False, True, False]
