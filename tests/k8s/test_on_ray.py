"""What stands in the manifests of the overlay `dev`, carried out on a Ray of this machine.

The RayService's Serve configuration by `serve deploy`, the RayJob's entrypoint by `ray job submit`, and what
a pod does before it goes.

The cluster asks for a token, as on Kubernetes; its ports are free ones on the loopback interface.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import torch
import yaml
from manifests import ROOT, Manifest, the, worker_groups
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlad_core.config import resolve_model
from services.base.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

API_TOKEN = "for-callers"
STEPS = 4
#: A run of the same recipe in seconds.
SHORT = (
    f"stages.0.steps={STEPS}",
    "rollout.prompts_per_step=4",
    "rollout.group_size=4",
    "task.train.count=100",
    "task.evaluation.count=4",
    "learner.updates_per_batch=1",
    "learner.warmup_steps=0",
    "learner.threads=1",
)


@dataclass(frozen=True)
class Head:
    """A head as the operator starts it: where its dashboard is, and what a pod's environment holds."""

    dashboard: str
    environment: dict[str, str]

    def get(self, path: str) -> httpx.Response:
        token = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        return httpx.get(f"{self.dashboard}{path}", headers=token, timeout=30)

    def call(self, *command: str, limit_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=limit_s, check=False
        )


