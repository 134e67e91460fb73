"""What the OpenAPI documents call a request is what is read as one, in both directions; without Ray."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served_app import READER
from small_tokenizer import READER as SMALL
from small_tokenizer import TEXTS, WORDS

from rlad_core.client.errors import LimitError, UnknownNameError
from rlad_core.client.forms import JSON, ScoreAnswer, TeacherLimits
from rlad_core.client.rollout_forms import RolloutLimits
from services.rollout import http as rollout
from services.rollout.openai import chats
from services.rollout.openai import completions as written
from services.serve.http.bodies import Body, documents
from services.serve.http.problems import ProblemError
from services.teacher import forms as teacher
from services.teacher import reading
from services.teacher.forms import DetailsQuery
from services.teacher.openai import completions as scored
from services.teacher.openai import sequence_logprobs
from services.verifier import http as verifier
from services.verifier.settings import VerifierLimits

Read = Callable[[Body], Any]
FORMS: dict[str, tuple[Any, Any, Read]] = {
    "teacher": (
        teacher.ScoreRequest,
        teacher.EXAMPLE,
        lambda body: reading.read_request(body, DetailsQuery(), READER, "sha256:mine", TeacherLimits()),
    ),
    "teacher, named tokens of a shared prompt": (
        teacher.ScoreRequest,
        {
            "prompts": [{"id": "p", "prompt_token_ids": [1]}],
            "sequences": [{"prompt_id": "p", "response_token_ids": [3], "named_token_ids": [[4]]}],
            "details": ["hidden"],
            "end_token_ids": [1],
        },
        lambda body: reading.read_request(body, DetailsQuery(), READER, "sha256:mine", TeacherLimits()),
    ),
    "rollout": (
        rollout.RolloutRequest,
        {**rollout.EXAMPLE, "sampling": {**rollout.EXAMPLE["sampling"], "stop_token_ids": [1, 2]}},
        lambda body: rollout.read_request(body, {}, READER, "sha256:mine", RolloutLimits()),
    ),
    "verifier": (
        verifier.DOCUMENTED,
        verifier.EXAMPLE,
        partial(verifier.read_request, tasks={"my_task": None}, limits=VerifierLimits()),
    ),
    "completions of a teacher": (
        scored.Documented,
        {"prompt": [[4, 5]], "echo": True, "logprobs": 1, "max_tokens": 0, "temperature": 0},
        lambda body: scored.read(body, SMALL, len(WORDS), TeacherLimits()),
    ),
    "sequence log-probs": (
        sequence_logprobs.SequenceLogprobsRequest,
        {"sequences": [[4, 5, 6]], "prompt_lengths": [1], "temperature": 1.0, "response_format": "json"},
        lambda body: sequence_logprobs.read(body, SMALL, len(WORDS), TeacherLimits()),
    ),
    "completions": (
        written.Documented,
        {"prompt": "Mia is", "n": 1, "temperature": 0, "stop": ["a"], "stream": True, "stream_options": {}},
        lambda body: written.read(body, SMALL, TEXTS, len(WORDS), RolloutLimits()),
    ),
    "chats": (
        chats.Documented,
        {"messages": [{"role": "user", "content": "Mia"}], "logprobs": True, "top_logprobs": 1, "n": 1},
        lambda body: chats.read(body, SMALL, TEXTS, len(WORDS), RolloutLimits()),
    ),
}
#: Refusals of what no schema can say: what texts come to, names of each other's rows, and what is left out in
#: one place and must then stand in another.
MEANINGS = (
    "has no token",
    "tokens at least",
    "the most that the model takes",
    "occurs twice",
    "missing, here",
    "'Words' object has no attribute",  # no chat template
    "solves no prompts",
    "the vocabulary has ids",
    "the most told here",
    "leave none of",
    "numbers for",
    "and the sequence has",
    "is the id of none of",
    "names tokens for",
    "names more tokens for one place",
)


def schema_of(name: str) -> dict[str, Any]:
    form, example, _ = FORMS[name]
    entry = documents(form, ScoreAnswer, example)["openapi_extra"]["requestBody"]["content"][JSON]["schema"]
    return {key: value for key, value in entry.items() if key != "example"}


MEANT = "(what it means)"


def refusal(name: str, value: Any) -> str | None:
    """Why a request is no request; None: it is one; `MEANT`: it is refused for what it means."""
    try:
        FORMS[name][2](Body(json.dumps(value).encode(), "json", "json"))
    except ProblemError as error:
        meant = any(meaning in error.problem.detail for meaning in MEANINGS)
        return MEANT if meant else error.problem.detail
    except (LimitError, UnknownNameError):
        return MEANT
    return None


@pytest.mark.parametrize("name", FORMS)
def test_the_example_is_valid_and_read(name: str) -> None:
    jsonschema.validate(FORMS[name][1], schema_of(name))
    assert refusal(name, FORMS[name][1]) in (None, MEANT)


ODD = st.sampled_from(
    [
        "null",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "2.5",
        str(2**31),
        str(2**70),
        '""',
        '"x"',
        "[]",
        "[1]",
        '["x"]',
        "{}",
        '{"a": 1}',
        "[null]",
    ]
)


@pytest.mark.parametrize("name", FORMS)
def test_one_change_is_judged_alike(name: str) -> None:
    """A value is replaced, taken out or added: schema and reader agree on what it is then."""
    judge = jsonschema.Draft202012Validator(schema_of(name))

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        changed = json.loads(json.dumps(FORMS[name][1]))
        for _ in range(data.draw(st.integers(1, 3))):
            if places := list(_places(changed)):
                _change(data, *data.draw(st.sampled_from(places)))
        why = refusal(name, changed)
        # Refused for its meaning: a fault of its form may not have been reached.
        assert why == MEANT or (why is None) == judge.is_valid(changed), (why, changed)

    check()


def _change(data: st.DataObject, holder: Any, key: Any) -> None:
    match data.draw(st.sampled_from(["replace", "take", "add"])):
        case "replace":
            holder[key] = json.loads(data.draw(ODD))
        case "take":
            del holder[key]
        case _ if isinstance(holder, dict):
            added = [
                "extra",
                "id",
                "gold",
                "prompt",
                "response",
                "seed",
                "temperature",
                "training",
                "top_k",
                "n",
                "stop",
            ]
            holder[data.draw(st.sampled_from(added))] = json.loads(data.draw(ODD))


def _places(value: Any) -> Any:
    """Where something stands, down to some depth, as its holder and its key there."""
    keys = (
        list(value)
        if isinstance(value, dict)
        else range(min(3, len(value)))
        if isinstance(value, list)
        else ()
    )
    for key in keys:
        yield value, key
        yield from _places(value[key])


def test_levels_of_a_setting_are_not_followed() -> None:
    """However many they are, and however much of the stack was used before."""
    sampling = {**rollout.EXAMPLE["sampling"], "seed": None}
    for levels in range(100, 1000):
        text = json.dumps({**rollout.EXAMPLE, "sampling": sampling}).replace(
            "null", "[" * levels + "]" * levels
        )
        with pytest.raises(ProblemError) as refused:
            FORMS["rollout"][2](Body(text.encode(), "json", "json"))
        assert refused.value.problem.status in (400, 422)
