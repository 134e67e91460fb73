"""docs/arrow.md: its tables are the schemas, and its programs are understood by what reads requests.

They are asked of running services in `test_services_page`.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError

import pyarrow as pa
import pytest
from pages import page

from rlad_core import schema
from rlad_core.client.forms import TeacherLimits
from rlad_core.client.rollout_forms import RolloutLimits
from rlad_core.schema.labels import VERSION
from services.rollout.http import one_each
from services.rollout.http import read_request as read_prompts
from services.serve.http.bodies import Body
from services.teacher.forms import DetailsQuery
from services.teacher.reading import read_request as read_sequences
from services.teacher.scoring.tables import check_sequences

PAGE = page("arrow.md")
HELPERS, *EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MINE = "sha256:mine"
NONE: Any = None
ANY_LENGTH: Any = SimpleNamespace(max_length=64)


def tables() -> dict[str, dict[str, str]]:
    """Of each table the types by column, as the page has them."""
    found: dict[str, dict[str, str]] = {}
    rows = re.findall(r"^\| (?:`(\w+)`)? ?\| [^|]*\| (?:`(\w+)`)? ?\| `?([\w<>]*)`? ?\|", PAGE, re.MULTILINE)
    table = ""
    for name, column, kind in rows:
        table = name or table
        found.setdefault(table, {})
        if column:
            found[table][column] = kind
    return found


def test_the_tables_are_the_schemas() -> None:
    told = tables()
    told["named_sequences"] = told["sequences"] | told["named_sequences"]
    for kind in (schema.SEQUENCES, schema.NAMED_SEQUENCES, schema.PROMPTS, schema.RESPONSES):
        types = {
            field.name: "list<int32>" if pa.types.is_list(field.type) else str(field.type) for field in kind
        }
        assert told.pop(schema.name_of(kind)) == types
    assert not told
    assert f"| `rlad.version` | `{VERSION}` |" in PAGE


class Services(BaseHTTPRequestHandler):
    """Reads requests as the three services do, and answers each row with its id."""

    def do_GET(self) -> None:
        self._send(json.dumps({"tokenizer_fingerprint": MINE}).encode())

    def do_POST(self) -> None:
        body = Body(self.rfile.read(int(self.headers["content-length"])), "arrow", "arrow")
        assert self.headers["content-type"] == self.headers["accept"] == "application/vnd.apache.arrow.stream"
        path, _, query = self.path.partition("?")
        try:
            self._send(schema.to_ipc(self._read(path, query, body)))
        except Exception as error:  # noqa: BLE001 - the client's side says what it was
            self.send_error(422, repr(error)[:300].replace("\n", " "))

    def _read(self, path: str, query: str, body: Body) -> pa.Table:
        if path == "/v1/score":
            table = read_sequences(body, DetailsQuery(), NONE, MINE, TeacherLimits()).sequences
            check_sequences(table, vocab_size=100, max_length=64, tokenizer_fingerprint=MINE)
            return table.append_column("teacher_logprobs", table["response_token_ids"])
        if path == "/v1/rollouts":
            asked = {name: [value] for name, value in (each.split("=") for each in query.split("&"))}
            table, sampling = read_prompts(body, one_each(asked), ANY_LENGTH, MINE, RolloutLimits())
            assert (sampling.group_size, schema.fingerprint_of(table)) == (2, MINE)
            return table.append_column("response", table["prompt_id"])
        assert path == "/v1/verify"
        table = schema.from_ipc(body.content)
        schema.validate(table, schema.RESPONSES)
        return table.append_column("reward", table["task"]).append_column("verdict", table["gold"])

    def _send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Services) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_its_programs_send_what_services_read(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(EXAMPLES) == 3
    for example in EXAMPLES:
        exec((HELPERS + example).replace("http://localhost:8000", url), {})
    assert capsys.readouterr().out.splitlines() == [
        "['a', 'b'] [[14, 15], [16]]",
        "['p'] ['p']",
        """['math'] ['{"answer": "5"}']""",
    ]


@pytest.mark.parametrize("label", ["rlad.schema", "rlad.version", "rlad.tokenizer"])
def test_without_a_label_it_is_refused(url: str, label: str) -> None:
    """As the page says."""
    without = f"    del labels['{label}']\n    table = pa.table"
    unlabelled = HELPERS.replace("    table = pa.table", without, 1)
    assert unlabelled != HELPERS
    with pytest.raises(HTTPError, match="422"):
        exec((unlabelled + EXAMPLES[0]).replace("http://localhost:8000", url), {})
