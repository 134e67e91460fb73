"""What OpenAI's clients and vLLM's send at values that change nothing, and what is no such value."""

import json
import tracemalloc
from typing import Any

import jsonschema
import msgspec
import pytest
from openai.types.chat import ChatCompletionMessage

from services.rollout.openai.chats import ChatRequest
from services.rollout.openai.completions import CompletionRequest as Continued
from services.rollout.openai.completions import Documented
from services.serve.http.json_forms import to_form
from services.serve.http.problems import ProblemError
from services.serve.openai.numbers import Seed
from services.serve.openai.sampling import stops
from services.teacher.openai.completions import CompletionRequest as Scored
from services.teacher.openai.sequence_logprobs import SequenceLogprobsRequest

USER = {"role": "user", "content": "Hi"}
CHAT: dict[str, Any] = {"messages": [USER]}
PROMPT: dict[str, Any] = {"prompt": [1]}
FORMS: list[tuple[type, dict[str, Any]]] = [(ChatRequest, CHAT), (Continued, PROMPT), (Scored, PROMPT)]
SCHEMA = msgspec.json.schema(Documented)
# What an answer's message holds (`services.rollout.openai.chats.AskedChat.choice`).
ANSWERED = ChatCompletionMessage.model_validate({"role": "assistant", "content": "Ho", "refusal": None})


def read(form: type, asked: dict[str, Any]) -> Any:
    return to_form(json.dumps(asked).encode(), form, 64)


@pytest.mark.parametrize("sent", [{"exclude_unset": True}, {}], ids=["by the client", "whole"])
def test_an_answer_is_taken_back_into_its_chat(sent: dict[str, bool]) -> None:
    message = ANSWERED.model_dump(mode="json", **sent)  # type: ignore[arg-type]
    asked = read(ChatRequest, {"messages": [USER, message, USER]})
    assert [each.text for each in asked.messages] == ["Hi", "Ho", "Hi"]


@pytest.mark.parametrize(("form", "asked"), FORMS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ignore_eos", True),
        ("skip_special_tokens", False),
        ("store", True),
        ("min_tokens", 1),
        ("service_tier", "flex"),
        ("use_beam_search", True),
        ("bad_words", ["Mia"]),
        ("priority", 1),
        ("watermarking", True),
        ("mm_payload", "none"),
    ],
)
def test_other_values_are_refused_by_name(form: type, asked: dict[str, Any], name: str, value: Any) -> None:
    with pytest.raises(ProblemError) as refused:
        read(form, asked | {name: value})
    [fault] = refused.value.problem.errors or ()
    assert fault.path == name
    shown = msgspec.json.schema_components([form])[1][form.__name__]["properties"][name]
    assert value not in [each.get("const", 0) for each in shown["anyOf"] if each.get("type") == "boolean"]


