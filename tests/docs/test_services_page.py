"""docs/services.md, README and `rlad serve --help`: each command that serves, and each request, is run.

Engines are dear, so two processes are started every day: one with all services, one with tasks of the
reader's own. A command for one service alone is held to the same settings as that service has among all, and
started by the long tests.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from pages import ROOT, page
from ray.serve.schema import ServeDeploySchema
from rlad_command import Said

from services.base.ports import free_port
from services.cli import serve as cli_serve
from services.cli.service_settings import SERVICES, read_settings

PAGE, README = page("services.md"), (ROOT / "README.md").read_text()
ROUTES = {"/v1/score": "teacher", "/v1/rollouts": "rollout", "/v1/verify": "verifier"}
CLIENTS = {"TeacherClient": "teacher", "RolloutClient": "rollout", "VerifierClient": "verifier"}
#: What the page's command names, and leaves to extending.md to show.
FILES = {
    "my_tasks.py": """
from rlad_core.tasks import Task, Verdict


class Riddles(Task):
    name = "riddles"

    def prompts(self, split, subset, count, seed):
        return []

    def verify(self, response, gold):
        right = gold in response
        return Verdict(float(right), {}, right, "said" if right else "not said")
""",
    "reward.py": """
def score(response, gold, row):
    return float(gold in response)
""",
}


def commands(text: str, program: str) -> list[str]:
    """Lines of a page that call a program: in blocks, where quotes may go over several, and in tables."""
    found = re.findall(rf"`({program} [^`]*)`", text)
    lines = iter(text.splitlines())
    for line in lines:
        if not re.match(rf" {{4,}}{program} ", line):
            continue
        while line.count("'") % 2:
            line += "\n" + next(lines)
        found.append(line.strip())
    return found


def arguments(command: str) -> list[str]:
    return shlex.split(command, comments=True)[1:]


@contextmanager
def started(command: list[str], folder: Path) -> Iterator[tuple[str, str]]:
    """URL of what the command serves, and all that it said until then; stopped as it says."""
    log = folder / "log"
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services", *command, "--port", str(port)],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    try:
        deadline = time.monotonic() + 240
        while "stop it with" not in (said := log.read_text()):
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", said
        number = re.search(r"kill (\d+)", said)
        assert number
        os.kill(int(number[1]), signal.SIGTERM)
        assert process.wait(120) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)


def ask(command: str, url: str) -> httpx.Response:
    """The request that a line with curl sends, there."""
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "-w",
            "\n%{http_code}",
            *(re.sub(r"^localhost:8000", url, a) for a in arguments(command)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return httpx.Response(int(status), content=body.encode())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_services_and_the_requests_of_the_page(tmp_path: Path) -> None:
    assert "rlad serve all" in commands(PAGE, "rlad")
    with started(["serve", "all"], tmp_path) as (url, said):
        asked = commands(PAGE, "curl")
        assert len(asked) >= 4
        for command in asked:
            [(path, service)] = [(p, s) for p, s in ROUTES.items() if p in command]
            if '"score"' in command:  # the next test's
                continue
            answer = ask(command.replace(path, f"/{service}{path}"), url)
            assert answer.status_code == 200, (command, answer.text)
            assert answer.json()["results"]
        shown = [line.strip() for line in said.splitlines() if line.strip().startswith("curl ")]
        assert len(shown) == 3
        for command in shown:
            assert ask(command, url).status_code == 200
        for service in ROUTES.values():
            assert f"{service} is up after" in said
            assert f"{url}/{service}/docs" in said
            assert httpx.get(f"{url}/{service}/docs").status_code == 200
        # What the model reads, without having been told.
        assert httpx.get(f"{url}/rollout/v1/policy").json()["max_model_len"] == 1024
        for client, service in CLIENTS.items():
            snippet = re.search(
                rf"```python\n(from rlad_core.client import {client}\n.*?)```", PAGE, re.DOTALL
            )
            assert snippet, client
            exec(snippet[1].replace("http://localhost:8000", f"{url}/{service}"), {})
        helpers, *programs = re.findall(r"^```python\n(.*?)^```$", page("arrow.md"), re.MULTILINE | re.DOTALL)
        for program, service in zip(programs, ROUTES.values(), strict=True):
            exec(helpers + program.replace("http://localhost:8000", f"{url}/{service}"), {})


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_tasks_of_the_readers_own(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    [command] = [line for line in commands(PAGE, "rlad") if "--task" in line]
    [asked] = [line for line in commands(PAGE, "curl") if '"score"' in line]
    with started(arguments(command), tmp_path) as (url, _):
        assert ask(asked, url).json()["results"][0]["correct"] is True
        assert httpx.get(f"{url}/v1/info").json()["tasks"] == ["knights_knaves", "math", "riddles", "score"]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "command", ["teacher --model rlad:kk-teacher", "rollout --model rlad:kk-student", "verifier"]
)
def test_a_service_alone_as_the_page_starts_it(command: str, tmp_path: Path) -> None:
    service = command.split()[0]
    assert f"rlad serve {command}" in commands(PAGE + README, "rlad")
    with started(["serve", *command.split()], tmp_path) as (url, said):
        shown = [line.strip() for line in said.splitlines() if line.strip().startswith("curl ")]
        assert shown
        [path] = [path for path, name in ROUTES.items() if name == service]
        of_page = [line for line in commands(PAGE, "curl") if path in line and '"score"' not in line]
        for line in [*shown, *of_page]:
            answer = ask(line, url)
            assert answer.status_code == 200, (line, answer.text)
        assert httpx.get(f"{url}/docs").status_code == 200


def test_commands_for_one_service_are_those_that_all_starts(
    rlad: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # each example in a line
    monkeypatch.setattr(cli_serve, "PORT_S", 0.0)
    lines = [line.strip() for line in rlad("serve", "--help").out.splitlines()]
    of_help = [line for line in lines if line.startswith("rlad serve ")]
    assert len(of_help) >= 5
    found = {*commands(README, "rlad"), *commands(PAGE, "rlad"), *of_help}
    # Without the command's bare name, which stands in sentences.
    served = [arguments(command)[1:] for command in found if arguments(command)[:1] == ["serve"]]
    served = [line for line in served if line]
    models = {"teacher": "rlad:kk-teacher", "rollout": "rlad:kk-student", "verifier": None}
    single = {name: read_settings(name, {}, model)[name] for name, model in models.items()}
    everything = read_settings("all", {n: {"model": m} if m else {} for n, m in models.items()})
    assert single == everything
    assert {tuple(line) for line in served} >= {
        ("teacher", "--model", "rlad:kk-teacher"),
        ("rollout", "--model", "rlad:kk-student"),
        ("verifier",),
        ("all",),
    }
    # The others are commands that are understood: each stops at a port that is taken, and not before.
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for line in served:
            kept = (
                [*line[: line.index("--port")], *line[line.index("--port") + 2 :]]
                if "--port" in line
                else line
            )
            said = rlad("serve", *kept, "--port", str(taken.getsockname()[1]))
            assert (said.code, "cannot be had" in said.err) == (2, True), (line, said.err)


def test_the_files_that_the_page_deploys_are_there() -> None:
    deployed = commands(PAGE, "serve")
    assert deployed
    for command in deployed:
        file = ROOT / arguments(command)[1]
        beside = re.findall(r"\b(\w+\.yaml)", command)
        for name in {file.name, *beside}:
            ServeDeploySchema.model_validate(yaml.safe_load((file.parent / name).read_text()))


def test_what_is_printed_for_each_service_is_json() -> None:
    for service in SERVICES.values():
        json.loads(service.try_it[1])
