"""Addresses of services: what is none, or has a route already, is refused before anything is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlad_core.config import ConfigError, load
from rlad_core.sections.addresses import address_of, endpoint_address_of


@pytest.mark.parametrize(
    "url",
    [
        "http://teacher:8000",
        "http://teacher:8000/",
        "https://host/teacher",
        "https://host/teachers/v10",
        "http://[fd00::5]:8000",
        "https://host/health-teacher",
    ],
)
def test_an_address_is_taken_as_it_is(url: str) -> None:
    assert address_of(url) == url


@pytest.mark.parametrize(
    "url", ["", "localhost:9999", "teacher", "ftp://host", "http://", "http://h:x", "http://[::"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    for check in (address_of, endpoint_address_of):
        with pytest.raises(ValueError, match=r"is no address\. Write http://HOST:PORT"):
            check(url)


@pytest.mark.parametrize(
    ("url", "route", "before"),
    [
        ("http://teacher:8000/v1/score", "/v1/score", "http://teacher:8000"),
        ("http://teacher:8000/v1", "/v1", "http://teacher:8000"),
        ("http://teacher:8000/v1/", "/v1/", "http://teacher:8000"),
        ("https://host/teacher/v1/completions", "/v1/completions", "https://host/teacher"),
        ("http://vllm:8000/inference/v1/generate", "/inference/v1/generate", "http://vllm:8000"),
        ("http://teacher:8000/docs", "/docs", "http://teacher:8000"),
        ("http://teacher:8000/healthz", "/healthz", "http://teacher:8000"),
    ],
)
def test_a_route_is_named_with_what_to_write(url: str, route: str, before: str) -> None:
    with pytest.raises(ValueError) as caught:
        address_of(url)
    assert f"ends in a route ({route}), " in str(caught.value)
    assert str(caught.value).endswith(f"Write {before}")


def test_an_endpoint_may_end_in_v1() -> None:
    assert endpoint_address_of("https://host/v1") == "https://host/v1"
    with pytest.raises(ValueError, match=r"\(/chat/completions\), .* Write https://host/v1$"):
        endpoint_address_of("https://host/v1/chat/completions")


@pytest.mark.parametrize("kind", ["kind: http", "kind: openai, model: m"])
def test_a_teacher_s_url_has_no_route(kind: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Path("kk-tiny-trrd"), [f"teacher={{{kind}, url: 'http://teacher:8000/v1/score'}}"])
    assert "teacher.url ('http://teacher:8000/v1/score'): ends in a route (/v1/score)" in str(caught.value)
    assert "Write http://teacher:8000." in str(caught.value)
