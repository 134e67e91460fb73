"""What clients send as JSON: numbers of other libraries, and what cannot be sent, named by its row."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np
import pytest

from rlad_core.client import RolloutClient, TeacherClient, VerifierClient
from rlad_core.client.errors import InvalidRequestError
from rlad_core.client.forms import Load, TeacherLimits
from rlad_core.client.plain_json import encoded
from rlad_core.client.rollout_forms import PolicyInfo, RolloutLimits
from rlad_core.client.verifier_forms import VerifierInfo

LOAD = Load(requests=0, callers_waiting=0, waiting=0)
INFO = {
    "/v1/policy": PolicyInfo(
        model="m", policy_version=0, checksum=None, max_model_len=9, tokenizer_fingerprint="f",
        schema_versions={}, limits=RolloutLimits(), load=LOAD,
    ),
    "/v1/info": VerifierInfo(
        tasks=["t"], check_time_limit_s=1, check_memory_limit_mib=1, max_responses_per_request=9,
        max_solved_prompts_per_request=9, max_body_bytes=2**20, max_queued_responses=9, timeout_s=1,
        schema_versions={}, load=LOAD,
    ),
}  # fmt: skip
TEACHER = {
    "model": "m", "engine": "torch", "dtype": "float32", "max_model_len": 9, "vocab_size": 9,
    "hidden_size": 8, "tells_entropy": True, "details": [], "tokenizer_fingerprint": "f",
    "chat_template_fingerprint": None, "schema_versions": {}, "limits": TeacherLimits().model_dump(),
    "takes_shared_prompts": True,
}  # fmt: skip


class Service(ThreadingHTTPServer):
    """Tells what it is, notes what it is asked, and answers nothing to it."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        teacher = self.path.startswith("/teacher")
        path = self.path.removeprefix("/teacher")
        self._tell(json.dumps(TEACHER) if teacher else INFO[path].model_dump_json())

    def do_POST(self) -> None:
        assert self.headers["content-type"] == "application/json"
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        usage = {"prompts": 1, "responses": 0, "response_tokens": 0, "sequences": 0, "prompt_tokens": 0}
        answer = {"model": "m", "policy_version": 0, "results": [], "usage": usage | {"scored_tokens": 0}}
        self._tell(json.dumps(answer))

    def _tell(self, body: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def url(service: Service) -> str:
    return f"http://127.0.0.1:{service.server_address[1]}"


@pytest.mark.parametrize("ids", [np.array([1, 2]), [np.int32(1), np.int64(2)], (1, 2)])
def test_token_ids_of_other_libraries_are_numbers(service: Service, ids: Any) -> None:
    with RolloutClient(url(service)) as rollouts:
        rollouts.sample_tokens([ids], group_size=np.int64(1), max_tokens=4, seed=np.int64(3))
    [asked] = service.asked
    assert asked["prompts"] == [{"id": "0", "prompt_token_ids": [1, 2]}]
    assert asked["sampling"] == {"group_size": 1, "max_tokens": 4, "seed": 3}


HALF = "a\ud800"


def _rollouts(call: Callable[[RolloutClient], object]) -> Callable[[str], object]:
    def asked(at: str) -> None:
        with RolloutClient(at) as rollouts:
            call(rollouts)

    return asked


def _teacher(call: Callable[[TeacherClient], object]) -> Callable[[str], object]:
    def asked(at: str) -> None:
        with TeacherClient(f"{at}/teacher") as teacher:
            call(teacher)

    return asked


def _verifier(call: Callable[[VerifierClient], object]) -> Callable[[str], object]:
    def asked(at: str) -> None:
        with VerifierClient(at) as verifier:
            call(verifier)

    return asked


ONE: dict[str, Any] = {"group_size": 1, "max_tokens": 4}


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (_rollouts(lambda c: c.sample_texts(["a", HALF], **ONE)), "prompt 1: prompt holds half a character"),
        (
            _rollouts(lambda c: c.sample_texts([[{"role": "user", "content": HALF}]], **ONE)),
            "prompt 0: messages holds half a character",
        ),
        (
            _rollouts(lambda c: c.sample_tokens([[1], [object()]], **ONE)),  # type: ignore[list-item]
            "prompt 1: prompt_token_ids cannot be sent as JSON: a object is no number",
        ),
        (
            _rollouts(lambda c: c.sample_texts(["a"], **ONE, temperature=float("nan"))),
            r"/v1/rollouts is asked, responses to 1 prompts, cannot be sent as JSON: Out of range",
        ),
        (_teacher(lambda c: c.score_texts([("a", "b"), ("a", HALF)])), "text 1: response holds half a char"),
        (_teacher(lambda c: c.score_texts([(HALF, "b")])), "text 0: prompt holds half a character"),
        (_verifier(lambda c: c.judge("t", [("a", "5"), (HALF, "5")])), "response 1: response holds half a"),
        (_verifier(lambda c: c.judge("t", [("a", HALF)])), "response 0: gold holds half a character"),
        (_verifier(lambda c: c.judge("t", [("a", {"b": HALF})])), "response 0: gold holds half a character"),
        (_verifier(lambda c: c.judge("t", [("a", "5")], opened=HALF)), "the verdicts on 1 responses, holds"),
    ],
)
def test_what_cannot_be_sent_is_named_by_its_row(
    service: Service, ask: Callable[[str], object], says: str
) -> None:
    with pytest.raises(InvalidRequestError, match=says) as refused:
        ask(url(service))
    str(refused.value).encode()  # it can be printed
    assert not service.asked


def test_numpy_in_a_gold_is_plain(service: Service) -> None:
    with VerifierClient(url(service)) as verifier, pytest.raises(Exception, match="0 verdicts"):
        verifier.judge("t", [("a", {"answer": np.float32(0.5), "all": np.arange(2)})])
    [asked] = service.asked
    assert asked["responses"][0]["gold"] == '{"answer": 0.5, "all": [0, 1]}'


def test_texts_are_sent_as_they_are() -> None:
    assert encoded({"a": "é€\U0001f600"}, "it").decode() == '{"a":"é€\U0001f600"}'
