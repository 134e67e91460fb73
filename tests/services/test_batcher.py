"""Batches, tables and packing, without Ray: a scripted engine, and the torch engine itself."""

import asyncio
from functools import partial
from typing import Any

import numpy as np
import pytest
from scoring_cases import TOLERANCE, PlainForward, mixed_pairs, sequences
from scripted_scoring import ScriptedEngine, ids, pair, run

from rlad_core import schema
from rlad_core.client.details import Details
from services.teacher.scoring.batcher import Batcher
from services.teacher.scoring.interface import Scored, ScoringError, TokenPair
from services.teacher.scoring.packing import pack_sharing_prompts
from services.teacher.scoring.tables import to_pairs, to_scores
from services.teacher.scoring.torch_engine import TorchEngine


def test_batches_are_cut_at_the_budget() -> None:
    async def scenario(engine: ScriptedEngine, batcher: Batcher) -> None:
        scored = await batcher.score([pair(tokens) for tokens in (3, 4, 5, 6, 7)])
        assert [part.values["teacher_logprobs"].tolist()[-1] for part in scored] == [-2, -3, -4, -5, -6]

    # With their prompts 4, 5, 6, 7 and 8 tokens.
    assert run(scenario, budget=10).sizes == [2, 1, 1, 1]


def test_a_shared_prompt_counts_once() -> None:
    async def scenario(engine: ScriptedEngine, batcher: Batcher) -> None:
        prompt = np.zeros(50, dtype=np.int32)
        await batcher.score([pair(10, prompt) for _ in range(5)])
        await batcher.score([pair(10, prompt.copy()) for _ in range(2)])

    assert run(scenario, budget=100).sizes == [5, 1, 1]


def test_a_prompt_is_begun_where_there_is_room_for_its_responses() -> None:
    async def scenario(engine: ScriptedEngine, batcher: Batcher) -> None:
        prompts = [np.zeros(10, dtype=np.int32) for _ in range(2)]
        await batcher.score([pair(10, prompt) for prompt in prompts for _ in range(7)])

    # 10 + 7 * 10 tokens are four fifths of a batch.
    assert run(scenario, budget=100).sizes == [7, 7]


def test_what_is_plain_shares_no_prompt() -> None:
    async def scenario(engine: ScriptedEngine, batcher: Batcher) -> None:
        prompt = np.zeros(40, dtype=np.int32)
        await batcher.score([pair(1, prompt, Details(plain=True)) for _ in range(6)])

    # The torch engine computes each of the 41 tokens by itself.
    assert run(scenario, budget=100).sizes == [2, 2, 2]


def test_calls_that_come_while_the_engine_works_share_a_batch() -> None:
    async def scenario(engine: ScriptedEngine, batcher: Batcher) -> None:
        engine.gate.clear()
        calls = [asyncio.create_task(batcher.score([pair(2), pair(3)])) for _ in range(4)]
        await asyncio.sleep(0.01)
        engine.gate.set()
        for scored in await asyncio.gather(*calls):
            assert [part.values["teacher_logprobs"].size for part in scored] == [2, 3]

    # All four were queued before the first batch was formed, or three while it was worked on.
    assert len(run(scenario).sizes) <= 2


def test_who_records_is_told_what_waits_and_when_it_is_taken() -> None:
    told: list[object] = []

    async def body() -> None:
        engine = ScriptedEngine()
        engine.gate.clear()
        batcher = Batcher(engine, 8, on_queue=told.append)
        calls = [
            asyncio.create_task(batcher.score([pair(3), pair(3)], partial(told.append, name)))
            for name in ("first", "second")
        ]
        await asyncio.sleep(0.01)
        told.append("engine")
        engine.gate.set()
        await asyncio.gather(*calls)
        await batcher.close()

    asyncio.run(asyncio.wait_for(body(), timeout=20))
    # Two pairs fit into a batch, and the engine works on one batch at a time.
    assert told == [2, 4, "first", 2, "engine", "second", 0, *told[7:]]


