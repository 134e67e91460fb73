"""docs/interop.md: each request that it shows is sent to the services, as it stands there."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

from pages import page, sections

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PARTS = sections(page("interop.md"))
SERVICES = {"A teacher": "teacher", "Rollouts": "rollout"}


def requests(text: str) -> list[list[str]]:
    """The arguments of each curl in a section; its quotes go over several lines."""
    found = re.findall(r"^    (curl (?:'[^']*'|[^'\n])*)$", text, re.MULTILINE)
    return [shlex.split(command)[1:] for command in found]


def told(arguments: list[str], url: str) -> str:
    sent = [re.sub(r"^localhost:8000", url, argument) for argument in arguments]
    done = subprocess.run(
        ["curl", "-sS", "--fail-with-body", *sent], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, (sent, done.stdout, done.stderr)
    return done.stdout


def test_every_route_of_the_page_is_asked_on_it() -> None:
    asked = {
        (service, argument.removeprefix("localhost:8000"))
        for part, service in SERVICES.items()
        for arguments in requests(PARTS[part])
        for argument in arguments
        if argument.startswith("localhost")
    }
    assert asked == {
        ("teacher", "/v1/models"),
        ("teacher", "/v1/completions"),
        ("rollout", "/v1/models"),
        ("rollout", "/v1/completions"),
        ("rollout", "/v1/chat/completions"),
    }


@pytest.mark.parametrize("part", SERVICES)
def test_the_requests_of_the_page_are_answered(http: httpx.Client, part: str) -> None:
    url = f"{http.base_url}/{SERVICES[part]}"
    for arguments in requests(PARTS[part]):
        answer = told(arguments, url)
        if "-N" not in arguments:
            fields: dict[str, Any] = json.loads(answer)
            assert fields.get("choices") or fields["data"]
            continue
        *events, last = [line for line in answer.splitlines() if line]
        assert last == "data: [DONE]"
        assert json.loads(events[-1].removeprefix("data: "))["usage"]["completion_tokens"] > 0


def test_openais_client_runs_as_the_page_has_it(
    http: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```$", PARTS["Rollouts"], re.MULTILINE | re.DOTALL)
    exec(code.replace("http://localhost:8000", f"{http.base_url}/rollout"), {})
    assert re.search(r"\d+$", capsys.readouterr().out.strip())
