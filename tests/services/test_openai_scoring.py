"""Completions of a teacher and what TRL's clients ask, with a real engine, against a plain forward pass."""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from fastapi import Response
from scoring_cases import TOLERANCE, PlainForward
from transformers import AutoTokenizer

from rlad_core.client.details import Details
from rlad_core.client.errors import InvalidRequestError, LimitError
from rlad_core.client.forms import TeacherLimits
from services.serve.http.bodies import Body
from services.serve.http.health import Intake
from services.serve.http.problems import ProblemError
from services.serve.http.texts import Reader
from services.serve.token_texts import TokenTexts
from services.teacher.openai import choices, completions, sequence_logprobs
from services.teacher.scorer import Scorer
from services.teacher.scoring.interface import Scored, TokenPair
from services.teacher.scoring.torch_engine import TorchEngine
from services.teacher.settings import TeacherArgs

LONGEST = 64
LIMITS = TeacherLimits(max_sequences_per_request=8, max_tokens_per_request=300)


class Teacher:
    """An engine, and the two ways to ask it."""

    def __init__(self, model: Any) -> None:
        self.engine = TorchEngine(
            str(model.path), dtype="float32", max_model_len=LONGEST, logits_memory_bytes=2**24, threads=1
        )
        self.tokenizer = AutoTokenizer.from_pretrained(model.path)
        self.reader = Reader.of(self.tokenizer, LONGEST)
        self.texts = TokenTexts(self.tokenizer)
        self.end = model.end_token_id

    def complete(self, **fields: Any) -> list[dict[str, Any]]:
        body = _body(fields)
        asked = completions.read(body, self.reader, self.engine.vocab_size, LIMITS)
        answer = choices.write(asked, self._scored(asked.pairs()), body, self.texts, self.end, "tiny")
        return _told(answer)["choices"]

    def sequence_logprobs(self, **fields: Any) -> dict[str, Any]:
        body = _body(fields)
        asked = sequence_logprobs.read(body, self.reader, self.engine.vocab_size, LIMITS)
        return _told(sequence_logprobs.write(asked, self._scored(asked.pairs()), body))

    def _scored(self, pairs: list[TokenPair | None]) -> list[Scored | None]:
        wanted = [pair for pair in pairs if pair]
        found = iter(asyncio.run(self.engine.score(wanted)) if wanted else [])
        return [next(found) if pair else None for pair in pairs]


def _body(fields: dict[str, Any]) -> Body:
    return Body(json.dumps(fields).encode(), "json", "json")


def _told(response: Response) -> Any:
    return json.loads(response.body)


@pytest.fixture(scope="module")
def teacher(tiny_model: Any) -> Iterator[Teacher]:
    started = Teacher(tiny_model)
    yield started
    started.engine.shutdown()


@pytest.fixture(scope="module")
def plain(tiny_model: Any) -> PlainForward:
    return PlainForward(tiny_model.path)


SEQUENCES = [[5, 9, 200, 31, 7], [44], [60, 61, 62]]


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_echoed_prompts_have_their_log_probs(teacher: Teacher, plain: PlainForward, max_tokens: int) -> None:
    told = teacher.complete(prompt=SEQUENCES, echo=True, logprobs=3, max_tokens=max_tokens)
    assert [choice["index"] for choice in told] == [0, 1, 2]
    for ids, choice in zip(SEQUENCES, told, strict=True):
        logprobs = choice["logprobs"]
        # An added token of any kind, so that the distribution behind the last one is there too.
        everything = plain.distributions(ids[:1], [*ids[1:], 0])
        whole = [*ids, int(everything[-1].argmax())][: len(ids) + max_tokens]
        assert logprobs["token_logprobs"][0] is None
        assert logprobs["top_logprobs"][0] is None
        expected = [float(row[token]) for row, token in zip(everything, whole[1:], strict=False)]
        np.testing.assert_allclose(logprobs["token_logprobs"][1:], expected, atol=TOLERANCE, rtol=0)
        assert len(logprobs["tokens"]) == len(logprobs["text_offset"]) == len(whole)
        assert "".join(logprobs["tokens"]) == choice["text"]
        for begin, token in zip(logprobs["text_offset"], logprobs["tokens"], strict=True):
            assert choice["text"][begin:].startswith(token)
        for place in range(1, len(whole)):
            top = logprobs["top_logprobs"][place]
            # To the last bit, whether it is among the likeliest or not.
            assert top[logprobs["tokens"][place]] == logprobs["token_logprobs"][place]
            likeliest = everything[place - 1].topk(3)
            assert len(top) == 3 + (whole[place] not in likeliest.indices)
            highest = sorted(top.values(), reverse=True)[:3]
            np.testing.assert_allclose(highest, likeliest.values, atol=TOLERANCE, rtol=0)
            is_greedy = logprobs["token_logprobs"][place] == max(top.values())
            assert is_greedy == (int(everything[place - 1].argmax()) == whole[place])


