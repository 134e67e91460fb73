"""A teacher of kind openai whose server answers what a vLLM server does not, or in one of its other ways."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from small_tokenizer import TOKENIZER

from rlad_core import schema
from rlad_core.client import Endpoint, ServiceError
from rlad_core.client.errors import UnknownNameError
from services.clients.teachers import MismatchError, PolicyFacts, StockServerTeacher


class Server:
    """What it answers to each path."""

    url: str

    def __init__(self) -> None:
        models = [{"id": "base", "max_model_len": 64}, {"id": "adapter", "max_model_len": None}]
        self.answers: dict[str, Any] = {"/v1/models": {"data": models}}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            answer = made.answers.get(self.path)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{http.server_port}"
    yield made
    http.shutdown()
    http.server_close()


def asked(server: Server, method: str, *arguments: Any, model: str = "base", api: Any = "completions") -> Any:
    async def ask() -> Any:
        async with Endpoint(server.url, timeout_s=10) as endpoint:
            return await getattr(StockServerTeacher(endpoint, model, api), method)(*arguments)

    return asyncio.run(ask())


@pytest.mark.parametrize("model", ["base", "adapter"])
def test_an_adapter_takes_as_many_tokens_as_its_model(server: Server, model: str) -> None:
    with pytest.raises(MismatchError, match=r"policy\.max_length is 64 and the teacher takes 63 tokens"):
        asked(server, "compare", PolicyFacts(TOKENIZER, 64), model=model)
    with pytest.raises(UnknownNameError, match="/detokenize answered 404"):  # it fits, and is asked on
        asked(server, "compare", PolicyFacts(TOKENIZER, 63), model=model)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v1/models", b"<html>"),
        ("/v1/models", ["base"]),
        ("/v1/models", {"data": [{"name": "base"}]}),
        ("/v1/models", {"data": [{"id": "base"}]}),  # as servers that are not vLLM have it
        ("/detokenize", {"content": "a"}),
        ("/tokenize", {"tokens": None}),
    ],
)
def test_what_is_no_vllm_server_is_told_by_its_answer(server: Server, path: str, answer: Any) -> None:
    vocabulary = sorted(set(TOKENIZER.get_vocab().values()))
    server.answers |= {"/detokenize": {"prompt": TOKENIZER.decode(vocabulary)}, path: answer}
    with pytest.raises(
        ServiceError, match=f"{path} answered what a vLLM server does not: .*is it the address"
    ):
        asked(server, "compare", PolicyFacts(TOKENIZER, 63))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"choices": [{"index": 0}]}, "did not tell the log-prob of every token of sequence 'a'"),
        ({"choices": [{"text": "a"}]}, "answered what a vLLM server does not"),
        ([], "answered what a vLLM server does not"),
    ],
)
def test_log_probs_that_are_not_there(server: Server, answer: Any, says: str) -> None:
    row = {"sequence_id": "a", "prompt_token_ids": [1], "response_token_ids": [2]}
    table = schema.build(schema.SEQUENCES, [row], tokenizer_fingerprint="f")
    server.answers["/v1/completions"] = answer
    with pytest.raises(ServiceError, match=says):
        asked(server, "score", table)
    server.answers["/inference/v1/generate"] = answer["choices"][0] if answer else answer
    with pytest.raises(ServiceError, match="did not tell the log-prob" if answer else says):
        asked(server, "score", table, api="generate")
