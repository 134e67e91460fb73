"""Where tokens are, as `/v1/tokenize`, `/v1/detokenize` and `/v1/score` tell it; without a service.

Places in a text that was sent are those of the tokenizer itself.
"""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_kinds import ALL_KINDS, TEXTS, WRITTEN

from rlad_core.client.details import NO_DETAILS
from rlad_core.client.forms import TeacherLimits
from rlad_core.language_model.chat import ChatFormat
from services.serve.http.bodies import Body, whole_answer
from services.serve.http.texts import Reader
from services.serve.http.tokenizing import _detokenized, _tokenized
from services.teacher.answers import results_of, telling
from services.teacher.forms import DetailsQuery
from services.teacher.reading import Wanted, read_request
from services.teacher.scoring.interface import Scored
from services.teacher.scoring.tables import to_pairs, to_scores

CHAT = ChatFormat("{% for m in messages %}{{ m.role }}:  {{ m.content }}\n{% endfor %}")
READERS = {kind: Reader.of(tokenizer, 4096, CHAT) for kind, tokenizer in ALL_KINDS.items()}
SENT = "Mia is  a knight.\nHi €🙂"
"""Of which the shipped tokenizer has few words."""


def body(asked: dict[str, Any]) -> Body:
    return Body(json.dumps(asked).encode(), "json", "json")


def told_by_tokenizer(kind: str, text: str) -> tuple[list[int], list[list[int]]]:
    tokenizer: Any = ALL_KINDS[kind]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return encoded["input_ids"], [list(span) for span in encoded["offset_mapping"]]


def tokenized(kind: str, asked: dict[str, Any], reader: Reader | None = None) -> dict[str, Any]:
    return json.loads(bytes(_tokenized(body(asked), reader or READERS[kind], TEXTS[kind]).body))


@pytest.mark.parametrize("kind", ALL_KINDS)
@given(text=WRITTEN.filter(str.strip))
def test_a_text_that_was_sent_is_what_places_are_in(kind: str, text: str) -> None:
    ids, spans = told_by_tokenizer(kind, text)
    told = tokenized(kind, {"text": text})
    assert (told["text"], told["token_ids"], told["offsets"]) == (text, ids, spans)
    assert told["tokens"] == TEXTS[kind].names(ids, first=True)


@pytest.mark.parametrize("kind", ALL_KINDS)
@given(text=WRITTEN)
def test_a_chat_is_the_text_that_its_template_makes(kind: str, text: str) -> None:
    rendered = f"user:  {text}\n"
    ids, spans = told_by_tokenizer(kind, rendered)
    told = tokenized(kind, {"messages": [{"role": "user", "content": text}]})
    assert (told["text"], told["token_ids"], told["offsets"]) == (rendered, ids, spans)


def test_unknown_words_of_the_shipped_tokenizer() -> None:
    told = tokenized("shipped", {"text": SENT})
    assert [SENT[start:end] for start, end in told["offsets"]] == [
        *("Mia", " is", " ", " a", " knight", ".", "\nHi", " €🙂")
    ]
    assert told["tokens"][1] == "<|unknown|>"
    # Ids alone say no more than what they stand for.
    back = json.loads(
        bytes(_detokenized(body({"token_ids": told["token_ids"]}), READERS["shipped"], TEXTS["shipped"]).body)
    )
    assert back["text"].startswith("Mia<|unknown|><|unknown|> a")
    assert [back["text"][start:end] for start, end in back["offsets"]] == back["tokens"] == told["tokens"]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_tokenizer_that_tells_no_places(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, _ = told_by_tokenizer(kind, SENT)
    monkeypatch.setattr(type(ALL_KINDS[kind]), "is_fast", False)
    told = tokenized(kind, {"text": SENT}, Reader.of(ALL_KINDS[kind], 4096))
    text, tokens, spans = TEXTS[kind].pieces(ids)
    assert (told["text"], told["tokens"]) == (text, tokens)
    assert told["offsets"] == [list(span) for span in spans]


def test_a_template_that_tells_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter(["at one", "at half past one"])
    monkeypatch.setattr(ChatFormat, "text", lambda *_: next(made))
    told = tokenized("bytes", {"messages": [{"role": "user", "content": "Hi"}]})
    assert told["text"] == "at one"
    assert len(told["offsets"]) == len(told["tokens"]) == told["count"]


def scored(kind: str, sequences: list[dict[str, Any]]) -> tuple[Wanted, Any]:
    asked = body({"tokens": True, "sequences": sequences})
    wanted = read_request(asked, DetailsQuery(), READERS[kind], "sha256:mine", TeacherLimits())
    pairs = to_pairs(wanted.sequences, NO_DETAILS)
    found = [
        Scored({"teacher_logprobs": np.zeros(size, np.float32)})
        for size in map(len, wanted.sequences.column("response_token_ids").to_pylist())
    ]
    return wanted, to_scores(wanted.sequences, pairs, found, NO_DETAILS)


@pytest.mark.parametrize("kind", ALL_KINDS)
@given(responses=st.lists(st.tuples(WRITTEN.filter(str.strip), st.booleans()), min_size=1, max_size=4))
def test_responses_have_places_in_what_was_sent(kind: str, responses: list[tuple[str, bool]]) -> None:
    """As text or as ids, in one request."""
    texts = TEXTS[kind]
    sequences, expected = [], []
    for response, is_text in responses:
        ids, spans = told_by_tokenizer(kind, response)
        sequences.append(
            {"prompt": "Mia said", **({"response": response} if is_text else {"response_token_ids": ids})}
        )
        expected.append((texts.names(ids, first=True), spans if is_text else list(texts.pieces(ids).spans)))
    wanted, scores = scored(kind, sequences)
    answer = json.loads(bytes(whole_answer(telling(wanted, model="m", texts=texts), scores, body({})).body))
    assert [(result["tokens"], result["offsets"]) for result in answer["results"]] == [
        (tokens, [list(span) for span in spans]) for tokens, spans in expected
    ]


def test_parts_of_a_request_have_their_own_places() -> None:
    sequences = [
        {"prompt": "Mia", "response": SENT},
        {"prompt": "Mia", "response_token_ids": [8, 9]},
        {"prompt": "Mia", "response": " a  knight"},
    ]
    wanted, scores = scored("shipped", sequences)
    together = [np.asarray(each["offsets"]).tolist() for each in results_of(wanted, scores, TEXTS["shipped"])]
    apart = [
        np.asarray(each["offsets"]).tolist()
        for row in range(3)
        for each in results_of(wanted.part(row, 1), scores.slice(row, 1), TEXTS["shipped"])
    ]
    assert together == apart
    assert together[0] == told_by_tokenizer("shipped", SENT)[1]
