"""Chats and completions of the policy: what is read of requests, and how what was written is told."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from small_tokenizer import LONGEST, READER, TEXTS, TOKENIZER, WORDS

from rlad_core.client.rollout_forms import RolloutLimits
from services.rollout.openai import answering, chats, completions
from services.rollout.writing import Token, Written, token_of
from services.serve.http.bodies import Body
from services.serve.http.problems import ProblemError
from services.serve.http.texts import Reader
from services.serve.token_texts import TokenTexts

LIMITS = RolloutLimits(max_responses_per_request=6)


def read(kind: Any, **fields: Any) -> Any:
    body = Body(json.dumps(fields).encode(), "json", "json")
    return kind.read(body, READER, TEXTS, len(WORDS), LIMITS)


def chat(**fields: Any) -> Any:
    return read(chats, **({"messages": [{"role": "user", "content": "Mia is"}]} | fields))


def completion(**fields: Any) -> Any:
    return read(completions, **({"prompt": "Mia is"} | fields))


def whole(asked: Any, written: list[list[Written]]) -> dict[str, Any]:
    choices = answering.Choices(asked)
    for place, those in enumerate(written):
        for each in those:
            choices.add(place, each)
    return json.loads(choices.answer(Body(b"", "json", "json"), "tiny").body)


A = Token(6, -0.5, [(6, -0.5), (8, -1.5)])
KNAVE = Token(8, -2.0, [(7, -0.25), (6, -3.0)])
END = Token(1, -0.125, [(1, -0.125), (7, -4.0)])
WRITTEN = Written(0, " a knave", [A, KNAVE, END], "stop")


def test_a_chat_goes_through_its_template() -> None:
    [wish] = chat(n=2, temperature=0.5, top_p=0.9, seed=3, stop="knave", logprobs=True, top_logprobs=2).wishes
    assert wish.prompt.tolist() == [2, 3, 4, 5]
    assert (wish.count, wish.temperature, wish.top_p, wish.seed) == (2, 0.5, 0.9, 3)
    assert (wish.stop, wish.top_logprobs) == (("knave",), 2)
    assert wish.max_tokens == LONGEST - 4  # as many as there is room for
    assert wish.cost == 4 + 2 * 8
    parts = [{"type": "text", "text": "Mia "}, {"type": "text", "text": "is"}]
    [same] = chat(messages=[{"role": "user", "content": parts, "name": "me"}], max_completion_tokens=3).wishes
    assert (same.prompt.tolist(), same.max_tokens) == ([2, 3, 4, 5], 3)
    assert (same.count, same.temperature, same.top_p, same.seed, same.stop) == (1, 1.0, 1.0, None, ())


def test_prompts_have_wishes_of_their_own() -> None:
    asked = completion(prompt=[[4, 5], [6]], max_tokens=7, logprobs=2, stop=["knave", "."])
    first, second = asked.wishes
    assert (first.prompt.tolist(), second.prompt.tolist()) == ([4, 5], [6])
    assert (first.max_tokens, first.stop, first.top_logprobs) == (7, ("knave", "."), 2)


def test_no_more_tokens_are_charged_than_there_is_room_for() -> None:
    most = 2**31 - 1
    for asked in (chat(max_tokens=most), chat(max_completion_tokens=most), chat()):
        [wish] = asked.wishes
        assert (wish.max_tokens, wish.cost) == (LONGEST - 4, LONGEST)
    # Without max_tokens they would be 16, more than this model takes.
    for asked in (completion(prompt=[[4, 5], [6]], max_tokens=most), completion(prompt=[[4, 5], [6]])):
        assert [wish.max_tokens for wish in asked.wishes] == [LONGEST - 2, LONGEST - 1]
    body = Body(b'{"prompt": [4, 5]}', "json", "json")
    longer = Reader.of(TOKENIZER, 100)
    [wish] = completions.read(body, longer, TEXTS, len(WORDS), LIMITS).wishes
    assert wish.max_tokens == 16
    assert completion(prompt=[4] * (LONGEST - 1)).wishes[0].max_tokens == 1


@pytest.mark.parametrize("ask", [chat, completion])
def test_seeds_of_answers_fit_into_64_bits(ask: Any) -> None:
    highest = 2**63 - 1
    for n, seed in ((2, highest - 1), (1, highest), (4, 3), (1, None)):
        [wish] = ask(n=n, seed=seed).wishes
        assert wish.first_seed == seed
    for seed in (highest, highest - 1):
        [wish] = ask(n=3, seed=seed).wishes
        assert 0 <= wish.first_seed <= highest - 2
        assert wish.first_seed == ask(n=3, seed=seed).wishes[0].first_seed


def test_a_whole_chat() -> None:
    asked = chat(n=2, logprobs=True, top_logprobs=2, return_token_ids=True)
    told = whole(asked, [[WRITTEN, Written(1, " a", [A], "length")]])
    assert (told["object"], told["model"], told["id"][:9]) == ("chat.completion", "tiny", "chatcmpl-")
    assert told["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}
    first, second = told["choices"]
    assert first["message"] == {"role": "assistant", "content": " a knave", "refusal": None}
    assert (first["index"], first["finish_reason"]) == (0, "stop")
    assert (second["index"], second["finish_reason"]) == (1, "length")
    # As vLLM's server has it: the chat's own once for all choices.
    assert told["prompt_token_ids"] == [2, 3, 4, 5]
    assert (first["token_ids"], second["token_ids"]) == ([6, 8, 1], [6])
    assert "prompt_token_ids" not in first
    assert first["logprobs"]["content"][1] == {
        "token": " knave",
        "logprob": -2.0,
        "bytes": list(b" knave"),
        "top_logprobs": [
            {"token": " knight", "logprob": -0.25, "bytes": list(b" knight")},
            {"token": " a", "logprob": -3.0, "bytes": list(b" a")},
        ],
    }
    without = whole(chat(), [[WRITTEN]])
    assert without["choices"][0]["logprobs"] is None
    assert "prompt_token_ids" not in without


def test_answers_are_in_order_in_whatever_order_they_were_made() -> None:
    made = [Written(1, " b", [A], "length"), Written(0, " a", [A], "length")]
    assert [choice["index"] for choice in whole(chat(n=2), [made])["choices"]] == [0, 1]
    told = whole(completion(prompt=["Mia", "is"], n=2), [made, made])
    assert [choice["text"] for choice in told["choices"]] == [" a", " b"] * 2
    assert [choice["index"] for choice in told["choices"]] == [0, 1, 2, 3]


def test_whole_completions() -> None:
    told = whole(completion(prompt=["Mia is", "Mia"], n=2, logprobs=2), [[WRITTEN], [WRITTEN]])
    assert told["object"] == "text_completion"
    assert [choice["index"] for choice in told["choices"]] == [0, 2]  # two choices a prompt
    first, other = told["choices"]
    assert first["text"] == " a knave"
    assert first["logprobs"] == {
        "tokens": [" a", " knave", " <end>"],
        "token_logprobs": [-0.5, -2.0, -0.125],
        "top_logprobs": [
            {" a": -0.5, " knave": -1.5},
            {" knave": -2.0, " knight": -0.25, " a": -3.0},
            {" <end>": -0.125, " knight": -4.0},
        ],
        "text_offset": [6, 8, 14],
    }
    assert other["logprobs"]["text_offset"] == [3, 5, 11]
    assert whole(completion(echo=True), [[WRITTEN]])["choices"][0]["text"] == "Mia is a knave"


def events(asked: Any, pieces: list[tuple[int, Written]]) -> list[Any]:
    async def coming() -> AsyncGenerator[tuple[int, Written], None]:
        for piece in pieces:
            yield piece

    async def collected() -> list[bytes]:
        return [event async for event in answering.events(asked, coming(), "tiny")]

    lines = [event.decode() for event in asyncio.run(collected())]
    assert all(line.startswith("data: ") and line.endswith("\n\n") for line in lines)
    assert lines[-1] == "data: [DONE]\n\n"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_a_chat_in_pieces() -> None:
    pieces = [
        (0, Written(1, " a", [A], None)),
        (0, Written(0, " a", [A], None)),
        (0, Written(0, " knave", [KNAVE, END], "stop")),
    ]
    told = events(chat(n=2, stream=True, stream_options={"include_usage": True}), pieces)
    assert {chunk["object"] for chunk in told} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in told}) == 1
    choices = [chunk["choices"][0] for chunk in told[:-1]]
    assert [choice["index"] for choice in choices] == [1, 1, 0, 0, 0]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert choices[1]["delta"] == {"content": " a"}
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, None, "stop"]
    assert [chunk["usage"] for chunk in told[:-1]] == [None] * 5
    assert told[-1]["choices"] == []
    assert told[-1]["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}


@pytest.mark.parametrize("ask", [chat, completion])
def test_token_ids_of_a_stream(ask: Any) -> None:
    """As vLLM's server tells them: the prompt's with what comes first, of a completion in its choice."""
    pieces = [
        (0, Written(0, " a", [A], None)),
        (0, Written(1, " a", [A], None)),
        (0, Written(0, " knave", [KNAVE, END], "stop")),
    ]
    told = events(ask(n=2, stream=True, return_token_ids=True), pieces)
    choices = [chunk["choices"][0] for chunk in told]
    ids: dict[int, list[int]] = {0: [], 1: []}
    for choice in choices:
        ids[choice["index"]] += choice.get("token_ids", [])
    assert ids == {0: [6, 8, 1], 1: [6]}
    if ask is chat:
        assert [chunk.get("prompt_token_ids") for chunk in told] == [[2, 3, 4, 5], *[None] * 4]
        assert not any("prompt_token_ids" in choice for choice in choices)
    else:
        told_ids = [choice.get("prompt_token_ids") for choice in choices]
        assert told_ids == [[4, 5], None, [4, 5], None, None]
        assert not any("prompt_token_ids" in chunk for chunk in told)
    echoed = events(completion(stream=True, return_token_ids=True, echo=True), pieces[:1])
    assert echoed[0]["choices"][0]["text"] == "Mia is"


def test_a_completion_in_pieces_goes_on_where_it_was() -> None:
    pieces = [(0, Written(0, " a", [A], None)), (0, Written(0, " knave", [KNAVE, END], "stop"))]
    told = events(completion(logprobs=0, echo=None, stream=True), pieces)
    offsets = [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in told]
    assert offsets == [[6], [8, 14]]
    assert not any("usage" in chunk for chunk in told)  # not asked for
    echoed = events(completion(echo=True, stream=True), pieces)
    assert "".join(chunk["choices"][0]["text"] for chunk in echoed) == "Mia is a knave"


def test_special_tokens_take_no_room_in_a_text() -> None:
    unknown = Token(0, -3.0, [])
    tokens = [unknown, A, unknown, KNAVE, END]
    [choice] = whole(completion(logprobs=0), [[Written(0, " a knave", tokens, "stop")]])["choices"]
    assert choice["logprobs"]["text_offset"] == [6, 6, 8, 8, 14]
    pieces = [("", [unknown]), (" a", [A, unknown]), (" knave", [KNAVE, END])]
    told = events(
        completion(logprobs=0, stream=True), [(0, Written(0, text, some, None)) for text, some in pieces]
    )
    offsets = [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in told]
    assert offsets == [[6], [6, 8], [8, 14]]


def test_pieces_are_read_once_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    bytes_of = TokenTexts.bytes_of

    def counted(self: TokenTexts, token_id: int, *, first: bool = False) -> bytes:
        read.append(token_id)
        return bytes_of(self, token_id, first=first)

    monkeypatch.setattr(TokenTexts, "bytes_of", counted)
    pieces = 50
    told = events(
        completion(prompt=[[4, 5], [4]], n=2, logprobs=0, stream=True),
        [(place, Written(0, " a", [A], None)) for _ in range(pieces) for place in range(2)],
    )
    offsets = [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in told]
    assert offsets == [[begin + 2 * piece] for piece in range(pieces) for begin in (6, 3)]
    assert len(read) <= 2 * pieces + 3 + len(WORDS)  # a few more for names, which are kept


@pytest.mark.parametrize(
    ("ask", "fields", "message"),
    [
        (chat, {"messages": []}, "messages: Expected `array` of length >= 1"),
        (
            chat,
            {"messages": [{"role": "user", "content": "a " * 10}]},
            "messages: have 12 tokens and leave none",
        ),
        (chat, {"tools": [{"type": "function"}]}, "tools: Expected `array` of length 0"),
        (
            chat,
            {"response_format": {"type": "json_object"}},
            "response_format.type: Invalid enum value 'json_object'",
        ),
        (chat, {"top_logprobs": 2}, "top_logprobs: are told with logprobs: true"),
        (chat, {"logprobs": True, "top_logprobs": 21}, "top_logprobs: Expected `int` <= 20"),
        (
            chat,
            {"max_tokens": 3, "max_completion_tokens": 4},
            "max_completion_tokens: 4 is not max_tokens: 3",
        ),
        (chat, {"n": 2, "temperature": 0}, "n: 2 choices of temperature 0 would be equal"),
        (chat, {"stream_options": {"include_usage": True}}, "stream_options: without stream"),
        (chat, {"stop": [""]}, r"stop\[0\]: Expected `str` of length >= 1"),
        (chat, {"stop": ["a"] * 17}, "stop: Expected `array` of length <= 16"),
        (chat, {"stop": 5}, "stop: Expected `array`"),
        (chat, {"stop": "a" * 257}, "stop: Expected `str` of length <= 256"),
        (completion, {"stop": ["a", "b" * 257]}, r"stop\[1\]: Expected `str` of length <= 256"),
        (completion, {"echo": True, "logprobs": 1}, "echo: log-probs of a prompt are a teacher's"),
        (completion, {"best_of": 2}, "best_of: 2 is not n: 1"),
        (completion, {"best_of": 3, "n": 2}, "best_of: 3 is not n: 2"),
        (completion, {"best_of": 21, "n": 21}, "best_of: Expected `int` <= 20"),
        (
            completion,
            {"prompt": [4] * LONGEST},
            "prompt: has 12 tokens and leaves none of 12 for an answer",
        ),
        (completion, {"prompt": ["Mia", "a " * LONGEST]}, r"prompt\[1\]: has 12 tokens and leaves none"),
        (completion, {"top_p": 0}, "top_p: Expected `float` > 0"),
    ],
)
def test_what_is_refused(ask: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message) as refused:
        ask(**fields)
    assert refused.value.problem.status == 422


@pytest.mark.parametrize(
    "entries",
    [
        [(2, 8, -1.5), (1, 6, -0.5), (2, 8, -1.5)],  # a token of the likeliest ones is there twice
        [(2, 8, -1.5), (1, 6, -0.5)],  # or once, where pieces were put together
        [(3, 8, -1.5), (1, 6, -0.5), (2, 8, -1.5)],  # with a rank of its own where it shares it
    ],
)
def test_the_engines_entries_of_a_token(entries: list[tuple[int, int, float]]) -> None:
    assert token_of(8, entries, 2) == Token(8, -1.5, [(6, -0.5), (8, -1.5)])


def test_a_token_beside_the_likeliest_ones() -> None:
    assert token_of(5, [(9, 5, -7.0), (1, 6, -0.5)], 1) == Token(5, -7.0, [(6, -0.5)])
    assert token_of(5, [(9, 5, -7.0)], 0) == Token(5, -7.0, [])
    with pytest.raises(RuntimeError, match="of token 5, where token 6 was written"):
        token_of(6, [(1, 5, -0.1)], 0)
