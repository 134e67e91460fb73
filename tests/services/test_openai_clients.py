"""OpenAI's own client against the services over real HTTP."""

from typing import Any

import httpx
import numpy as np
import openai
import pytest
from scoring_cases import TOLERANCE, PlainForward
from transformers import AutoTokenizer

from rlad_core.config import resolve_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def teacher(http: httpx.Client) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{http.base_url}/teacher/v1", api_key="none is set", max_retries=0)


def test_the_model_is_listed(teacher: openai.OpenAI) -> None:
    [model] = teacher.models.list().data
    assert model.id == "rlad:kk-teacher"
    assert teacher.models.retrieve(model.id) == model
    with pytest.raises(openai.NotFoundError, match="model 'gpt' is not served here"):
        teacher.models.retrieve("gpt")


def test_prompts_are_scored(teacher: openai.OpenAI) -> None:
    prompts = [[11, 12, 13, 14], [20, 21]]
    answer = teacher.completions.create(
        model="rlad:kk-teacher", prompt=prompts, echo=True, logprobs=1, max_tokens=1, temperature=0
    )
    assert answer.usage
    assert answer.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 6,
        "completion_tokens": 2,
        "total_tokens": 8,
    }
    plain = PlainForward(resolve_model("rlad:kk-teacher"))
    for ids, choice in zip(prompts, answer.choices, strict=True):
        assert choice.logprobs
        first, *others = choice.logprobs.token_logprobs or []
        assert first is None
        appended = int(plain.distributions(ids, [0])[-1].argmax())
        expected = plain.logprobs(ids[:1], [*ids[1:], appended])
        np.testing.assert_allclose(others, expected, atol=TOLERANCE, rtol=0)


def test_texts_are_scored(teacher: openai.OpenAI) -> None:
    texts = ["Mia is a knight", "Zoey is a knave"]
    answer = teacher.completions.create(
        model="rlad:kk-teacher", prompt=texts, echo=True, logprobs=0, max_tokens=0
    )
    assert [choice.text for choice in answer.choices] == texts


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"max_tokens": 16}, openai.UnprocessableEntityError, "max_tokens: Expected `int` <= 1"),
        ({"model": "gpt"}, openai.NotFoundError, "model 'gpt' is not served here"),
        ({"prompt": ""}, openai.UnprocessableEntityError, "prompt: Expected `str` of length >= 1"),
        ({"logprobs": 10**6}, openai.UnprocessableEntityError, "logprobs: 1000000 is over"),
    ],
)
def test_refusals_are_clear(
    teacher: openai.OpenAI, fields: dict[str, Any], error: type[openai.APIStatusError], message: str
) -> None:
    with pytest.raises(error) as refused:
        teacher.completions.create(**({"model": "rlad:kk-teacher", "prompt": "Mia"} | fields))
    body: Any = refused.value.body
    assert message in body["message"]


# Rollouts


CHAT: Any = [{"role": "user", "content": "Mia is a knight."}]
MODEL = "rlad:kk-student"


@pytest.fixture(scope="module")
def policy(http: httpx.Client) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{http.base_url}/rollout/v1", api_key="none is set", max_retries=0)


@pytest.fixture(scope="module")
def student() -> PlainForward:
    return PlainForward(resolve_model(MODEL))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(resolve_model(MODEL))


def test_a_chat_is_answered(policy: openai.OpenAI, student: PlainForward, tokenizer: Any) -> None:
    assert [model.id for model in policy.models.list()] == [MODEL]
    answer = policy.chat.completions.create(
        model=MODEL,
        messages=CHAT,
        n=2,
        max_completion_tokens=8,
        seed=1,
        logprobs=True,
        top_logprobs=2,
        extra_body={"return_token_ids": True},
    )
    prompt = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=True)
    prompt = prompt if isinstance(prompt, list) else prompt["input_ids"]
    assert answer.usage
    assert answer.usage.prompt_tokens == len(prompt)
    assert answer.model_extra["prompt_token_ids"] == prompt  # type: ignore[index]
    assert [choice.index for choice in answer.choices] == [0, 1]
    written = 0
    for choice in answer.choices:
        ids = choice.model_extra["token_ids"]  # type: ignore[index]
        written += len(ids)
        assert choice.message.content == tokenizer.decode(ids, skip_special_tokens=True)
        assert choice.logprobs
        entries = choice.logprobs.content or []
        everything = student.distributions(prompt, ids)
        for row, token, entry in zip(everything, ids, entries, strict=True):
            assert abs(entry.logprob - float(row[token])) < TOLERANCE
            assert bytes(entry.bytes or []).decode() == entry.token
            told = [likely.logprob for likely in entry.top_logprobs]
            np.testing.assert_allclose(told, row.topk(2).values, atol=TOLERANCE, rtol=0)
    assert answer.usage.completion_tokens == written