def test_only_what_is_appended(teacher: Teacher, plain: PlainForward) -> None:
    told = teacher.complete(prompt=SEQUENCES, logprobs=1)
    for ids, choice in zip(SEQUENCES, told, strict=True):
        last = plain.distributions(ids, [0])[-1]
        token = int(last.argmax())
        assert choice["text"] == f" w{token}"
        assert choice["finish_reason"] == "length"
        assert choice["logprobs"]["tokens"] == [f" w{token}"]
        [logprob] = choice["logprobs"]["token_logprobs"]
        assert abs(logprob - float(last[token])) < TOLERANCE
        assert choice["logprobs"]["top_logprobs"] == [{f" w{token}": logprob}]
        assert choice["logprobs"]["text_offset"] == [len(teacher.tokenizer.decode(ids))]


def test_texts_and_their_ids_are_answered_alike(teacher: Teacher) -> None:
    asked = {"echo": True, "logprobs": 2, "max_tokens": 0, "return_token_ids": True}
    [by_text] = teacher.complete(prompt="w5 w9 w200", **asked)
    [by_ids] = teacher.complete(prompt=[5, 9, 200], **asked)
    assert by_text == by_ids
    assert by_text["prompt_token_ids"] == [5, 9, 200]
    assert by_text["token_ids"] == []
    # As it was sent, also where tokens do not hold it.
    [odd] = teacher.complete(prompt="w5   never", **asked)
    assert odd["text"] == "w5   never"
    assert odd["logprobs"]["text_offset"] == [0, 5]
    assert odd["prompt_token_ids"] == [5, 2]


def test_tokens_by_id(teacher: Teacher) -> None:
    [choice] = teacher.complete(
        prompt=[5, 9], echo=True, logprobs=1, max_tokens=0, return_tokens_as_token_ids=True
    )
    assert choice["logprobs"]["tokens"] == ["token_id:5", "token_id:9"]
    assert "token_id:9" in choice["logprobs"]["top_logprobs"][1]
    assert all(name.startswith("token_id:") for name in choice["logprobs"]["top_logprobs"][1])


def test_an_end_token_is_no_text(teacher: Teacher, tiny_model: Any) -> None:
    plain = PlainForward(tiny_model.path)
    ends = (
        ids for ids in ([i] for i in range(3, 320)) if int(plain.distributions(ids, [0])[-1].argmax()) == 1
    )
    [choice] = teacher.complete(prompt=next(ends), logprobs=0)
    assert (choice["text"], choice["finish_reason"]) == ("", "stop")
    assert choice["logprobs"]["tokens"] == [" <end>"]


def test_prompt_logprobs_are_told_by_id_and_rank(teacher: Teacher, plain: PlainForward) -> None:
    told = teacher.complete(prompt=SEQUENCES, prompt_logprobs=2, max_tokens=1, temperature=1.0)
    for ids, choice in zip(SEQUENCES, told, strict=True):
        first, *others = choice["prompt_logprobs"]
        assert first is None
        assert len(others) == len(ids) - 1
        if not others:
            continue
        everything = plain.distributions(ids[:1], ids[1:])
        for row, token, place in zip(everything, ids[1:], others, strict=True):
            order = row.argsort(descending=True)
            expected = {str(int(i)): rank for rank, i in enumerate(order[:2], 1)}
            expected[str(token)] = int((row >= row[token]).sum())
            assert {name: entry["rank"] for name, entry in place.items()} == expected
            for name, entry in place.items():
                assert abs(entry["logprob"] - float(row[int(name)])) < TOLERANCE
                assert entry["decoded_token"] == teacher.texts.name(int(name))
        assert choice["logprobs"] is None