@pytest.mark.parametrize(("form", "asked"), FORMS)
def test_values_that_change_nothing_are_taken(form: type, asked: dict[str, Any]) -> None:
    neutral: dict[str, Any] = {
        "stream": None,
        "stream_options": None,
        "logit_bias": {},
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "length_penalty": 1.0,
        "min_tokens": 0,
        "stop_token_ids": [],
        "ignore_eos": False,
        "include_stop_str_in_output": False,
        "skip_special_tokens": True,
        "store": False,
        "seed": None,
        "stop": [],
        "metadata": {},
        "service_tier": "auto",
        "safety_identifier": "someone",
        "prompt_cache_retention": "24h",
        "request_id": "mine",
        "bad_words": [],
        "allowed_token_ids": None,
        "truncate_prompt_tokens": None,
        "priority": 0,
        "response_format": {"type": "text"},
        "spaces_between_special_tokens": True,
        "use_beam_search": False,
        "prompt_logprobs": None,
        "prompt_cache_key": "anything",
        "session_id": "mine",
        "logprob_token_ids": None,
        "truncation_side": None,
        "structured_outputs": None,
        "repetition_detection": None,
        "kv_transfer_params": None,
        "cache_salt": None,
        "vllm_xargs": {},
        "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
        "watermarking": False,
        "return_token_offsets": False,
        "mm_payload": "tensors",
        "routed_experts_prompt_start": 0,
    }
    neutral |= (
        {
            "tools": [],
            "tool_choice": "none",
            "parallel_tool_calls": True,
            "top_logprobs": 0,
            "functions": [],
            "function_call": "auto",
            "modalities": ["text"],
            "audio": None,
            "prediction": None,
            "reasoning_effort": None,
            "verbosity": None,
            "web_search_options": None,
            "include_reasoning": True,
            "return_tokens_as_token_ids": False,
            "add_special_tokens": False,
            "documents": [],
            "chat_template": None,
            "mm_processor_kwargs": {},
            "media_io_kwargs": {},
            "return_prompt_text": False,
        }
        if form is ChatRequest
        else {"echo": None, "add_special_tokens": None, "suffix": "", "best_of": 1}
    )
    for name, value in neutral.items():
        read(form, asked | {name: value})
        if name not in ("stop", "stream_options"):
            read(form, asked | {name: None})


def test_what_lm_eval_sends_with_each_message_is_taken() -> None:
    """Its ``local-chat-completions``, and servers that think, whose answers are sent back."""
    asked = read(ChatRequest, {"messages": [USER | {"type": "text"}, USER | {"type": None}]})
    assert [each.text for each in asked.messages] == ["Hi", "Hi"]
    for name in ("reasoning", "reasoning_content"):
        read(ChatRequest, {"messages": [USER | {name: None}]})
        with pytest.raises(ProblemError, match=name):
            read(ChatRequest, {"messages": [USER | {name: "I see."}]})
    with pytest.raises(ProblemError, match=r"messages\[0\].type"):
        read(ChatRequest, {"messages": [USER | {"type": "image_url"}]})


@pytest.mark.parametrize(("form", "asked"), FORMS[:2])
def test_usage_is_told_once(form: type, asked: dict[str, Any]) -> None:
    streamed = asked | {"stream": True}
    for value in (False, None):
        read(form, streamed | {"stream_options": {"include_usage": True, "continuous_usage_stats": value}})
    with pytest.raises(ProblemError, match="continuous_usage_stats"):
        read(form, streamed | {"stream_options": {"continuous_usage_stats": True}})


@pytest.mark.parametrize("count", [None, 1, 2, 20])
def test_none_of_the_answers_is_chosen(count: int | None) -> None:
    asked = {"n": count, "best_of": count}
    assert read(Continued, PROMPT | asked).n == count
    if count in (None, 1):
        jsonschema.validate(PROMPT | asked, SCHEMA)
    if count != 1:
        for more in ({"best_of": 3}, {"best_of": 3, "n": 4}):
            with pytest.raises(ProblemError, match="best_of"):
                read(Continued, PROMPT | more)
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(PROMPT | more, SCHEMA)


@pytest.mark.parametrize("fault", [["x" * 257], "x" * 257, ["x"] * 17])
def test_stop_texts_are_few_and_short(fault: Any) -> None:
    """The engine gets them with each answer to a prompt."""
    for fits in ("\U0001f600" * 256, ["x" * 256] * 16):
        jsonschema.validate(PROMPT | {"stop": fits}, SCHEMA)
        assert sum(map(len, stops(msgspec.Raw(json.dumps(fits).encode())))) == len("".join(fits))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(PROMPT | {"stop": fault}, SCHEMA)
    with pytest.raises(ProblemError, match="stop"):
        stops(msgspec.Raw(json.dumps(fault).encode()))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function"}]),
        ("tool_choice", "required"),
        ("response_format", {"type": "json_object"}),
        ("top_k", 5),
        ("min_p", 0.1),
        ("repetition_penalty", 1.1),
        ("top_logprobs", 1),
        ("modalities", ["text", "audio"]),
        ("reasoning_effort", "high"),
        ("prompt_logprobs", 1),
    ],
)
def test_others_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ProblemError, match=field):
        read(ChatRequest, CHAT | {field: value})


