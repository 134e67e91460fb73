"""Three ways to a teacher, one answer: a deployment's handle, our REST interface, a stock vLLM server."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import serve
from scoring_cases import TOLERANCE, PlainForward, mixed_pairs, sequences
from transformers import AutoModelForCausalLM

from rlad_core.client.endpoint import Endpoint
from rlad_core.client.errors import InvalidRequestError, ServiceError
from rlad_core.client.forms import TokenizerInfo
from rlad_core.client.parts import in_order_of
from rlad_core.client.teacher import AsyncTeacherClient
from rlad_core.config import resolve_model
from services.base.tokenizer import load_tokenizer
from services.clients.teachers import (
    MismatchError,
    PolicyFacts,
    RestTeacher,
    StockServerTeacher,
    Teacher,
    stock,
)
from services.clients.teachers.handle import HandleTeacher
from services.clients.teachers.padded import Padding
from services.clients.teachers.policy import Compared, compare_lengths, compare_tokenizers
from services.teacher import service as teacher
from services.teacher.settings import TeacherArgs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

LONGEST = 200
MODEL = Path(resolve_model("rlad:kk-teacher"))
STUDENT = resolve_model("rlad:kk-student")


@pytest.fixture(scope="module")
def ours(ray_cluster: None, serve_url: str) -> Iterator[tuple[Any, str]]:
    """Handle and URL of our own service."""
    args = TeacherArgs(model="rlad:kk-teacher", num_cpus=0.1)
    yield (
        serve.run(teacher.build(args), name="three-ways", route_prefix="/three-ways"),
        f"{serve_url}/three-ways",
    )
    serve.delete("three-ways")


def reach(kind: str, ours: tuple[Any, str], stock: str) -> Teacher:
    handle, url = ours
    if kind == "handle":
        return HandleTeacher(handle, MODEL, timeout_s=120)
    if kind == "rest":
        return RestTeacher(AsyncTeacherClient(url))
    return StockServerTeacher(Endpoint(stock), "kk", kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["handle", "rest", "completions", "generate"])
def test_every_way_gives_the_logprobs_of_a_plain_forward(
    kind: str, ours: tuple[Any, str], stock_server: str
) -> None:
    # The padding's ids are left out: a stock server refuses those that its tokenizer does not know.
    table = sequences(MODEL, mixed_pairs(200, LONGEST, seed=3))

    async def body() -> Any:
        reached = reach(kind, ours, stock_server)
        try:
            return await reached.score(table)
        finally:
            await reached.close()

    # A stock server knows of no padding.
    plain = PlainForward(MODEL, padding=kind in ("completions", "generate"))
    assert plain.largest_difference(table, asyncio.run(body())) < TOLERANCE


@pytest.mark.parametrize("kind", ["handle", "rest", "completions", "generate"])
def test_every_way_tells_the_same_likeliest_tokens(
    kind: str, ours: tuple[Any, str], stock_server: str
) -> None:
    policy = PolicyFacts(load_tokenizer(STUDENT), 256, top_k=5)

    async def body() -> Any:
        reached = reach(kind, ours, stock_server)
        try:
            await reached.compare(policy)
            return await reached.score(policy.known_text(), top_k=5)
        finally:
            await reached.close()

    told = asyncio.run(body())
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    with torch.no_grad():
        [logits] = model(torch.tensor([policy.chat_ids + policy.reply_ids])).logits
    places = logits[len(policy.chat_ids) - 1 : -1]
    # A stock server knows of no padding.
    tokens = len(policy.tokenizer.get_vocab())
    whole = places if kind in ("completions", "generate") else places[:, :tokens]
    wanted = whole.log_softmax(-1)[:, :tokens].topk(5)
    found = torch.tensor(told.column("top_logprobs")[0].as_py()).view(-1, 5)
    torch.testing.assert_close(found, wanted.values, rtol=0, atol=TOLERANCE)
    assert told.column("top_token_ids")[0].as_py() == wanted.indices.flatten().tolist()


def test_more_likely_tokens_than_a_teacher_tells_stop_the_run(
    ours: tuple[Any, str], stock_server: str
) -> None:
    for kind, says in (
        (
            "handle",
            r"the teacher's 500 likeliest tokens .* it tells \d+\. Write top_k: \d+ or less",
        ),
        ("rest", r"it tells 128\. Write top_k: 128 or less"),
        ("completions", r"Start it with --max-logprobs 500, or write a smaller top_k"),
    ):
        with pytest.raises(MismatchError, match=says):
            run_probe(reach(kind, ours, stock_server), top_k=500)


def run_probe(reached: Teacher, policy: str = STUDENT, max_length: int = 256, top_k: int = 0) -> None:
    async def body() -> None:
        try:
            await reached.probe(PolicyFacts(load_tokenizer(policy), max_length, top_k=top_k))
        finally:
            await reached.close()

    asyncio.run(body())


def test_a_fitting_teacher_passes_the_probe(
    ours: tuple[Any, str], stock_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of a few ids, as a large vocabulary has them.
    monkeypatch.setattr(stock, "_IDS_PER_REQUEST", 50)
    for kind in ("handle", "rest", "completions"):
        run_probe(reach(kind, ours, stock_server))


@pytest.mark.parametrize("api", ["completions", "generate"])
def test_what_a_stock_server_gives_to_rows_that_are_no_tokens_is_measured_and_told(
    api: Any, stock_server: str
) -> None:
    policy, said = PolicyFacts(load_tokenizer(STUDENT), 256), list[str]()

    async def body() -> Padding:
        reached = StockServerTeacher(Endpoint(stock_server), "kk", api, said.append)
        try:
            await reached.probe(policy)
            return await reached.padding(policy)
        finally:
            await reached.close()

    padding = asyncio.run(body())
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    tokens, rows = len(policy.tokenizer.get_vocab()), model.config.vocab_size
    with torch.no_grad():
        [logits] = model(torch.tensor([policy.chat_ids + policy.reply_ids])).logits
    taken = logits.double().softmax(-1)[:, tokens:].sum(-1)
    expected = max(taken[len(policy.chat_ids) - 1], taken[-1])
    assert padding.rows == rows - tokens
    assert padding.mass == pytest.approx(float(expected), rel=1e-3)
    [line] = said
    assert line.startswith(f"{stock_server}: {padding.rows} rows of the served model are no tokens, and take")


def test_another_tokenizer_stops_the_run_and_names_a_token(
    ours: tuple[Any, str], stock_server: str, tiny_model: Any
) -> None:
    for kind in ("handle", "rest", "completions"):
        with pytest.raises(MismatchError, match=r"token id \d+ is '.+' to the policy and"):
            run_probe(reach(kind, ours, stock_server), str(tiny_model.path))


def test_a_server_without_the_model_or_the_room_stops_the_run(
    ours: tuple[Any, str], stock_server: str
) -> None:
    with pytest.raises(MismatchError, match=r"serves kk, not 'other'; correct model"):
        run_probe(StockServerTeacher(Endpoint(stock_server), "other"))
    with pytest.raises(MismatchError, match=r"policy\.max_length is 512 and the teacher takes 511 tokens"):
        run_probe(reach("completions", ours, stock_server), max_length=512)


INFO = TokenizerInfo(
    vocabulary={"a": 0, "b": 1},
    special_tokens={"eos_token": "b"},
    chat_template="{{ messages }}",
    end_token_ids=[1],
)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"vocabulary": {"a": 0, "c": 1}}, "token id 1 is 'b' to the policy and 'c' to the teacher"),
        ({"vocabulary": {"a": 0}}, "token id 1 is 'b' to the policy and nothing to the teacher"),
    ],
)
def test_what_differs_is_named(change: dict[str, Any], says: str) -> None:
    assert compare_tokenizers(INFO, INFO) == Compared((1,))
    with pytest.raises(MismatchError, match=says):
        compare_tokenizers(INFO, INFO.model_copy(update=change))


def test_end_tokens_and_templates_may_differ_and_are_told() -> None:
    both = INFO.model_copy(update={"end_token_ids": [0, 1], "chat_template": "{{ messages[0] }}"})
    compared = compare_tokenizers(INFO, both)
    assert compared.end_tokens == (0, 1)
    assert compared.remarks == (
        "the policy ends a response with 1 ('b'), the teacher with 0 ('a'), 1 ('b')",
        "the chat templates differ; the teacher reads prompts as the policy's makes them",
    )
    # Of a server of an earlier release nothing is known, and nothing said.
    silent = INFO.model_copy(update={"end_token_ids": []})
    assert compare_tokenizers(INFO, silent) == Compared()


def test_padding_differs_without_harm() -> None:
    special = {"eos_token": "b", "pad_token": "a"}
    compare_tokenizers(INFO, INFO.model_copy(update={"special_tokens": special}))
    compare_lengths(512, 512)


def test_answers_are_matched_by_id() -> None:
    table = sequences(MODEL, [([5], [6]), ([7], [8]), ([9], [10])], ids=["a", "b", "c"])
    shuffled = table.take([2, 0, 1])
    assert in_order_of(["a", "b", "c"], shuffled)["sequence_id"].to_pylist() == ["a", "b", "c"]
    with pytest.raises(ServiceError, match="lacks or adds the sequences 'c', 'd'"):
        in_order_of(["a", "b", "d"], shuffled)


def test_a_large_table_goes_in_parts(ray_cluster: None, serve_url: str, tiny_model: Any) -> None:
    args = TeacherArgs(model=str(tiny_model.path), num_cpus=0.1, max_model_len=300)
    few = args.limits.model_copy(update={"max_sequences_per_request": 7, "max_tokens_per_request": 900})
    serve.run(teacher.build(args.model_copy(update={"limits": few})), name="small", route_prefix="/small")
    table = sequences(tiny_model.path, mixed_pairs(320, 300, seed=4))

    async def body() -> tuple[Any, str]:
        async with AsyncTeacherClient(f"{serve_url}/small") as client:
            scores = await client.score(table)
            too_long = sequences(tiny_model.path, [([5] * 200, [6] * 200)], ids=["long"])
            with pytest.raises(InvalidRequestError) as failed:
                await client.score(too_long)
            return scores, str(failed.value)

    try:
        scores, refusal = asyncio.run(body())
    finally:
        serve.delete("small")
    assert PlainForward(tiny_model.path).largest_difference(table, scores) < TOLERANCE
    assert "sequence 'long'" in refusal
