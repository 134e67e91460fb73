"""Requests made from the OpenAPI documents, right ones and wrong ones, alone and one after another.

schemathesis makes them, with all its checks: what the document calls right is taken, what it calls wrong is
refused, and each answer has a status, a type and a form that the document names. Refusals that no schema can
say are listed here, by their words.
"""

from collections import Counter
from typing import Any

import schemathesis
from schemathesis import engine
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.engine import events
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

from rlad_core.client.forms import ARROW
from tests.abuse.target import SERVICES, Effort, Target

SENT = "requests made from the three OpenAPI documents, alone and in a row, all of schemathesis' checks"
_AT_A_TIME = 20_000
_NOT_SET = 501
_MOST = {"group_size": 4, "max_tokens": 16}
"""Of what is generated, so that a request is little work."""
#: What is refused of requests that are well formed, in words of the refusal.
MEANT = (
    "has no token",
    "tokens at least",
    "the most that the model takes",
    "occurs twice",
    "missing, here",
    "chat template",
    "is not served here",
    "is not judged here",
    "solves no prompts",
    "no puzzle in the prompt",
    "the vocabulary has ids",
    "numbers for",
    "and the sequence has",
    "names tokens for",
    "names more tokens for one place",
    "is the id of none of",
    "asks for nothing",
    "does not tell it",
    "is read with Arrow alone",  # sampling in the query beside a body of JSON
    "is not told with plain",  # one of them in the query, the other anywhere
    "its older name",  # max_tokens beside max_completion_tokens
    "in the body, and",  # another value of it in the query
    "the most told here",
    "most that",
    "at most",
    "gold",
    "not taken with training",
)


def attack(target: Target, effort: Effort) -> str:
    """No check fails, so no answer is a fault of the server."""
    statuses: Counter[int] = Counter()
    for service in SERVICES:
        wanted, seed = effort.requests // len(SERVICES), 0
        found: Counter[int] = Counter()
        while found.total() < wanted:
            found += ask(target, service, min(_AT_A_TIME, wanted - found.total()), seed)
            seed += 1
        statuses += found
    told = ", ".join(f"{status}: {number:,}" for status, number in sorted(statuses.items()))
    return f"{statuses.total():,} requests, no check failed; answers by status: {told}"


def ask(target: Target, service: str, requests: int, seed: int) -> Counter[int]:
    """Answers by status to about so many requests to a service.

    Raises:
        AssertionError: a check failed; says which, and by what request.
    """
    with target.client() as http:
        document = http.get(f"/{service}/openapi.json").raise_for_status().json()
    operations = sum(len(methods) for methods in document["paths"].values())
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": f"{target.url}/{service}",
            "request-timeout": 120,
            "continue-on-failure": True,
            "suppress-health-check": ["all"],
            "warnings": False,
            "generation": {
                "max-examples": max(1, requests // (2 * operations)),
                "database": "none",
                "no-shrink": True,
            },
            "phases": {"stateful": {"enabled": True}},
        }
    )
    schema = schemathesis.openapi.from_dict(_narrowed(document, _tokens(target)), config=config)
    schema.hook(filter_failure)
    schema.hook(map_headers)
    statuses: Counter[int] = Counter()
    failures: dict[str, str] = {}  # by what was answered, so that each is told once
    for event in engine.from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            fault = str(getattr(event, "value", None) or event.exception)
            failures[fault] = fault
        if not isinstance(event, events.ScenarioFinished):
            continue
        for case_id, interaction in event.recorder.interactions.items():
            assert interaction.response is not None, f"{interaction.request} got no answer"
            statuses[interaction.response.status_code] += 1
            for check in event.recorder.checks.get(case_id, ()):
                if check.failure_info is not None:
                    said = (interaction.response.content or b"")[:500].decode(errors="replace")
                    failures[said] = (
                        f"{check.failure_info.failure}\n{check.failure_info.code_sample}\n"
                        f"{interaction.response.status_code}: {said}"
                    )
    assert not failures, f"{service}, {len(failures)} failures: " + "\n\n".join(list(failures.values())[:10])
    assert not [status for status in statuses if status >= 500 and status != _NOT_SET], statuses
    return statuses


def map_headers(_: Any, headers: Any) -> Any:
    """A part of a packed answer is a part of what is packed (RFC 9110, 14.2), which no client unpacks."""
    return {**headers, "Accept-Encoding": "identity"} if headers and "Range" in headers else headers


def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether a failed check counts: not that of a request which no schema could call wrong, nor of one that
    only the narrowed document does.
    """
    if response.status_code == _NOT_SET:  # jobs, where no folder is set for them
        return False
    if isinstance(failure, AcceptedNegativeData):
        # Of more objects than a request may hold: refused before it is read.
        return response.status_code != 413 and not _narrow(case.body)
    if isinstance(failure, UseAfterFree):  # a cancelled job is there until its time is over, and says so
        return response.json().get("status") != "cancelled"
    if not isinstance(failure, RejectedPositiveData):
        return True
    if case.media_type == ARROW:  # of which the document says that it is bytes
        return response.status_code not in (400, 413, 422)
    if response.status_code in (410, 416):  # the answer of a job that was cancelled; a part beyond its end
        return False
    return response.status_code not in (404, 413, 422) or not any(meant in response.text for meant in MEANT)


def _narrow(body: Any) -> bool:
    """Whether something in a request is over what `_narrowed` allows."""
    if isinstance(body, dict):
        over = any(isinstance(v := body.get(name), int) and v > most for name, most in _MOST.items())
        return over or any(map(_narrow, body.values()))
    return isinstance(body, list) and any(map(_narrow, body))


def _tokens(target: Target) -> int:
    """Token ids that there are, for teacher and student; the documents name no model, and so not them."""
    with target.client() as http:
        return int(http.get("/teacher/v1/info").raise_for_status().json()["vocab_size"])


def _narrowed(part: Any, tokens: int) -> Any:
    """A document with fewer requests in it: of token ids that there are, and of little work each."""
    if isinstance(part, list):
        return [_narrowed(each, tokens) for each in part]
    if not isinstance(part, dict):
        return part
    narrow = {key: _narrowed(value, tokens) for key, value in part.items()}
    if narrow.get("maximum") == 2**31 - 1:
        narrow["maximum"] = tokens - 1
    for name, most in _MOST.items():
        if isinstance(narrow.get(name), dict) and narrow[name].get("type") == "integer":
            narrow[name] = {**narrow[name], "maximum": most}
    return narrow
