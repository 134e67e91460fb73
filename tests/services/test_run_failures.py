"""A run that fails: told in a sentence, its whole in the folder, and never hidden by what fails after it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import ActorDiedError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import WorkerGroupError
from rlad_command import Said

from rlad_core.config import load
from services.base.failures import plain, said
from services.base.ports import free_port
from services.run import preparing, training
from services.run import run as runs
from services.serve.reachable import check_reachable

SERVE_SAYS = """The deployment failed to start 3 times in a row. Error:
\x1b[36mray::ServeReplica:x-rollout:Rollout.initialize_and_get_metadata()\x1b[39m (pid=1, ip=127.0.0.1)
  File "/x/concurrent/futures/_base.py", line 449, in result
Traceback (most recent call last):
  File "/x/engine.py", line 3, in start
    raise ValueError("inner")
ValueError: inner

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/x/replica.py", line 9, in initialize
RuntimeError: the weights in model.safetensors are broken
Write another folder"""

RUN = ("run", "kk-tiny-teacher-sft", "--set", "task.train.count=20", "--set", "task.evaluation.count=4")


class Unplugged:
    """The run's outermost parts, without a cluster."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, outcome: Callable[[], Any]) -> None:
        monkeypatch.setattr(runs, "cluster", lambda *_, **__: nullcontext())
        monkeypatch.setattr(runs, "announced", lambda _: nullcontext())
        monkeypatch.setattr(training, "carry_out", lambda *_: outcome())


def fails() -> Any:
    raise RuntimeError(SERVE_SAYS)


def test_a_failure_is_a_sentence_and_its_whole_is_in_the_folder(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Unplugged(monkeypatch, fails)
    said = rlad(*RUN)
    assert said.code == 1
    assert said.err.startswith(
        "failed: RuntimeError: the weights in model.safetensors are broken\nWrite another"
    )
    assert "Traceback" not in said.err + said.out
    folder = tmp_path / "runs" / "kk-tiny-teacher-sft"
    assert "ValueError: inner" in (folder / "failure.log").read_text()
    # No step was done: the same command is no second run.
    assert rlad(*RUN).err == said.err


def test_a_failure_that_quotes_half_a_character_is_told_all_the_same(tmp_path: Path) -> None:
    """As in the name of a file that is no UTF-8."""
    told = runs._told(RuntimeError("no such file: \udcff.txt"), tmp_path, None)
    assert str(told).startswith("no such file: \udcff.txt\nThe record up to here is in")
    assert "RuntimeError: no such file: \\udcff.txt" in (tmp_path / "failure.log").read_text("utf-8")


def test_a_report_that_fails_hides_nothing(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_room(_: Path) -> None:
        raise OSError(28, "No space left on device")

    Unplugged(monkeypatch, lambda: ValueError("the gradient is not finite"))
    monkeypatch.setattr(preparing, "write_report", no_room)
    monkeypatch.setattr(Path, "write_text", _but_the_failure(Path.write_text))
    said = rlad(*RUN)
    assert said.code == 1
    assert said.err.startswith("failed: the gradient is not finite\n")
    assert "could not be written there: No space left on device" in said.err
    assert "the report cannot be written: [Errno 28] No space left on device" in said.out


def _but_the_failure(write: Callable[..., int]) -> Callable[..., int]:
    def write_text(file: Path, *args: Any, **kwargs: Any) -> int:
        if file.name == "failure.log":
            raise OSError(28, "No space left on device")
        return write(file, *args, **kwargs)

    return write_text


def test_a_cluster_that_cannot_be_had_is_found_before_an_engine(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(runs, "cluster", unreachable)
    said = rlad(*RUN, "--set", "cluster.address=nowhere:1")
    assert said.code == 2
    assert "refused: the Ray cluster at nowhere:1 cannot be joined: nobody there" in said.err


def test_what_a_run_is_carried_out_within_is_told_how_it_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended: list[str] = []

    @contextmanager
    def within(*_: Any, **__: Any) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            ended.append(str(error))
            raise

    monkeypatch.setattr(runs, "cluster", within)
    monkeypatch.setattr(preparing, "leased", within)
    with (
        pytest.raises(RuntimeError, match="no further"),
        preparing.held(tmp_path, print),
        runs._ray(load("kk-tiny-trrd"), print),
    ):
        raise RuntimeError("no further")
    assert ended == ["no further"] * 2


def test_what_is_said_of_texts_with_stacks() -> None:
    assert plain("no stack\n  here") == "no stack\n  here"
    assert plain(SERVE_SAYS).startswith("RuntimeError: the weights")
    assert said(ValueError()) == "ValueError"


def test_an_address_where_nobody_answers_is_told_at_once() -> None:
    port = free_port()
    with pytest.raises(ConnectionError, match=f"^127.0.0.1:{port}: Connection refused. Is the cluster up"):
        check_reachable(f"127.0.0.1:{port}", within_s=0.1)
    for place in ("head", "head:", "http://head:8265", ":6379"):
        with pytest.raises(ConnectionError, match="is not of the form host:port"):
            check_reachable(place)
    with pytest.raises(ConnectionError, match=r"nowhere\.invalid:6379: "):
        check_reachable("ray://nowhere.invalid:6379", within_s=0.1)


def test_who_answers_there_has_to_speak_as_ray_does() -> None:
    dashboard = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    threading.Thread(target=dashboard.serve_forever, daemon=True).start()
    try:
        with pytest.raises(ConnectionError, match=r"no Ray cluster\. .* 8265 is the dashboard's"):
            check_reachable(f"127.0.0.1:{dashboard.server_port}", within_s=2)
    finally:
        dashboard.shutdown()
        dashboard.server_close()


@pytest.mark.slow
def test_a_cluster_is_reachable(ray_cluster: None) -> None:
    check_reachable(ray.get_runtime_context().gcs_address)


def test_of_the_learners_ranks_the_one_that_died_is_told() -> None:
    gone = ActorDiedError(
        ActorDiedErrorContext(
            class_name="RayTrainWorker",
            actor_id=bytes(16),
            pid=28375,
            node_ip_address="10.0.0.7",
            error_message="The actor is dead because its worker process has died. Worker exit type: "
            "SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error code 2.",
        )
    )
    failures: dict[int, Exception] = {
        0: RuntimeError("Connection closed by peer"),
        1: WorkerHealthCheckFailedError("A worker health check failed.\nWorker info: ...", gone),
    }
    assert said(WorkerGroupError("both", failures)) == (
        "learner rank 1: the process (28375 on 10.0.0.7) of RayTrainWorker died: it crashed, or was killed, "
        "by somebody or by the kernel where memory ran out"
    )
    del failures[1]
    assert said(WorkerGroupError("one", failures)) == "learner rank 0: Connection closed by peer"
