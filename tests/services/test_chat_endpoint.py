"""Chat completions of servers that are not ours: what is sent, and what is made of their answers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rlad_core.client import Endpoint, ServiceError
from rlad_core.client.errors import InvalidRequestError
from rlad_core.tasks import Prompt
from services.evaluate.respondents import Answer, Sampling, Wanted
from services.evaluate.respondents.chat import ChatEndpoint, base_of, check_served

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
PROMPT = Prompt("p", "math", "x", CHAT, "{}")
SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=None, seed=3)
Reply = Callable[[dict[str, Any]], tuple[int, Any]]


@contextmanager
def server(reply: Reply, models: tuple[int, Any] = (404, {})) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers chat completions by a function; its URL, and the requests that came."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*models)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append({"path": self.path, "key": self.headers.get("authorization"), **body})
            self._send(*reply(body))

        def _send(self, status: int, answer: Any) -> None:
            content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", asked
    finally:
        http.shutdown()
        http.server_close()


def completion(message: dict[str, Any], finish: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": {"completion_tokens": 7}}


def answer(url: str, sampling: Sampling = SAMPLING, *samples: int) -> list[Answer]:
    async def ask() -> list[Answer]:
        async with Endpoint(base_of(url), token="key", call_timeout_s=5, timeout_s=10) as endpoint:
            model = ChatEndpoint(endpoint, "m", sampling, concurrency=2)
            wanted = [Wanted(PROMPT, sample) for sample in samples or (0,)]
            return await model.answer(wanted)

    return asyncio.run(ask())


def test_what_is_sent_and_what_comes_back() -> None:
    with server(lambda body: (200, completion({"content": "\\boxed{2}"}, "length"))) as (url, asked):
        first, second = answer(url, Sampling(0.6, 0.95, 99, 3), 0, 1)
    assert asked[0] == {
        "path": "/v1/chat/completions", "key": "Bearer key", "model": "m", "messages": PROMPT.messages,
        "temperature": 0.6, "top_p": 0.95, "seed": 3, "max_tokens": 99,
    }  # fmt: skip
    assert asked[1]["seed"] == 4
    assert (first.response, first.finish_reason, first.tokens, first.opened) == (
        "\\boxed{2}",
        "length",
        7,
        "",
    )
    assert first.prompt == "[system]\nBe brief.\n\n[user]\n1+1?"
    assert second.values == {}


@pytest.mark.parametrize(
    ("message", "response", "opened"),
    [
        ({"content": "2", "reasoning_content": "1+1"}, "<think>1+1</think>2", ""),
        ({"content": None, "reasoning": "1+1"}, "<think>1+1</think>", ""),
        ({"content": "1+1</think>2"}, "1+1</think>2", "<think>"),
        ({"content": [{"type": "text", "text": "2"}]}, "2", ""),
        ({"content": None}, "", ""),
        ({"content": "2 \ud83d"}, "2 \ufffd", ""),
        ({"content": "2", "reasoning": "\ude00 \ud83d\ude00"}, "<think>\ufffd \U0001f600</think>2", ""),
    ],
)
def test_thoughts_and_parts(message: dict[str, Any], response: str, opened: str) -> None:
    with server(lambda body: (200, completion(message))) as (url, _):
        [made] = answer(url)
    assert (made.response, made.opened) == (response, opened)


def test_without_a_limit_the_server_decides() -> None:
    with server(lambda body: (200, completion({"content": "2"}))) as (url, asked):
        answer(url)
    assert not {"max_tokens", "max_completion_tokens"} & asked[0].keys()


def test_a_server_that_calls_the_limit_otherwise() -> None:
    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        if "max_tokens" in body:
            return 400, {"error": {"message": "'max_tokens' is no more. Use 'max_completion_tokens'"}}
        return 200, completion({"content": str(body["max_completion_tokens"])})

    with server(reply) as (url, asked):
        made = answer(url, Sampling(0.6, 0.95, 9, 0), 0, 1)
    assert [each.response for each in made] == ["9", "9"]
    assert len(asked) == 3  # it is asked the wrong way once


def test_a_busy_server_is_asked_again_and_a_refusal_is_not() -> None:
    statuses = iter([429, 503, 200])

    def busy(body: dict[str, Any]) -> tuple[int, Any]:
        status = next(statuses)
        return status, completion({"content": "2"}) if status == 200 else {"error": {"message": "later"}}

    with server(busy) as (url, asked):
        assert answer(url)[0].response == "2"
    assert len(asked) == 3
    with (
        server(lambda body: (400, {"error": {"message": "too long"}})) as (url, asked),
        pytest.raises(InvalidRequestError, match=r"too long .*the response to prompt p"),
    ):
        answer(url)
    assert len(asked) == 1


def test_what_a_server_does_not_tell_is_not_made_up() -> None:
    silent = {"choices": [{"message": {"content": "2"}, "finish_reason": None}]}
    with server(lambda body: (200, silent)) as (url, _):
        [made] = answer(url)
    assert (made.response, made.finish_reason, made.tokens) == ("2", None, None)


@pytest.mark.parametrize("told", ["<html>", [], {"choices": []}, {"choices": [{"message": None}]}])
def test_what_is_no_completion_is_said(told: Any) -> None:
    with (
        server(lambda body: (200, told)) as (url, _),
        pytest.raises(ServiceError, match=r"answered no (JSON|chat completion)"),
    ):
        answer(url)


def test_models_that_are_not_served_are_named() -> None:
    with server(lambda body: (200, {}), (200, {"data": [{"id": "a"}, {"id": "b"}]})) as (url, _):
        asyncio.run(check_served(base_of(url), None, ["b"]))
        with pytest.raises(ServiceError, match=r"serves a, b, not c; correct --model"):
            asyncio.run(check_served(base_of(url), None, ["a", "c"]))


def test_a_list_of_models_may_be_a_list_alone() -> None:
    with server(lambda body: (200, {}), (200, [{"id": "a"}])) as (url, _):
        asyncio.run(check_served(base_of(url), None, ["a"]))
        with pytest.raises(ServiceError, match=r"serves a, not c"):
            asyncio.run(check_served(base_of(url), None, ["c"]))


@pytest.mark.parametrize("told", ["<html>a page</html>", {}, {"data": None}, {"data": ["a"]}])
def test_a_list_of_models_that_cannot_be_read_is_said(told: Any) -> None:
    with (
        server(lambda body: (200, {}), (200, told)) as (url, _),
        pytest.raises(ServiceError, match=r"/v1/models answered no list of models; correct --endpoint"),
    ):
        asyncio.run(check_served(base_of(url), None, ["a"]))


@pytest.mark.parametrize("status", [403, 404, 405])
def test_not_every_server_lists_its_models(status: int) -> None:
    with server(lambda body: (200, {}), (status, {"error": {"message": "not here"}})) as (url, _):
        asyncio.run(check_served(base_of(url), None, ["c"]))


@pytest.mark.parametrize(("status", "said"), [(401, "no key"), (400, "no key"), (500, "answered 500")])
def test_a_key_that_is_refused_and_a_server_that_fails_are_said(status: int, said: str) -> None:
    with (
        server(lambda body: (200, {}), (status, {"error": {"message": "no key; answered 404:"}})) as (url, _),
        pytest.raises(ServiceError, match=said),
    ):
        asyncio.run(check_served(base_of(url), None, ["c"]))


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://x", "https://x/v1"),
        ("https://x/", "https://x/v1"),
        ("https://x/v1/", "https://x/v1"),
        ("https://x/api/v1", "https://x/api/v1"),
        ("https://open.bigmodel.cn/api/paas/v4", "https://open.bigmodel.cn/api/paas/v4"),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai/",
            "https://generativelanguage.googleapis.com/v1beta/openai",
        ),
    ],
)
def test_a_url_is_taken_as_openais_client_takes_it(url: str, base: str) -> None:
    assert base_of(url) == base


@pytest.mark.parametrize("path", ["/v1", "/api/paas/v4", "/v1beta/openai"])
def test_routes_are_under_the_path_that_was_written(path: str) -> None:
    with server(lambda body: (200, completion({"content": "2"}))) as (url, asked):
        answer(url + path)
    assert [each["path"] for each in asked] == [f"{path}/chat/completions"]


@pytest.mark.parametrize("url", ["https://x", "https://x/v1"])
def test_what_earlier_evaluations_kept_of_an_endpoint_is_found(url: str) -> None:
    model = ChatEndpoint(Endpoint(base_of(url)), "m", SAMPLING, concurrency=1)
    assert model.identity == {"endpoint": "https://x", "model": "m"}
