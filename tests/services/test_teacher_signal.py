"""Faults of a teacher's signal, put into its answers: none of them is trained on."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from teacher_faults import (
    EACH,
    FAULTS,
    GROUPS,
    Injected,
    altered,
    at_temperature,
    engine,
    prompts,
    scored,
    swapped,
)

from rlad_core import schema
from rlad_core.client.details import Details
from rlad_core.client.errors import ServiceError
from rlad_core.client.made_with import made_with_of, marked, together
from rlad_core.language_model import weight_hash as weight_hash_module
from rlad_core.language_model.weight_hash import weight_hash, weight_sums
from services.clients.teachers import SignalError, Teacher
from services.clients.teachers.agreement import Tolerance, difference, is_rounded, is_suspect, looks_like
from services.clients.teachers.pinned import Pinned, known_texts, pin
from services.clients.teachers.verification import Verification
from services.teacher.scoring.interface import TokenPair


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
    # CPUs multiply bfloat16 each in their own way: 0.026 nats with Intel's AMX, less than 0.025 without it.
    assert 0 < max(each.difference for each in found) < 0.7 * Tolerance.of(dtype).mean


@pytest.mark.parametrize("everywhere", [False, True], ids=["in the batch", "in every answer"])
@pytest.mark.parametrize("name", FAULTS)
def test_in_float32_no_fault_of_a_whole_batch_is_trained_on(name: str, everywhere: bool) -> None:
    teacher = Injected(everywhere=everywhere)
    verified = verification(teacher)
    teacher.fault = FAULTS[name]
    with pytest.raises(SignalError, match=r"teacher, step 3: .*(sequence '|known text)"):
        check(verified, teacher, step=3)


#: Of a teacher that is as sure of what it says as this one, it changes less than bfloat16 rounds.
HIDDEN = {"truncated vocabulary"}


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


def test_the_hash_of_weights_is_as_it_was_and_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ledgers of earlier runs name it."""
    layer = torch.nn.Module()
    layer.register_parameter("weight", torch.nn.Parameter(torch.arange(6, dtype=torch.float32).reshape(2, 3)))
    layer.register_parameter("bias", torch.nn.Parameter(torch.arange(5).bfloat16()))
    assert weight_hash(layer) == "sums:9a305bec243310a0ec4901a7b373d143"
    shapes = [(), (0, 3), (7,), (4, 5), (5, 4, 3)]
    weights = [(str(shape), torch.randn(shape).half()) for shape in shapes] + [("t", torch.randn(4, 5).t())]
    whole = weight_sums(weights)
    for piece in (1, 3, 10):
        monkeypatch.setattr(weight_hash_module, "_PIECE", piece)
        assert weight_sums(weights) == whole


def test_parts_of_an_answer_by_different_weights_are_refused() -> None:
    sequences, _ = prompts()
    ours = asyncio.run(scored(engine(), sequences.slice(0, 2)))
    other = made_with_of(ours)
    assert other is not None
    theirs = marked(ours, other.model_copy(update={"weights": "sums:0"}))
    assert made_with_of(together([ours, ours], "it")) == other
    with pytest.raises(
        ServiceError, match=r"http://t answers with different things \(weights: sums:\w+ and sums:0\)"
    ):
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


def test_a_teacher_that_is_sure_is_not_suspect() -> None:
    """Near zero a log-prob is a small multiple of its logits' spacing, which float16 holds too."""
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (80, 200)).astype(np.float32))
    logits[:, 0] += 18
    sure = (logits[:, 0] - torch.logsumexp(logits, -1)).numpy()
    assert sure.min() > -0.01
    assert sure.max() <= 0
    assert (sure == sure.astype(np.float16)).all()
    assert not is_suspect(sure)
    assert is_suspect(np.concatenate([sure, np.full(16, -0.5, np.float32)]))
