"""Chats and completions of the policy that ask for too much, whatever little they send."""

from typing import Any

import pytest
import test_openai_answers as asked
from test_openai_answers import chat, completion

from rlad_core.client.errors import LimitError
from rlad_core.client.rollout_forms import RolloutLimits
from services.rollout.sizes import check_wishes
from services.serve.http.problems import ProblemError


@pytest.mark.parametrize(
    ("ask", "field", "fields"),
    [(chat, "top_logprobs", {"logprobs": True}), (completion, "logprobs", {})],
)
def test_no_more_likely_tokens_than_the_service_tells(
    monkeypatch: pytest.MonkeyPatch, ask: Any, field: str, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr(asked, "LIMITS", asked.LIMITS.model_copy(update={"max_top_k": 2}))
    ask(**fields, **{field: 2})
    with pytest.raises(ProblemError, match=rf"{field}: 3 is over 2, .*limits\.max_top_k") as refused:
        ask(**fields, **{field: 3})
    assert [fault.path for fault in refused.value.problem.errors or []] == [field]
    assert refused.value.problem.status == 422


def test_what_is_told_of_tokens_counts_as_they_do() -> None:
    """Also where the body that asks for it is small."""
    wishes = completion(prompt=[4], n=3, max_tokens=5, logprobs=2).wishes
    tokens, told = 1 + 3 * 5, 3 * 5 * 2
    check_wishes(wishes, RolloutLimits(max_tokens_per_request=tokens + told))
    says = (
        f"{tokens} tokens of prompts and longest responses and {told} numbers .*at most {tokens + told - 1}"
    )
    with pytest.raises(LimitError, match=says) as refused:
        check_wishes(wishes, RolloutLimits(max_tokens_per_request=tokens + told - 1))
    assert (refused.value.limit, refused.value.status) == ("tokens", 413)
    check_wishes(completion(prompt=[4], n=3, max_tokens=5).wishes, RolloutLimits(max_tokens_per_request=16))


def test_prompts_are_tokenized_no_further_than_a_request_may_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "LIMITS", asked.LIMITS.model_copy(update={"max_tokens_per_request": 4}))
    with pytest.raises(LimitError, match=r"5 tokens in one request with prompt\[1\]; at most 4"):
        completion(prompt=["Mia is", "a a a", " "])  # the last of which has none


def test_too_many_answers() -> None:
    with pytest.raises(LimitError, match="7 responses in one request; at most 6"):
        chat(n=7)
    with pytest.raises(LimitError, match="8 responses in one request; at most 6"):
        completion(prompt=["Mia"] * 4, n=2)


@pytest.mark.parametrize(
    ("ask", "fields", "size"),
    [
        (completion, {"prompt": [4, 5], "return_token_ids": True}, len("[4,5]")),
        (completion, {"prompt": [4, 5], "return_token_ids": True, "stream": True}, len("[4,5]")),
        (completion, {"prompt": "Mia is", "echo": True}, len("Mia is")),
        (completion, {"prompt": "Mia is", "echo": True, "stream": True}, len("Mia is")),
        (completion, {"prompt": [[4, 5], [4]], "echo": True}, len("Mia is") + len("Mia")),
    ],
)
def test_prompts_are_not_repeated_without_end(
    monkeypatch: pytest.MonkeyPatch, ask: Any, fields: dict[str, Any], size: int
) -> None:
    def at_most(size: int) -> None:
        limits = asked.LIMITS.model_copy(update={"max_body_bytes": size})
        monkeypatch.setattr(asked, "LIMITS", limits)

    at_most(3 * size)
    ask(n=3, **fields)
    at_most(3 * size - 1)
    with pytest.raises(LimitError, match=f"repeated in 3 answers each, {3 * size} bytes"):
        ask(n=3, **fields)
    ask(n=2, **fields)
    ask(n=3)  # nothing is repeated
