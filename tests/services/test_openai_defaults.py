"""Every field that vLLM's server and OpenAI's client have is known here, at the value that it has by default.

Clients that were made from those forms send all of their fields. What the installed vLLM has is read from its
source, which takes no half a minute as its import does.
"""

import ast
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from openai.types import completion_create_params as text_params
from openai.types.chat import completion_create_params as chat_params

from services.rollout.openai.chats import ChatRequest
from services.rollout.openai.completions import CompletionRequest as Continued
from services.serve.http.json_forms import to_form
from services.teacher.openai.completions import CompletionRequest as Scored

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
PROMPT: dict[str, Any] = {"prompt": [1]}
# A teacher appends one token at most, and 1 is its default.
OTHERWISE = {(Scored, "max_tokens")}


def defaults(file: str, form: str) -> Iterator[tuple[str, Any]]:
    """Fields of a form of vLLM's that may be left out, and what they are then."""
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    source = Path(spec.submodule_search_locations[0], "entrypoints/openai", file, "protocol.py").read_text()
    [found] = [
        each for each in ast.parse(source).body if isinstance(each, ast.ClassDef) and each.name == form
    ]
    for field in found.body:
        if isinstance(field, ast.AnnAssign) and field.value is not None:
            assert isinstance(field.target, ast.Name)
            if not field.target.id.startswith("_"):
                yield field.target.id, default(field.value)


def default(value: ast.expr) -> Any:
    """A constant, or the one that is given to pydantic's ``Field``."""
    if not isinstance(value, ast.Call):
        return ast.literal_eval(value)
    given = {each.arg: each.value for each in value.keywords}
    if value.args or "default" in given:
        return ast.literal_eval(value.args[0] if value.args else given["default"])
    factory = ast.unparse(given["default_factory"])
    return {"list": [], "dict": {}, "random_uuid": "a name"}[factory]


@pytest.mark.parametrize(
    ("form", "asked", "theirs"),
    [
        (ChatRequest, CHAT, ("chat_completion", "ChatCompletionRequest")),
        (Continued, PROMPT, ("completion", "CompletionRequest")),
        (Scored, PROMPT, ("completion", "CompletionRequest")),
    ],
)
def test_vllms_fields_are_taken_at_their_defaults(
    form: type, asked: dict[str, Any], theirs: tuple[str, str]
) -> None:
    fields = {
        name: value
        for name, value in defaults(*theirs)
        if name not in asked and (form, name) not in OTHERWISE
    }
    assert len(fields) > 40
    for name, value in fields.items():
        to_form(json.dumps(asked | {name: value}).encode(), form, 64)
    to_form(json.dumps(asked | fields).encode(), form, 64)


@pytest.mark.parametrize(
    ("form", "asked", "theirs"),
    [
        (ChatRequest, CHAT, chat_params.CompletionCreateParamsBase),
        (Continued, PROMPT, text_params.CompletionCreateParamsBase),
        (Scored, PROMPT, text_params.CompletionCreateParamsBase),
    ],
)
def test_fields_of_openais_client_are_known(form: type, asked: dict[str, Any], theirs: type) -> None:
    names = theirs.__annotations__.keys() - asked.keys()
    assert len(names) > 10
    for name in names:
        to_form(json.dumps(asked | {name: None}).encode(), form, 64)
