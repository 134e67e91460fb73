"""The command ``rlad``: what it says, and its exit codes 0, 1 (failed) and 2 (wrong usage or recipe)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
from certificates import make_certificate
from rlad_command import Said

from rlad_core.tasks import shipped
from services.cli import app as cli
from services.cli.serve import _port_fault
from services.cli.service_settings import assigned_to, read_settings
from services.verifier.settings import VerifierArgs

ROOT = Path(__file__).parents[2]


# --- help --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ((), "rlad run kk-tiny-trrd"),
        (("run",), "rlad run runs/short/recipe.yaml --resume"),
        (
            ("run",),
            "1 failed or stopped before the end, 2 refused before an engine was started.",
        ),
        (("plan",), "rlad plan kk-tiny-trrd --set rollout.group_size=16"),
        (("report",), "rlad report runs/kk-tiny-trrd"),
        (("evaluate",), "rlad evaluate runs/kk-tiny-trrd/export --people 2,3,4 --k 4"),
        (("doctor",), "rlad doctor"),
    ],
)
def test_help_has_examples(rlad: Callable[..., Said], command: tuple[str, ...], example: str) -> None:
    said = rlad(*command, "--help")
    assert said.code == 0
    assert "Example" in said.out
    assert example in " ".join(said.out.split())


def test_help_lists_the_commands(rlad: Callable[..., Said]) -> None:
    said = rlad("--help")
    assert all(f" {name} " in said.out for name in ("run", "plan", "report", "evaluate", "doctor"))


def test_the_version_is_that_of_the_installed_package(rlad: Callable[..., Said]) -> None:
    said = rlad("--version")
    assert (said.code, said.out, said.err) == (0, f"rlad {version('rlad')}\n", "")


# --- wrong usage: 2 ----------------------------------------------------------------------------------------


def test_a_current_folder_that_was_removed_is_told(
    rlad: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    said = rlad("plan", "kk-tiny-trrd")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("the current folder is gone")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), ""),
        (("frobnicate",), "No such command 'frobnicate'"),
        (("plan",), "Missing argument"),
        (("plan", "a", "b"), "unexpected extra argument"),
        (("run", "--resum"), "No such option"),
        (("evaluate", "x", "--k", "0"), "--k"),
        (("evaluate", "x", "--people", "two"), "'two' is no list of sizes; write e.g. 2,3"),
    ],
)
def test_wrong_usage(rlad: Callable[..., Said], arguments: tuple[str, ...], says: str) -> None:
    said = rlad(*arguments)
    assert said.code == 2
    assert says in " ".join(said.err.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("teacher",), "no model is named; write --model, for instance --model rlad:kk-teacher"),
        (("verifier", "--model", "m"), "--model: a verifier has no model"),
        (("teacher", "--model", "m", "--set", "model=n"), "--model m and --set model=n name two"),
        (("teacher", "--model", "m", "--set", "engin=vllm"), "engin ('vllm'): no such key. Did you mean"),
        (("teacher", "--model", "m", "--set", "limits.timeout_s=-1"), "limits.timeout_s (-1): must be above"),
        (("teacher", "--model", "m", "--set", "num_gpus=x"), "num_gpus ('x'): is no number. Write one"),
        (("teacher", "--model", "m", "--set", "tensor_parallel_size=2"), "teacher: tensor_parallel_size: 2 "),
        (("teacher", "--model", "m", "--set", "weights.mine=4"), "'mine' is no caller: write an address"),
        (("all", "--model", "m", "--set", "techer.engine=vllm"), "techer: no such service"),
        (("chess",), "'chess' is unknown; write teacher, rollout, verifier or all"),
        (("verifier", "--host", "0.0.0.0"), "set RLAD_API_TOKENS or RLAD_API_TOKENS_FILE"),
        (("verifier", "--behind-proxy", "10.0.0.5,10.0.0.300"), "'10.0.0.300' is no address and no network"),
    ],
)
def test_wrong_settings_of_a_service(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    for name in ("RLAD_API_TOKENS", "RLAD_API_TOKENS_FILE"):
        monkeypatch.delenv(name, raising=False)
    said = rlad("serve", *arguments)
    assert said.code == 2
    assert says in " ".join(said.err.replace("│", " ").split())


def test_tokens_that_cannot_be_read_are_told_before_anything_starts(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RLAD_API_TOKENS_FILE", str(tmp_path / "tokens"))
    said = rlad("serve", "verifier")
    assert said.code == 2
    assert f"RLAD_API_TOKENS_FILE: {tmp_path}/tokens cannot be read" in said.err.replace("\n", "")


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("another/key.pem", "are no certificate and its key in PEM format: KEY_VALUES_MISMATCH"),
        ("cert.pem", "are no certificate and its key in PEM format"),
        ("encrypted/key.pem", "is encrypted; --tls-key takes a key without a passphrase"),
        ("none.pem", "cannot be read; --tls-cert and --tls-key name PEM files"),
    ],
)
def test_https_that_cannot_be_answered_is_refused_at_once(
    rlad: Callable[..., Said], tmp_path: Path, key: str, says: str
) -> None:
    certificate, _ = make_certificate(tmp_path)
    for folder, passphrase in (("another", ""), ("encrypted", "xyzzy")):
        (tmp_path / folder).mkdir()
        make_certificate(tmp_path / folder, passphrase)
    if key.startswith("encrypted"):
        certificate = tmp_path / "encrypted" / "cert.pem"
    said = rlad("serve", "verifier", "--tls-cert", str(certificate), "--tls-key", str(tmp_path / key))
    assert said.code == 2
    assert says in " ".join(said.err.replace("│", " ").split())


@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_unknown_recipe_lists_those_there_are(rlad: Callable[..., Said], command: str) -> None:
    said = rlad(command, "kk-tiny-trdr")
    assert (said.code, said.out) == (2, "")
    assert "there is no such file" in said.err
    assert "kk-tiny-trrd" in said.err


def test_what_the_terminal_s_encoding_has_not_fails_no_command(tmp_path: Path) -> None:
    start = "import sys; from services.cli.main import main; sys.argv[0] = 'rlad'; sys.exit(main())"
    for encoding, said in (("ascii", rb"mine \u2013 \xfc: "), ("latin-1", b"mine \\u2013 \xfc: ")):
        done = subprocess.run(
            [sys.executable, "-c", start, "init", f"{encoding}/mine – ü"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{encoding}/".encode() + said)


def test_a_command_that_is_advised_stands_in_one_line(rlad: Callable[..., Said]) -> None:
    said = rlad("run", "gone.yaml", "--resume")
    assert (said.code, said.out) == (2, "")
    assert said.err.endswith("go on with them: rlad run runs/NAME/recipe.yaml --resume\n")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_folder_in_a_recipe_s_place_is_told_its_recipe(
    rlad: Callable[..., Said], tmp_path: Path, command: str
) -> None:
    assert rlad("init", "mine").code == 0
    said = rlad(command, "mine")
    assert (said.code, said.out) == (2, "")
    assert "the recipe ('mine'): is a folder. Write mine/recipe.yaml." in said.err


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("learner.lrr=1", "learner.lrr (1): no such key. Did you mean lr?"),
        ("learner.lr", "--set ('learner.lr'): is no assignment. Write path=value"),
        ("rollout.top_p=0.9", "rollout.top_p (0.9): no such key. There is evaluation.top_p"),
        ("stages.7.steps=1", "stages is a list of 1"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_bad_override(rlad: Callable[..., Said], command: str, override: str, says: str) -> None:
    said = rlad(command, "kk-tiny-teacher-sft", "--set", override)
    assert (said.code, said.out) == (2, "")
    assert says in said.err


def test_a_recipe_that_is_no_yaml(rlad: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: [")
    said = rlad("plan", "mine.yaml")
    assert said.code == 2
    assert "is no YAML" in said.err


def test_the_exit_code_reaches_the_shell() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services", "plan", "nosuch"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no such file" in done.stderr


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("techer.engine=vllm", "techer: no such service"),
        ("engine=vllm", "write teacher.SETTING=VALUE or rollout.SETTING=VALUE or verifier.SETTING=VALUE"),
        ("teacher=3", "teacher: has settings and no value (3). Write teacher.SETTING=VALUE"),
        ("teacher=", "teacher: has settings and no value (None)"),
        ("teacher.engin=vllm", "teacher.engin ('vllm'): no such key. Did you mean engine?"),
    ],
)
def test_settings_that_no_service_reads_are_refused(
    rlad: Callable[..., Said], override: str, says: str
) -> None:
    said = rlad("serve", "all", "--model", "m", "--set", override)
    assert (said.code, said.out) == (2, "")
    assert says in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("teacher", "--model", "rlad:nope"), "model (rlad:nope): no such model ships with the project"),
        (("rollout", "--model", "./nofolder"), "model (./nofolder): there is no such folder"),
        (("rollout", "--model", "a/b", "--set", f"seed={2**63}"), f"seed ({2**63}): must be below"),
        (("rollout", "--model", "a/b", "--set", "seed"), "--set seed: is no assignment"),
        (("verifier", "--set", "tasks.math.settings.bx=only"), "tasks: task 'math': "),
        (("verifier", "--set", "tasks.math.settings.box=none"), "tasks: task 'math': "),
        (("all", "--set", "verifier.tasks.math.settings.bx=only"), "tasks: task 'math': "),
    ],
)
def test_what_no_service_could_start_with_is_refused_at_once(
    rlad: Callable[..., Said], arguments: tuple[str, ...], says: str
) -> None:
    said = rlad("serve", *arguments)
    assert said.code == 2
    assert says in said.err


def test_a_shipped_task_s_settings_leave_the_other_tasks_as_they_are() -> None:
    for service, prefix in (("verifier", ""), ("all", "verifier.")):
        settings = assigned_to(service, [f"{prefix}tasks.math.settings.box=only"])
        made = read_settings("verifier", settings.get("verifier", settings))["verifier"]
        assert isinstance(made, VerifierArgs)
        assert made.tasks.keys() == shipped().keys()
        assert made.tasks["math"].settings == {"box": "only"}
    alone = read_settings("verifier", assigned_to("verifier", ["tasks={math: {}}"]))["verifier"]
    assert isinstance(alone, VerifierArgs)
    assert list(alone.tasks) == ["math"]


# --- serve ---------------------------------------------------------------------------------------


def test_a_service_of_a_folder_that_is_no_model_or_a_port_in_use(
    rlad: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    said = rlad("serve", "teacher", "--model", str(tmp_path / "model"))
    assert said.code == 2
    assert "the folder has no tokenizer" in said.err
    assert "the folder has no weights" in said.err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = rlad("serve", "teacher", "--model", "owner/model", "--port", port)
    assert said.code == 2
    assert f"--port: port {port} of 127.0.0.1 cannot be had" in said.err


@pytest.mark.parametrize("variable", ["RLAD_BODY_MEMORY_MIB", "RLAD_ANSWER_TIMEOUT_S"])
def test_a_limit_in_the_environment_that_is_no_number(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    def start(**_: Any) -> None:
        raise AssertionError("it starts")

    monkeypatch.setattr("services.cli.serving.embedded_ray", start)
    monkeypatch.setenv(variable, "abc")
    said = rlad("serve", "verifier")
    assert said.code == 2
    assert said.err == f"{variable}: 'abc' is no positive number\n"
    assert "starting" not in said.out


def test_a_port_that_comes_free_in_a_moment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    # As after a service was killed, whose processes go one after another.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        waits: list[float] = []

        def go_on(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                taken.close()

        monkeypatch.setattr("services.cli.serve.time.sleep", go_on)
        assert _port_fault("127.0.0.1", port) is None
        assert len(waits) == 2


def test_a_place_is_shown_as_it_was_written(rlad: Callable[..., Said]) -> None:
    said = rlad("serve", "verifier", "--task", "nowhere.py:x")
    assert said.code == 2
    assert said.err.startswith("--task nowhere.py:x: ")
    assert "there is no x in json" in rlad("serve", "verifier", "--task", "json:x").err
    assert "teacher judges nothing" in rlad("serve", "teacher", "--task", "json:loads").err


# --- faults ------------------------------------------------------------------------------------------------


def fails_with(error: BaseException) -> Callable[..., Any]:
    def app(*_: Any, **__: Any) -> None:
        raise error

    return app


def test_a_fault_is_told_as_it_is(rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its words look like a console's markup, and longer than a line."""
    monkeypatch.delenv("RLAD_TRACEBACK", raising=False)
    message = f"[/tmp] list[int] [red] {'long ' * 40}end"
    monkeypatch.setattr(cli, "app", fails_with(RuntimeError(message)))
    said = rlad()
    assert said.code == 1
    assert said.err.splitlines()[0] == f"failed: {message}"