def test_one_word_is_not_scored_and_nothing_breaks(teacher: Teacher) -> None:
    [choice] = teacher.complete(prompt=[44], echo=True, logprobs=1, max_tokens=0)
    assert choice["text"] == "w44"
    assert choice["logprobs"] == {
        "tokens": ["w44"],
        "token_logprobs": [None],
        "top_logprobs": [None],
        "text_offset": [0],
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "prompt: Object missing required field"),
        ({"prompt": "w5", "max_tokens": 2}, "max_tokens: Expected `int` <= 1"),
        ({"prompt": "w5", "max_tokens": 0}, "max_tokens: 0 asks for nothing without echo or prompt_logprobs"),
        ({"prompt": "w5", "n": 2}, "n: Expected `int` <= 1"),
        ({"prompt": "w5", "stream": True}, "stream: a teacher's answers come whole"),
        ({"prompt": "w5", "stop": ["a"]}, "stop: a teacher's answer has one token, which none"),
        ({"prompt": "w5", "max_tokens": 0, "echo": True, "stop": [1]}, "stop.*Expected `str`"),
        ({"prompt": "w5", "suffix": "x"}, "suffix: Expected `str` of length <= 0"),
        ({"prompt": "w5", "logit_bias": {"5": 1}}, "logit_bias.5: Object contains unknown field `5`"),
        ({"prompt": "w5", "presence_penalty": 0.5}, "presence_penalty: Expected `float` <= 0"),
        ({"prompt": "w5", "frobnicate": 1}, "unknown field `frobnicate`"),
        ({"prompt": "w5", "logprobs": True}, r"logprobs: Expected `int \| float \| null`, got `bool`"),
        (
            {"prompt": "w5", "prompt_logprobs": 1, "temperature": 0.7},
            "temperature: prompt_logprobs are those of",
        ),
        ({"prompt": [5] * 64}, "^prompt: 64 tokens and one appended are more than the 64"),
        ({"prompt": [[5], [5] * 64]}, r"^prompt\[1\]: 64 tokens and one appended"),
        ({"prompt": [[320]]}, "320 is no token"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(
    teacher: Teacher, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProblemError, match=message) as refused:
        teacher.complete(**fields)
    assert refused.value.problem.status == 422


def test_what_changes_nothing_is_taken(teacher: Teacher) -> None:
    usual = {"prompt": "w5", "logprobs": 1}
    neutral = {
        "model": "tiny",
        "best_of": 1,
        "frequency_penalty": 0,
        "logit_bias": None,
        "n": 1,
        "presence_penalty": 0.0,
        "seed": 1234,
        "stop": None,
        "stream": False,
        "suffix": "",
        "temperature": 0,
        "top_p": 1,
        "user": "me",
    }
    assert teacher.complete(**usual) == teacher.complete(**usual, **neutral)
    scored = {"prompt": "w5 w6", "logprobs": 1, "echo": True, "max_tokens": 0}
    assert teacher.complete(**scored) == teacher.complete(**scored, stop=["\n"])


def test_limits(teacher: Teacher) -> None:
    with pytest.raises(LimitError, match="9 prompts"):
        teacher.complete(prompt=[[5]] * 9)
    with pytest.raises(LimitError, match="360 tokens"):
        teacher.complete(prompt=[[5] * 60] * 6)
    assert len(teacher.complete(prompt=[[5] * 64], echo=True, logprobs=0, max_tokens=0)) == 1
    # What is told in both ways is told twice.
    both = {"logprobs": 5, "prompt_logprobs": 5, "echo": True, "max_tokens": 0}
    for name in ("logprobs", "prompt_logprobs"):
        assert teacher.complete(prompt=[[5] * 40], **(both | {name: None}))
    with pytest.raises(LimitError, match="40 tokens and 390 numbers to tell of them"):
        teacher.complete(prompt=[[5] * 40], **both)
    # Arrays have a place for each token of the longest completion, however short the others are.
    wide: dict[str, Any] = {"sequences": [[5] * 40] + [[5]] * 7, "prompt_lengths": [0] + [1] * 7}
    assert teacher.sequence_logprobs(**wide, top_logprobs=1)["logprobs"][7] == []
    with pytest.raises(LimitError, match=r"640 numbers in the arrays of the answer .* at most 300"):
        teacher.sequence_logprobs(**wide, top_logprobs=1, response_format="binary")


# As TRL's trainers ask


COMPLETIONS = {"sequences": [[5, 9, 200, 31, 7], [60, 61, 62], [8, 9]], "prompt_lengths": [2, 0, 2]}


def test_completions_as_lists(teacher: Teacher, plain: PlainForward) -> None:
    told = teacher.sequence_logprobs(**COMPLETIONS, top_logprobs=2)
    assert list(map(len, told["logprobs"])) == [3, 3, 0]
    assert told["logprobs"][1][0] == []  # the first token of a sequence
    everything = plain.distributions([5, 9], [200, 31, 7])
    for row, token, logprobs, ids in zip(
        everything, [200, 31, 7], told["logprobs"][0], told["logprob_token_ids"][0], strict=True
    ):
        likeliest = row.topk(2).indices.tolist()
        assert ids == (likeliest if token in likeliest else [*likeliest, token])
        np.testing.assert_allclose(logprobs, row[torch.tensor(ids)], atol=TOLERANCE, rtol=0)


def test_completions_as_arrays(teacher: Teacher, plain: PlainForward) -> None:
    told = teacher.sequence_logprobs(**COMPLETIONS, top_logprobs=2, response_format="binary")
    assert told["shape"] == [3, 3, 2]
    assert told["completion_lengths"] == [3, 3, 0]

    def array(name: str, kind: str, last: int) -> np.ndarray:
        return np.frombuffer(base64.b64decode(told[name]), kind).reshape(3, 3, last)

    top, ids = array("logprobs_b64", "<f4", 2), array("token_ids_b64", "<i4", 2)
    own, own_ids = array("actual_logprobs_b64", "<f4", 1), array("actual_token_ids_b64", "<i4", 1)
    everything = plain.distributions([5, 9], [200, 31, 7])
    np.testing.assert_allclose(top[0], everything.topk(2).values, atol=TOLERANCE, rtol=0)
    assert ids[0].tolist() == everything.topk(2).indices.tolist()
    np.testing.assert_allclose(own[0, :, 0], plain.logprobs([5, 9], [200, 31, 7]), atol=TOLERANCE, rtol=0)
    assert own_ids[:2, :, 0].tolist() == [[200, 31, 7], [0, 61, 62]]
    # Where nothing is told: the first token of a sequence, and behind the shorter ones.
    assert np.isneginf(own[1, 0]).all()
    assert np.isneginf(top[1, 0]).all()
    assert np.isneginf(own[2]).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt_lengths": [2, 0]}, "prompt_lengths: has 2 numbers for 3 sequences"),
        ({"prompt_lengths": [2, 0, 3]}, r"prompt_lengths\[2\]: is 3, and the sequence has 2 tokens"),
        ({"prompt_lengths": [2, -1, 2]}, r"prompt_lengths\[1\]: Expected `int` >= 0"),
        ({"sequences": [[5], [6], [320]]}, r"sequences\[2\]\[0\]: 320 is no token"),
        ({"sequences": [5, 6, 7]}, r"sequences\[0\]: Expected `array`"),
        ({"sequences": [[5], [6], 7]}, r"sequences\[2\]: Expected `array`"),
        ({"sequences": 5}, r"sequences: Expected `array`, got `int`"),
        ({"sequences": []}, "sequences: Expected `array` of length >= 1"),
        ({"temperature": 0.5}, "temperature: Expected `float` >= 1"),
        ({"response_format": "xml"}, "response_format: Invalid enum value 'xml'"),
    ],
)
def test_wrong_completions(teacher: Teacher, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        teacher.sequence_logprobs(**(COMPLETIONS | fields))


def test_a_token_is_appended_where_no_likely_ones_are_told(teacher: Teacher) -> None:
    """It is not asked for by any field, so no limit of one is over."""
    args = TeacherArgs(model="tiny", limits=TeacherLimits(max_top_k=0))

    async def healthy() -> None: ...

    async def scored() -> list[Scored]:
        scorer = Scorer(teacher.engine, args, "", Intake("teacher", healthy, "the engine", args))
        asked = completions.read(_body({"prompt": [5, 9]}), teacher.reader, 320, args.limits)
        pairs = [pair for pair in asked.pairs() if pair is not None]
        with pytest.raises(InvalidRequestError, match="top_k: 1 is over 0"):
            await scorer.score_pairs(pairs, Details(1))
        return await scorer.score_pairs(pairs, asked.details)

    [one] = asyncio.run(scored())
    assert one.values["top_token_ids"].shape == (1, 1)
    with pytest.raises(ProblemError, match="logprobs: 1 is over 0"):
        completions.read(_body({"prompt": [5], "logprobs": 1}), teacher.reader, 320, args.limits)
