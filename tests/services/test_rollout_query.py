"""How a client asks to sample prompts that it sends as Arrow, and what the service reads of it."""

from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from small_tokenizer import READER

from rlad_core import schema
from rlad_core.client.rollout_forms import RolloutLimits
from rlad_core.client.rollouts import _settings
from services.rollout.http import RolloutQuery, one_each, read_request
from services.rollout.settings import SamplingSettings
from services.serve.http.bodies import Body
from services.serve.http.problems import ProblemError

ROW = {"prompt_id": "p", "task": "t", "subset": "", "prompt": "a b", "prompt_token_ids": [1, 2], "gold": "c"}
PROMPTS = schema.build(schema.PROMPTS, [ROW], tokenizer_fingerprint="sha256:mine")


def read(url: httpx.URL) -> SamplingSettings:
    query = one_each({name: url.params.get_list(name) for name in url.params})
    body: Any = Body(schema.to_ipc(PROMPTS), "arrow", "arrow")
    _, sampling = read_request(body, query, READER, "sha256:mine", RolloutLimits())
    return sampling


@pytest.mark.parametrize(
    "more", [{}, {"stop_token_ids": (7, 8, 9)}, {"seed": None}, {"seed": 3, "training": False, "top_k": 2}]
)
def test_what_a_client_sets_is_what_is_read(more: dict[str, Any]) -> None:
    request = httpx.Request("POST", "http://rollouts/v1/rollouts", params=_settings(2, 8, more))
    assert read(request.url) == SamplingSettings(group_size=2, max_tokens=8, **more)


@pytest.mark.parametrize("ids", ["stop_token_ids=7,8", "stop_token_ids=7&stop_token_ids=8"])
def test_end_tokens_are_read_in_either_form(ids: str) -> None:
    sampling = read(httpx.URL(f"http://rollouts/v1/rollouts?group_size=1&max_tokens=4&stream=true&{ids}"))
    assert sampling.stop_token_ids == (7, 8)


@pytest.mark.parametrize("name", ["temperature", "seed", "group_size", "stop_token_ids"])
def test_settings_beside_a_json_body_are_not_passed_over(name: str) -> None:
    content = b'{"prompts": [{"prompt": "Mia"}], "sampling": {"group_size": 1, "max_tokens": 4}}'
    body = Body(content, "json", "json")
    read_request(body, one_each({"stream": ["true"]}), READER, "sha256:mine", RolloutLimits())
    with pytest.raises(ProblemError, match=f"query.{name}: is read with Arrow .* sampling.{name}"):
        read_request(body, one_each({name: ["1"]}), READER, "sha256:mine", RolloutLimits())


@pytest.mark.parametrize("given", [{"group_size": "0"}, {"seed": "-1"}, {"stop_token_ids": "a"}])
def test_a_fault_is_told_once_and_by_the_parameters_name(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as failed:
        RolloutQuery.model_validate(given)
    assert [fault["loc"] for fault in failed.value.errors()] == [tuple(given)]