def test_a_traceback_where_it_is_asked_for(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLAD_TRACEBACK", "1")
    monkeypatch.setattr(cli, "app", fails_with(RuntimeError("why")))
    with pytest.raises(RuntimeError, match="why"):
        rlad()


@pytest.mark.parametrize("command", [("trace", "NOPE", "3"), ("show", "NOPE"), ("ledger", "NOPE")])
def test_a_run_that_is_not_there(rlad: Callable[..., Said], command: tuple[str, ...]) -> None:
    said = rlad(*command)
    assert said.code == 2
    assert said.err.startswith("there is no folder NOPE. Write the folder of a run")


def test_an_interrupt(rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    for interrupt in (typer.Abort(), KeyboardInterrupt()):
        monkeypatch.setattr(cli, "app", fails_with(interrupt))
        said = rlad()
        assert (said.code, said.err) == (1, "stopped\n")


def test_an_interrupt_of_a_command_that_has_no_word_for_it(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("services.cli.runs.dump", fails_with(KeyboardInterrupt()))
    said = rlad("plan", "kk-tiny-trrd")
    assert (said.code, said.err) == (1, "stopped\n")


def test_an_interrupt_while_the_command_is_imported() -> None:
    program = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "import services.__main__\n"
        "sys.exit(services.__main__.main())"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (1, "stopped\n")