@pytest.mark.parametrize("field", ["bad_words", "logit_bias"])
def test_what_must_be_empty_is_read_no_further_than_its_first_item(field: str) -> None:
    count = 2**17
    items = {f"{n:06d}": 1 for n in range(count)} if field == "logit_bias" else ["ab"] * count
    body = json.dumps(PROMPT | {field: items}).encode()
    tracemalloc.start()
    try:
        with pytest.raises(ProblemError, match=field):
            to_form(body, Scored, 64)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(body)


@pytest.mark.parametrize(
    ("form", "asked", "field"),
    [
        (ChatRequest, CHAT | {"top_logprobs": 2}, "top_logprobs"),
        (ChatRequest, CHAT | {"max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens"),
        (Continued, PROMPT | {"temperature": 0, "n": 2}, "n"),
        (Scored, PROMPT | {"stream": True}, "stream"),
        (Scored, PROMPT | {"max_tokens": 0}, "max_tokens"),
        (Scored, PROMPT | {"frequence_penalty": 0}, "frequence_penalty"),
    ],
)
def test_the_field_at_fault_is_named_as_such(form: type, asked: dict[str, Any], field: str) -> None:
    with pytest.raises(ProblemError) as refused:
        read(form, asked)
    [fault] = refused.value.problem.errors or ()
    assert fault.path == field
    assert not fault.message.startswith(f"{field}: ")
    assert refused.value.problem.detail == f"{field}: {fault.message}"


@pytest.mark.parametrize(
    ("form", "asked", "given"),
    [
        (ChatRequest, CHAT, {"n": 2, "seed": 5, "max_tokens": 3, "top_k": -1, "priority": 0}),
        (ChatRequest, CHAT | {"logprobs": True}, {"top_logprobs": 20, "max_completion_tokens": 1}),
        (Continued, PROMPT, {"logprobs": 0, "best_of": 1, "min_tokens": 0}),
        (Scored, PROMPT, {"logprobs": 3, "prompt_logprobs": 2, "max_tokens": 1, "n": 1, "seed": -7}),
        (SequenceLogprobsRequest, {"sequences": [[1, 2]], "prompt_lengths": [1]}, {"top_logprobs": 4}),
    ],
)
def test_whole_numbers_may_have_a_point(form: type, asked: dict[str, Any], given: dict[str, int]) -> None:
    found = read(form, asked | {name: float(value) for name, value in given.items()})
    for name, value in given.items():
        assert (type(getattr(found, name)), getattr(found, name)) == (int, value)
        for wrong in (value + 0.5, str(value), True):
            with pytest.raises(ProblemError, match=name):
                read(form, asked | {name: wrong})


def test_fractions_stay_what_they_are() -> None:
    found = read(ChatRequest, CHAT | {"temperature": 1.0, "top_p": 1})
    assert (type(found.temperature), type(found.top_p)) == (float, float)


@pytest.mark.parametrize("seed", [2**63, float(2**63), -1, -1.0, 1e300])
def test_no_seed_is_larger_than_the_engines(seed: float) -> None:
    with pytest.raises(ProblemError, match="seed"):
        read(ChatRequest, CHAT | {"seed": seed})
    assert read(ChatRequest, CHAT | {"seed": 2**63 - 1}).seed == 2**63 - 1


def test_no_seed_is_larger_in_documents_whose_numbers_are_floats() -> None:
    as_floats = json.loads(json.dumps(msgspec.json.schema(Seed)), parse_int=float)
    takes = jsonschema.Draft202012Validator(as_floats).is_valid
    assert [takes(seed) for seed in (2**63, float(2**63), 2**62, 7.0, -1)] == [
        False,
        False,
        True,
        True,
        False,
    ]