@pytest.fixture(scope="module")
def head(rendered: dict[str, list[Manifest]]) -> Iterator[Head]:
    """One Ray for all tests of this file, with the labels of the workers' groups."""
    gcs, dashboard, client, agent = (free_port() for _ in range(4))
    groups = [*worker_groups(rendered["dev"], "RayService").values()]
    labels = ",".join(f"{key}={value}" for g in groups for key, value in g.group["labels"].items())
    [worker] = worker_groups(rendered["dev"], "RayJob").values()
    cpus = worker.container["resources"]["limits"]["cpu"]  # a run has to do with what its pod has
    # Short, since the paths of Ray's sockets may be no longer than 107 characters.
    with tempfile.TemporaryDirectory(prefix="rlad-", ignore_cleanup_errors=True) as folder:
        tokens = Path(folder) / "tokens"
        tokens.write_text(API_TOKEN + "\n")
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "of-this-cluster",
            "RAY_ADDRESS": f"127.0.0.1:{gcs}",
            "RLAD_API_TOKENS_FILE": str(tokens),
            # How long a stopped job may take: as the head's pod has it.
            "RAY_JOB_STOP_WAIT_TIME_S": _variable(rendered["dev"], "RAY_JOB_STOP_WAIT_TIME_S"),
        }
        start = (
            *("ray", "start", "--head", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1"),
            *(f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"),
            *(f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder}/ray", f"--num-cpus={cpus}"),
            *("--object-store-memory=268435456", f"--labels={labels}"),
        )
        without_address = {key: value for key, value in environment.items() if key != "RAY_ADDRESS"}
        with (Path(folder) / "log").open("w+") as log:
            process = subprocess.Popen(start, env=without_address, stdout=log, stderr=log)
            started = Head(f"http://127.0.0.1:{dashboard}", environment)
            try:
                deadline = time.monotonic() + 400
                while not _answers(started):
                    assert process.poll() is None, Path(log.name).read_text()
                    assert time.monotonic() < deadline, Path(log.name).read_text()
                    time.sleep(0.5)
                yield started
            finally:
                # Not by SIGTERM, after which `ray start` waits half a minute for processes that are gone.
                parts: list[psutil.Process] = []
                with suppress(psutil.NoSuchProcess):  # it did not start
                    parent = psutil.Process(process.pid)
                    parts = [parent, *parent.children(recursive=True)]
                for part in parts:
                    with suppress(psutil.NoSuchProcess):
                        part.kill()
                process.wait(60)


def _variable(objects: list[Manifest], name: str) -> str:
    cluster = the(objects, "RayJob")["spec"]["rayClusterSpec"]
    [container] = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    return next(each["value"] for each in container["env"] if each["name"] == name)


def _answers(head: Head) -> bool:
    try:
        return head.get("/api/serve/applications/").is_success
    except httpx.TransportError:
        return False


def test_the_serve_configuration_is_deployed_and_scores(
    head: Head, rendered: dict[str, list[Manifest]], tmp_path: Path
) -> None:
    config = yaml.safe_load(the(rendered["dev"], "RayService")["spec"]["serveConfigV2"])
    # The only differences from the manifest: nothing leaves this machine, and nobody is in the way.
    config["http_options"] |= {"host": "127.0.0.1", "port": free_port()}
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    done = head.call("serve", "deploy", str(file), "--address", head.dashboard)
    assert done.returncode == 0, done.stdout + done.stderr
    url = f"http://127.0.0.1:{config['http_options']['port']}"
    try:
        _wait_until_ready(head, f"{url}/readyz")
        body = {"sequences": [{"id": "a", "prompt_token_ids": [5, 6], "response_token_ids": [7, 8, 9]}]}
        assert httpx.post(f"{url}/v1/score", json=body, timeout=60).status_code == 401
        allowed = {"Authorization": f"Bearer {API_TOKEN}"}
        answer = httpx.post(f"{url}/v1/score", json=body, headers=allowed, timeout=60).raise_for_status()
        [result] = answer.json()["results"]
        model = AutoModelForCausalLM.from_pretrained(resolve_model("rlad:kk-teacher"), dtype=torch.float32)
        tokens = len(AutoTokenizer.from_pretrained(resolve_model("rlad:kk-teacher")))
        with torch.inference_mode():
            rows = model(torch.tensor([[5, 6, 7, 8, 9]])).logits[0, :, :tokens].log_softmax(-1)
        expected = [float(rows[place, token]) for place, token in ((1, 7), (2, 8), (3, 9))]
        np.testing.assert_allclose(result["logprobs"], expected, atol=1e-4)
    finally:
        assert head.call("serve", "shutdown", "--yes", "--address", head.dashboard).returncode == 0


def _wait_until_ready(head: Head, url: str) -> None:
    deadline = time.monotonic() + 240
    while True:
        try:
            if httpx.get(url, timeout=10).is_success:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            status = head.call("serve", "status", "--address", head.dashboard)
            pytest.fail(f"waited 240 s for {url}: {status.stdout}{status.stderr}")
        time.sleep(0.5)


@pytest.mark.long
def test_the_entrypoint_runs_to_its_end_and_survives_its_head(
    head: Head, rendered: dict[str, list[Manifest]], tmp_path: Path
) -> None:
    """Its teacher's replica dies, and the run goes on; stopped as a pod is that goes, with a checkpoint, and
    started again by the same words, it goes on too.
    """
    entrypoint = the(rendered["dev"], "RayJob")["spec"]["entrypoint"]
    words = [*shlex.split(entrypoint), "--set", f"output.dir={tmp_path}"]
    words += [word for override in SHORT for word in ("--set", override)]
    run_dir = tmp_path / "kk-tiny-trrd"

    def submit(job: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = ("ray", "job", "submit", "--address", head.dashboard, "--submission-id", job, *options)
        return head.call(*command, "--", *words, limit_s=600)

    def wait_for_steps(count: int) -> None:
        deadline = time.monotonic() + 600
        while len(_steps(run_dir)) < count:
            job = head.get("/api/jobs/first").json()
            assert job["status"] in ("PENDING", "RUNNING"), head.get("/api/jobs/first/logs").json()["logs"]
            assert time.monotonic() < deadline, f"waited 600 s for {count} steps"
            time.sleep(0.2)

    assert submit("first", "--no-wait").returncode == 0
    wait_for_steps(1)
    os.kill(_replica(head, "kk-tiny-trrd-teacher"), signal.SIGKILL)
    wait_for_steps(2)
    left = head.call(sys.executable, "-m", "services.run.leave", "stop", "--within", "200", limit_s=300)
    assert left.returncode == 0, left.stderr
    # Not "stopped", which is complete to KubeRay: it makes another attempt of what failed.
    job = head.get("/api/jobs/first").json()
    assert (job["status"], job["driver_exit_code"]) == ("FAILED", 1), job
    assert list(run_dir.glob("checkpoint_*"))
    before = _steps(run_dir)
    assert 2 <= len(before) < STEPS

    done = submit("second")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert _steps(run_dir) == [*range(STEPS)]
    assert (run_dir / "report.html").exists()
    assert (run_dir / "export" / "config.json").exists()


def _replica(head: Head, application: str) -> int:
    """The process of an application's only replica."""
    deployments = head.get("/api/serve/applications/").json()["applications"][application]["deployments"]
    [replica] = [each for deployment in deployments.values() for each in deployment["replicas"]]
    return int(replica["pid"])


def _steps(run_dir: Path) -> list[int]:
    file = run_dir / "metrics.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.long
def test_a_pod_that_goes_gives_its_replica_away() -> None:
    """A second node has the only replica and a proxy; drained, it is empty, and the head answers instead."""
    ports = (str(free_port()) for _ in range(4))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("drained_node.py")), *ports],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