def test_a_failed_batch_fails_those_in_it_and_no_other() -> None:
    async def scenario(engine: ScriptedEngine, batcher: Batcher) -> None:
        engine.fault = ScoringError("broken")
        with pytest.raises(ScoringError, match="broken"):
            await batcher.score([pair(2), pair(3)])
        engine.fault = None
        assert len(await batcher.score([pair(2)])) == 1

    run(scenario)


def test_what_nobody_waits_for_any_more_is_not_scored() -> None:
    async def scenario(engine: ScriptedEngine, batcher: Batcher) -> None:
        engine.gate.clear()
        first = asyncio.create_task(batcher.score([pair(1)]))
        await asyncio.sleep(0.01)
        given_up = asyncio.create_task(batcher.score([pair(50), pair(60)]))
        last = asyncio.create_task(batcher.score([pair(2)]))
        await asyncio.sleep(0.01)
        given_up.cancel()
        engine.gate.set()
        await asyncio.gather(first, last)

    assert [[p.response.size for p in batch] for batch in run(scenario).batches] == [[1], [2]]


def test_a_running_batch_ends_when_nobody_waits_for_it() -> None:
    async def scenario(engine: ScriptedEngine, batcher: Batcher) -> None:
        engine.gate.clear()
        callers = [asyncio.create_task(batcher.score([pair(1)])) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert (engine.ended_early, batcher.queued_tokens) == (0, 0)
        callers[0].cancel()
        await asyncio.sleep(0.01)
        assert engine.ended_early == 0
        callers[1].cancel()
        await asyncio.sleep(0.01)
        assert engine.ended_early == 1
        # Its place in the engine is free again.
        engine.gate.set()
        await batcher.score([pair(2)])

    run(scenario)


def test_tokens_that_wait_are_counted() -> None:
    async def scenario(engine: ScriptedEngine, batcher: Batcher) -> None:
        engine.gate.clear()
        first = asyncio.create_task(batcher.score([pair(1)]))
        await asyncio.sleep(0.01)
        waiting = asyncio.create_task(batcher.score([pair(30), pair(40)]))
        given_up = asyncio.create_task(batcher.score([pair(50)]))
        await asyncio.sleep(0.01)
        assert batcher.queued_tokens == sum(pair(n).length for n in (30, 40, 50))
        given_up.cancel()
        await asyncio.sleep(0.01)  # while the engine is still at the first: nobody waits for these any more
        assert batcher.queued_tokens == sum(pair(n).length for n in (30, 40))
        engine.gate.set()
        await asyncio.gather(first, waiting)
        await batcher.score([pair(1)])
        assert batcher.queued_tokens == 0

    run(scenario)


def test_closing_fails_what_waits() -> None:
    async def scenario(engine: ScriptedEngine, batcher: Batcher) -> None:
        engine.gate.clear()
        calls = [asyncio.create_task(batcher.score([pair(60)])) for _ in range(3)]
        await asyncio.sleep(0.01)
        await batcher.close()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, ScoringError)
        with pytest.raises(ScoringError, match="closed"):
            await batcher.score([pair(1)])

    run(scenario)


def test_duplicates_are_scored_once_and_prompts_stand_together(tiny_model: Any) -> None:
    p, q = [1, 2, 3], [4, 5]
    table = sequences(tiny_model.path, [(p, [6]), (q, [6]), (p, [7, 8]), (p, [6]), (q, [6])])
    pairs = to_pairs(table)
    assert [(x.prompt.tolist(), x.response.tolist()) for x in pairs.pairs] == [
        (p, [6]),
        (p, [7, 8]),
        (q, [6]),
    ]
    assert pairs.pairs[0].prompt is pairs.pairs[1].prompt
    assert pairs.row_to_pair.tolist() == [0, 2, 1, 0, 2]
    scored = [Scored({"teacher_logprobs": -x.response.astype(np.float32)}) for x in pairs.pairs]
    scores = to_scores(table, pairs, scored)
    assert scores["teacher_logprobs"].to_pylist() == [[-6], [-6], [-7, -8], [-6], [-6]]


