"""New weights in running vLLM engines: the right ones, everywhere, without dropping a request."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import ray
import torch
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import DeploymentUnavailableError
from rollout_service import (
    TOLERANCE,
    StartedRollouts,
    check_held_over,
    difference,
    prompts,
    start_rollouts,
    wait_until,
)

from services.rollout.settings import SamplingSettings
from services.serve.everyone import EveryoneError
from services.weights.policy_store import (
    Publication,
    policy_store,
)
from services.weights.replica_group import ReplicaGroup
from services.weights.store import publish, sync

# The first test to want the engines waits for their start, about 30 s each on an idle core.
pytestmark = pytest.mark.timeout(900)

SAMPLING = SamplingSettings(group_size=2, max_tokens=24, seed=5)

TENSOR_GROUPS = {
    "embedding": "embed_tokens",
    "head": "lm_head",
    "attention": "self_attn",
    "mlp": "mlp.",
    "norms": "norm",
}
VISIBLE = 0.1
"""A change this large in some log-prob cannot be rounding."""


@pytest.fixture(scope="module")
def untied(ray_cluster: None, untied_tiny_model) -> Iterator[StartedRollouts]:
    """One replica of the untied tiny model."""
    with start_rollouts("untied", untied_tiny_model, num_replicas=1) as started:
        yield started


def change(rollouts: StartedRollouts, part: str = "") -> None:
    """Move the parameters whose name contains ``part``."""
    with torch.no_grad():
        for name, parameter in rollouts.policy.named_parameters():
            if part in name:
                parameter.add_(0.05 * torch.randn_like(parameter))


@pytest.mark.slow
@pytest.mark.parametrize("group", ["embedding", "attention", "mlp", "norms"])
def test_every_replica_has_every_changed_tensor_group_tied(rollouts: StartedRollouts, group: str) -> None:
    _check_group(rollouts, group)


@pytest.mark.slow
@pytest.mark.parametrize("group", list(TENSOR_GROUPS))
def test_every_replica_has_every_changed_tensor_group_untied(untied: StartedRollouts, group: str) -> None:
    _check_group(untied, group)


def _check_group(rollouts: StartedRollouts, group: str) -> None:
    before = rollouts.generate(prompts(4), SAMPLING)
    change(rollouts, TENSOR_GROUPS[group])
    assert difference(rollouts.policy, before) > VISIBLE, "the change must be one that shows"
    version = rollouts.publish_and_sync()
    for table in rollouts.generate_everywhere(prompts(4), SAMPLING, version):
        assert difference(rollouts.policy, table) < TOLERANCE
        assert {v for versions in table["policy_versions"].to_pylist() for v in versions} == {version}


@pytest.mark.slow
def test_running_responses_go_on_with_the_new_weights(rollouts: StartedRollouts) -> None:
    """Tokens from before the update have the old policy's log-probs, those after it the new one's."""
    old = rollouts.publish_and_sync()
    old_policy = type(rollouts.policy)(rollouts.policy.config)
    old_policy.load_state_dict(rollouts.policy.state_dict())
    call = rollouts.begin_long()
    change(rollouts)
    new = rollouts.publish_and_sync()
    rows = call.result(timeout_s=120).to_pylist()
    assert len(rows) == 64
    check_held_over(rows, (old, old_policy), (new, rollouts.policy))


@pytest.mark.slow
def test_a_replica_that_missed_the_update_pulls_it_before_it_serves(rollouts: StartedRollouts) -> None:
    change(rollouts)
    version = rollouts.publish().version
    assert all(report["version"] < version for report in rollouts.broadcast("policy_version"))
    for table in rollouts.generate_everywhere(prompts(4), SAMPLING, version):
        assert difference(rollouts.policy, table) < TOLERANCE


@pytest.mark.slow
def test_a_version_nobody_published_is_not_served(rollouts: StartedRollouts) -> None:
    with pytest.raises(
        RuntimeError, match="the request wants 1000000 or newer, and the policy store has none"
    ):
        rollouts.generate(prompts(1), SAMPLING, min_version=1_000_000)


@pytest.mark.slow
def test_a_resumed_run_goes_back_to_an_older_version(rollouts: StartedRollouts) -> None:
    ahead = rollouts.publish_and_sync()
    change(rollouts)
    publication = publish(rollouts.store, ahead - 1, rollouts.policy.state_dict())
    reports = sync(rollouts.handle, ahead - 1, rollouts.num_replicas)
    assert {report["checksum"] for report in reports} == {publication.checksum}
    assert difference(rollouts.policy, rollouts.generate(prompts(4), SAMPLING)) < TOLERANCE


@pytest.mark.slow
def test_pushed_weights_take_the_same_way_through_serve(rollouts: StartedRollouts) -> None:
    """vLLM's three calls of a push, on every replica; only the transport is another one here."""
    change(rollouts)
    publication = rollouts.publish()
    path = _path(rollouts.store, publication)
    replicas = ReplicaGroup(rollouts.handle, rollouts.num_replicas, timeout_s=60)
    replicas.version = publication.version
    replicas.start_weight_update()
    replicas.update_weights({"path": path})
    replicas.finish_weight_update()
    assert [report["version"] for report in replicas.reports] == [publication.version] * rollouts.num_replicas
    for table in rollouts.generate_everywhere(prompts(4), SAMPLING, publication.version):
        assert difference(rollouts.policy, table) < TOLERANCE


