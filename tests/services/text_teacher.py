"""A teacher of texts over HTTP that computes nothing: each response is one token, and "long" is refused."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from rlad_core.client.forms import TeacherInfo, TeacherLimits
from rlad_core.client.made_with import MadeWith


def info(**more: Any) -> TeacherInfo:
    usual: dict[str, Any] = {
        "model": "m", "engine": "vllm", "dtype": "float32", "max_model_len": 9, "vocab_size": 100,
        "hidden_size": 8, "tells_entropy": False, "details": ["top_k"], "tokenizer_fingerprint": "f",
        "chat_template_fingerprint": None, "schema_versions": {}, "limits": TeacherLimits(max_top_k=110),
    }  # fmt: skip
    return TeacherInfo(**{**usual, **more})


def made_with(weights: str) -> MadeWith:
    return MadeWith(engine="vllm", weights=weights, tokenizer="f", chat_template=None, dtype="float32")


class TextTeacher:
    """What it is at the moment, and what it was asked.

    weights: None: it does not say what it is made with.
    next_weights: after its next answer.
    """

    url: str

    def __init__(self) -> None:
        self.weights: str | None = None
        self.next_weights: str | None = None
        self.asked: list[list[str]] = []
        self._one = Lock()

    @property
    def made_with(self) -> MadeWith | None:
        return None if self.weights is None else made_with(self.weights)

    def answer(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._one:
            told = self._answer(asked)
            self.weights, self.next_weights = self.next_weights or self.weights, None
        return told

    def _answer(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        responses = [row["response"] for row in asked["sequences"]]
        self.asked.append(responses)
        if asked["top_k"] or asked["entropy"] or "long" in responses:
            return 422, {"detail": "it is refused"}
        scored = {"logprobs": [-0.5], "logprob_sum": -0.5, "token_count": 1, "response_token_ids": [7]}
        return 200, {
            "model": "m",
            "policy_version": None,
            "results": [{"id": row["id"], **scored} for row in asked["sequences"]],
            "usage": {"sequences": 1, "prompt_tokens": 1, "scored_tokens": 1},
            "made_with": self.made_with and self.made_with.model_dump(),
        }


@contextmanager
def served() -> Iterator[TextTeacher]:
    """One that answers at its URL."""
    teacher = TextTeacher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._tell(200, info(made_with=teacher.made_with).model_dump())

        def do_POST(self) -> None:
            self._tell(*teacher.answer(json.loads(self.rfile.read(int(self.headers["content-length"])))))

        def _tell(self, status: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    teacher.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield teacher
    server.shutdown()
    server.server_close()