@pytest.mark.parametrize("answer", [[np.nan], [0.5], [-np.inf], []])
def test_an_answer_that_is_no_logprob_names_its_sequence(tiny_model: Any, answer: list[float]) -> None:
    table = sequences(tiny_model.path, [([1], [2]), ([1], [3])], ids=["fine", "bad"])
    scored = [Scored({"teacher_logprobs": np.array(a, dtype=np.float32)}) for a in ([-1.0], answer)]
    with pytest.raises(ScoringError, match="sequence 'bad': the engine's answer"):
        to_scores(table, to_pairs(table), scored)


def test_packing_puts_a_prompt_once_and_leaves_out_last_tokens() -> None:
    prompt = ids(1, 2, 3)
    packed = pack_sharing_prompts(
        [TokenPair(prompt, ids(4, 5)), TokenPair(prompt, ids(6)), TokenPair(ids(7), ids(8, 9, 10))]
    )
    assert packed.input_ids.tolist() == [1, 2, 3, 4, 7, 8, 9]
    assert packed.position_ids.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert [(s.start, s.stop, s.prefix) for s in packed.layout.spans] == [
        (0, 3, None),
        (3, 4, (0, 3)),
        (4, 7, None),
    ]
    assert packed.predictor_index.tolist() == [2, 3, 2, 4, 5, 6]
    assert packed.targets.tolist() == [4, 5, 6, 8, 9, 10]


def engine(path: Any, dtype: str = "float32") -> TorchEngine:
    # Room for the logits of 16 tokens, so that they come in several chunks.
    return TorchEngine(str(path), dtype=dtype, max_model_len=512, logits_memory_bytes=16 * 4 * 320, threads=1)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", TOLERANCE), ("bfloat16", 0.25)])
def test_the_torch_engine_equals_a_plain_forward(tiny_model: Any, dtype: str, tolerance: float) -> None:
    table = sequences(tiny_model.path, mixed_pairs(tiny_model.vocab_size, 512, seed=1))
    pairs = to_pairs(table)
    torch_engine = engine(tiny_model.path, dtype)
    scores = to_scores(table, pairs, asyncio.run(torch_engine.score(pairs.pairs)))
    torch_engine.shutdown()
    assert PlainForward(tiny_model.path).largest_difference(table, scores) < tolerance


def test_the_torch_engine_tells_each_pair_what_it_asks_for(tiny_model: Any) -> None:
    table = sequences(tiny_model.path, [([1, 2], [3, 4, 5]), ([6], [7])])
    asked = Details(top_k=3, entropy=True)
    pairs, plain = to_pairs(table, asked), to_pairs(table)
    torch_engine = engine(tiny_model.path)
    scored = asyncio.run(torch_engine.score([*pairs.pairs, *plain.pairs]))
    torch_engine.shutdown()
    details = to_scores(table, pairs, scored[:2], asked)
    assert schema.lengths(details["entropy"]).tolist() == [3, 1]
    assert schema.lengths(details["top_token_ids"]).tolist() == [9, 3]
    likeliest, _ = schema.flatten(details["top_logprobs"])
    assert (np.diff(likeliest.reshape(-1, 3)) <= 0).all()
    assert details["teacher_end_logprobs"].null_count == 2, "nobody asked for it"
    scores = to_scores(table, plain, scored[2:])
    assert scores.column_names == ["sequence_id", "teacher_logprobs", "teacher_end_logprobs"]
    with pytest.raises(ScoringError, match=r"sequence 's0': .* column 'top_token_ids': is left out"):
        to_scores(table, plain, scored[2:], Details(top_k=1))
