"""How a client asks to sample prompts that it sends as Arrow, and what the service reads of it."""

from typing import Any

import httpx
import pytest
from small_tokenizer import READER

from rlad_core import schema
from rlad_core.client.rollout_forms import RolloutLimits
from rlad_core.client.rollouts import _settings
from services.rollout.http import one_each, read_request
from services.rollout.settings import SamplingSettings
from services.serve.http.bodies import Body

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