@pytest.mark.long
@pytest.mark.slow
def test_replicas_that_died_come_back_with_the_current_version(rollouts: StartedRollouts) -> None:
    change(rollouts)
    version = rollouts.publish_and_sync()
    before = _present(rollouts)
    long = SamplingSettings(group_size=8, max_tokens=220, seed=0)
    with ThreadPoolExecutor(1) as waiting:
        # Work for either replica, wherever Serve sends the calls: on a busy machine it may shun one. A
        # broadcast is sent when its results are asked for.
        everywhere = rollouts.handle.broadcast("generate", prompts(8, prefix="everywhere"), long)
        told = waiting.submit(everywhere.results, timeout_s=120, return_exceptions=True)
        calls = [rollouts.handle.generate.remote(prompts(8, prefix=f"lost{i}"), long) for i in range(4)]
        wait_until(lambda: min(rollouts.broadcast("unfinished")) > 0, "both engines to be at work")
        # One replica loses its engine, of the other one the replica itself is killed.
        first, second = _engine_processes()
        first.kill()
        second.parent().kill()
        assert all(isinstance(answer, Exception) for answer in told.result(timeout=120))
    for call in calls:
        with pytest.raises(ActorDiedError):  # at once, so that callers can ask again
            call.result(timeout_s=60)
    wait_until(lambda: not second.is_running(), "the engine to end with its replica")
    wait_until(lambda: len(_present(rollouts) - before) == 2, "Serve to start two replicas", timeout_s=600)
    for report in rollouts.broadcast("policy_version"):
        assert report["version"] == version
    for table in rollouts.generate_everywhere(prompts(4), SAMPLING):
        assert difference(rollouts.policy, table) < TOLERANCE


@pytest.mark.slow
def test_an_incomplete_version_is_reported_and_never_served(untied: StartedRollouts) -> None:
    incomplete = {k: v for k, v in untied.policy.state_dict().items() if "layers.1.mlp.down_proj" not in k}
    version = next(untied.versions)
    publish(untied.store, version, incomplete)
    with pytest.raises(EveryoneError, match=r"replica \w+ could not load .*model.layers.1.mlp.down_proj"):
        sync(untied.handle, version, untied.num_replicas, timeout_s=60)
    with pytest.raises(RuntimeError, match="unsound weights"):
        untied.generate(prompts(1), SAMPLING)


def _path(store: str, publication: Publication) -> str:
    node = ray.get_runtime_context().get_node_id()
    return ray.get(policy_store(store).path.remote(publication.version, node), timeout=30)


def _engine_processes() -> list[psutil.Process]:
    """Those of the `rollouts` fixture, started by this test session and not by another run on the machine."""
    replicas = [
        process
        for process in psutil.Process().children(recursive=True)
        if "ServeReplica:pair:" in " ".join(process.cmdline())
    ]
    return [child for replica in replicas for child in replica.children() if "EngineCore" in child.name()]


def _present(rollouts: StartedRollouts) -> set[str]:
    try:
        answers = rollouts.handle.broadcast("policy_version").results(timeout_s=60, return_exceptions=True)
    except DeploymentUnavailableError:
        return set()
    return {answer["replica"] for answer in answers if isinstance(answer, dict)}