def test_an_answer_is_sent_back_in_a_chat_that_goes_on(policy: openai.OpenAI) -> None:
    first = policy.chat.completions.create(model=MODEL, messages=CHAT, max_tokens=6, seed=7)
    longer: Any = [*CHAT, first.choices[0].message, {"role": "user", "content": "And Zoey?"}]
    second = policy.chat.completions.create(model=MODEL, messages=longer, max_tokens=6, seed=7)
    assert first.usage
    assert second.usage
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


def test_the_same_seed_writes_the_same(policy: openai.OpenAI) -> None:
    first, second = (
        policy.chat.completions.create(model=MODEL, messages=CHAT, n=3, max_tokens=6, seed=7)
        for _ in range(2)
    )
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices]


def test_a_stream_tells_what_the_whole_does(policy: openai.OpenAI) -> None:
    asked: Any = {"model": MODEL, "messages": CHAT, "temperature": 0, "max_tokens": 12, "logprobs": True}
    whole = policy.chat.completions.create(**asked).choices[0]
    chunks = list(
        policy.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    pieces = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert pieces[0].delta.role == "assistant"
    assert "".join(piece.delta.content or "" for piece in pieces) == whole.message.content
    told = [e.token for piece in pieces if piece.logprobs for e in piece.logprobs.content or []]
    assert whole.logprobs
    assert told == [entry.token for entry in whole.logprobs.content or []]
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == [whole.finish_reason]
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == len(told)


def test_prompts_are_gone_on_with(policy: openai.OpenAI, student: PlainForward) -> None:
    prompts = [[11, 12, 13], [20, 21]]
    answer = policy.completions.create(
        model=MODEL,
        prompt=prompts,
        max_tokens=4,
        temperature=0,
        logprobs=1,
        extra_body={"return_token_ids": True},
    )
    for ids, choice in zip(prompts, answer.choices, strict=True):
        written = choice.model_extra["token_ids"]  # type: ignore[index]
        everything = student.distributions(ids, written)
        assert written == everything.argmax(-1).tolist()
        assert choice.logprobs
        np.testing.assert_allclose(
            choice.logprobs.token_logprobs or [], everything.amax(-1), atol=TOLERANCE, rtol=0
        )
    streamed = policy.completions.create(
        model=MODEL, prompt=prompts, max_tokens=4, temperature=0, stream=True
    )
    texts = ["", ""]
    for chunk in streamed:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in answer.choices]


def test_a_stop_text_ends_an_answer(policy: openai.OpenAI) -> None:
    asked: Any = {"model": MODEL, "prompt": [11, 12, 13], "max_tokens": 12, "temperature": 0}
    [whole] = policy.completions.create(**asked).choices
    stop = whole.text.split()[1]
    [cut] = policy.completions.create(**asked, stop=stop).choices
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"model": "gpt"}, openai.NotFoundError, "model 'gpt' is not served here"),
        ({"n": 2, "temperature": 0}, openai.UnprocessableEntityError, "n: 2 choices of temperature 0"),
        ({"top_logprobs": 2}, openai.UnprocessableEntityError, "top_logprobs: are told with logprobs: true"),
        (
            {"tools": [{"type": "function"}]},
            openai.UnprocessableEntityError,
            "tools: Expected `array` of length 0",
        ),
        ({"messages": []}, openai.UnprocessableEntityError, "messages: Expected `array` of length >= 1"),
        ({"n": 5000}, openai.APIStatusError, "5000 responses in one request"),
    ],
)
def test_chats_that_are_refused(
    policy: openai.OpenAI, fields: dict[str, Any], error: type[openai.APIStatusError], message: str
) -> None:
    with pytest.raises(error) as refused:
        policy.chat.completions.create(**({"model": MODEL, "messages": CHAT} | fields))
    body: Any = refused.value.body
    assert message in body["message"]
