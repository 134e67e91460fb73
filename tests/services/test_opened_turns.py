"""`POST /v1/score` of chats whose template opens the model's turn, without a service."""

import json
from typing import Any

import pytest
from token_kinds import ALL_KINDS

from rlad_core.client.forms import TeacherLimits
from rlad_core.language_model.chat import ChatFormat
from services.serve.http.bodies import Body
from services.serve.http.problems import ProblemError
from services.serve.http.texts import Reader
from services.teacher.forms import DetailsQuery
from services.teacher.reading import Wanted, read_request

OPENS = ChatFormat(
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ 'assistant: <think>\n' }}"
)
CHAT = {"messages": [{"role": "user", "content": "Mia"}]}
TOKENIZER: Any = ALL_KINDS["bytes"]


def read(asked: dict[str, Any]) -> Wanted:
    reader = Reader.of(TOKENIZER, 4096, OPENS)
    body = Body(json.dumps(asked).encode(), "json", "json")
    return read_request(body, DetailsQuery(), reader, "sha256:mine", TeacherLimits())


def ids(text: str) -> list[int]:
    found: list[int] = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    return found


@pytest.mark.parametrize("shared", [False, True])
def test_what_the_template_has_opened_is_not_read_twice(shared: bool) -> None:
    prompt = {"prompt_id": "p"} if shared else CHAT
    sent = ["<think>\nIt is. </think> So", "<think>It is", "It is. </think> So"]
    sequences = [{**prompt, "response": response} for response in sent]
    asked = {"tokens": True, "sequences": sequences, **({"prompts": [{"id": "p", **CHAT}]} if shared else {})}
    wanted = read(asked)
    read_as = ["It is. </think> So", "It is", "It is. </think> So"]
    assert wanted.sequences["response_token_ids"].to_pylist() == [ids(text) for text in read_as]
    assert wanted.sequences["prompt_token_ids"].to_pylist() == [ids("user: Mia\nassistant: <think>\n")] * 3
    for response, left, spans in zip(sent, read_as, wanted.spans, strict=True):
        assert spans is not None
        places = spans.tolist()
        assert (places[0][0], places[-1][1]) == (len(response) - len(left), len(response))


def test_raw_prompts_and_token_ids_are_as_they_are() -> None:
    response = "<think>\nIt is"
    sequences = [
        {"prompt": "assistant: <think>\n", "response": response},
        {**CHAT, "response_token_ids": ids(response)},
    ]
    assert read({"sequences": sequences}).sequences["response_token_ids"].to_pylist() == [ids(response)] * 2


def test_nothing_but_the_opening_is_refused() -> None:
    with pytest.raises(ProblemError, match=r"sequences\[0\]\.response.*no token"):
        read({"sequences": [{**CHAT, "response": "<think>"}]})
