"""The pages of a service: documentation without the internet and with a token, OpenAPI, metrics."""

import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from served_app import served

from services.serve.http import pages

TOKEN = {"Authorization": "Bearer mine"}
BROWSER = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.delenv("RLAD_API_TOKENS", raising=False)
    monkeypatch.delenv("RLAD_API_TOKENS_FILE", raising=False)
    with served() as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setenv("RLAD_API_TOKENS", "mine")
    with served() as url, httpx.Client(base_url=url) as client:
        yield client


def test_the_page_brings_all_that_it_needs(here: httpx.Client) -> None:
    page = here.get("/docs").raise_for_status()
    assert page.headers["content-type"].startswith("text/html")
    needed = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert "docs/swagger-ui-bundle.js" in needed
    for place in needed:
        if not place.startswith("data:"):
            assert "//" not in place  # nothing of another server
            assert here.get(f"/{place}").raise_for_status().content
    # Unpacked by the client, as by a browser.
    assert here.get("/docs/swagger-ui-bundle.js").text.startswith("/*! For license information")
    assert "SwaggerUIBundle" in here.get("/docs/docs.js").text
    assert here.get("/docs/..%2Fgate.py").status_code == 404
    assert here.get("/docs/gate.py").status_code == 404


@pytest.mark.parametrize("name", pages._ASSETS)
def test_files_are_packed_for_who_says_so_alone(here: httpx.Client, name: str) -> None:
    packed = here.get(f"/docs/{name}", headers={"Accept-Encoding": "br, gzip"})
    with here.stream("GET", f"/docs/{name}", headers={"Accept-Encoding": "identity"}) as plain:
        content = b"".join(plain.iter_raw())
    assert "content-encoding" not in plain.headers
    assert packed.content == content  # unpacked by the client
    assert {told.headers["vary"] for told in (packed, plain)} == {"Accept-Encoding"}


def test_the_document_tells_the_release_and_no_token_where_none_is_wanted(here: httpx.Client) -> None:
    document = here.get("/openapi.json").json()
    assert document["info"]["version"] == version("rlad")
    assert "security" not in document
    assert "securitySchemes" not in document["components"]
    assert document["servers"] == [{"url": "/"}]


def test_the_document_tells_what_is_answered_before_a_route_is_asked(here: httpx.Client) -> None:
    for path, operations in here.get("/openapi.json").json()["paths"].items():
        for operation in operations.values():
            told = operation["responses"]
            refused = {"414", "431", "503"} | (set() if path == "/healthz" else {"401", "403"})
            assert set(told) == {"200"} | refused
            for status in refused:
                assert list(told[status]["content"]) == ["application/problem+json"]


def test_the_document_is_made_once(here: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []

    def counted(*kind: Any) -> bytes:
        made.append(document(*kind))
        return made[-1]

    document = pages._document
    monkeypatch.setattr(pages, "_document", counted)
    told = [here.get("/openapi.json").raise_for_status().content for _ in range(3)]
    assert told == [made[0]] * 3
    assert len(made) == 1
    # Tokens may come later, and the document says so then.
    monkeypatch.setenv("RLAD_API_TOKENS", "mine")
    told = [here.get("/openapi.json", headers=TOKEN).raise_for_status().content for _ in range(3)]
    assert told == [made[1]] * 3
    assert len(made) == 2


def test_with_tokens_the_document_says_so_and_the_page_asks_for_one(guarded: httpx.Client) -> None:
    assert guarded.get("/openapi.json").status_code == 401
    document = guarded.get("/openapi.json", headers=TOKEN).json()
    assert document["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
    assert document["security"] == [{"bearer": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert "security" not in document["paths"]["/v1/score"]["post"]

    asked = guarded.get("/docs", headers=BROWSER)
    assert (asked.status_code, asked.headers["www-authenticate"]) == (401, "Bearer")
    assert asked.headers["content-type"].startswith("text/html")
    assert guarded.get("/docs/docs.js").status_code == 200
    assert guarded.get("/docs").headers["content-type"] == "application/problem+json"
    assert guarded.get("/docs", headers={**BROWSER, **TOKEN}).status_code == 200


def test_metrics_are_prometheus_text_of_this_service(guarded: httpx.Client) -> None:
    assert guarded.get("/metrics").status_code == 401

    def counted() -> dict[str, float]:
        answer = guarded.get("/metrics", headers=TOKEN).raise_for_status()
        assert answer.headers["content-type"].startswith("text/plain")
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}
        assert "process_resident_memory_bytes" in families
        return {
            sample.labels["kind"]: sample.value
            for sample in families["rlad_service_requests"].samples
            if sample.name.endswith("_total") and sample.labels["service"] == "teacher"
        }

    asked = {"sequences": [{"prompt_token_ids": [1], "response_token_ids": [1]}]}
    guarded.post("/v1/score", json=asked, headers=TOKEN).raise_for_status()
    before = counted()
    guarded.post("/v1/score", json=asked, headers=TOKEN).raise_for_status()
    assert counted()["json"] == before["json"] + 1
