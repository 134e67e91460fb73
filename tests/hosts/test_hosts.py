"""Runs over three hosts, with a cable cut and a host replaced; and the hosts themselves."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.namespaces import ROOT, Switch, UnavailableError, switch
from tests.hosts.ray_nodes import RayHosts, ray_hosts
from tests.hosts.runs import Event, Left, carry_out, cut, of_a_user, replaced

STUBS = ROOT / "tests" / "chaos" / "stubs"
STEPS = 4
AFTER = 2
"""Steps; the checkpoint of the first is whole then."""
TINY = (
    *("stages.0.steps=2", "rollout.prompts_per_step=4", "rollout.group_size=4", "task.train.count=40"),
    *("task.evaluation.count=8", "learner.warmup_steps=0", "learner.checkpoint_every=1", "learner.threads=1"),
)


@pytest.fixture(scope="module")
def of_namespaces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Switch]:
    try:
        with switch(tmp_path_factory.mktemp("shared")) as made:
            yield made
    except UnavailableError as error:
        pytest.skip(str(error))


def test_a_host_shares_nothing_but_the_folder(of_namespaces: Switch) -> None:
    here, there = of_namespaces.host(), of_namespaces.host()
    environment = dict(os.environ)
    shared = of_namespaces.shared
    here.run("sh", "-c", f"echo a > {shared}/a; touch /tmp/b /dev/shm/c; hostname", environment=environment)
    assert there.run("cat", f"{shared}/a", environment=environment) == "a\n"
    assert "b" not in there.run("ls", "/tmp", environment=environment).split()
    assert there.run("ls", "/dev/shm", environment=environment) == ""
    names = [host.run("hostname", environment=environment).strip() for host in (here, there)]
    assert names == [here.name, there.name]
    assert len({here.address, there.address}) == 2


def test_a_cable_joins_hosts_until_it_is_cut(of_namespaces: Switch, tmp_path: Path) -> None:
    server, client = of_namespaces.host(), of_namespaces.host()
    environment = dict(os.environ)
    serves = [sys.executable, "-m", "http.server", "8000"]
    asks = f"""
import time, urllib.request
until = time.monotonic() + {{limit}}
while True:
    try:
        urllib.request.urlopen("http://{server.name}:8000", timeout=5).close()
        print("answered")
        break
    except OSError as error:
        if time.monotonic() > until:
            print("nobody answers")
            break
        time.sleep(0.2)
"""

    def answer(limit_s: float) -> str:
        program = asks.format(limit=limit_s)
        return client.run(sys.executable, "-c", program, environment=environment).strip()

    process = server.start(*serves, environment=environment, log=tmp_path / "served")
    assert answer(60) == "answered"
    of_namespaces.unplug(server)
    assert answer(0) == "nobody answers"
    of_namespaces.plug(server)
    assert answer(60) == "answered"
    of_namespaces.remove(server)
    assert process.wait(60) != 0
    assert answer(0) == "nobody answers"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHosts]:
    """With stub engines, whose answers depend on weights, seed and visit alone."""
    yield from _cluster(tmp_path_factory, STUBS)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_goes_over_three_hosts(cluster: RayHosts) -> None:
    """Its reward and its data are files of the head alone."""
    left = carry_out(cluster, of_a_user(cluster, "short", 2), "short")
    assert [visit[:2] for visit in left.ledger] == [(n // 4, n) for n in range(8)]  # step, position


@pytest.fixture(scope="module")
def quiet(cluster: RayHosts) -> Left:
    """What a run leaves to which nothing happens."""
    return carry_out(cluster, of_a_user(cluster, "quiet", STEPS), "quiet")


EVENTS = {
    "learning-cut": cut("learning"),
    "serving-cut": cut("serving"),
    "learning-replaced": replaced("learning"),
    "serving-replaced": replaced("serving"),
}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", EVENTS)
def test_a_run_goes_on_and_leaves_what_a_quiet_one_does(name: str, cluster: RayHosts, quiet: Left) -> None:
    recipe = of_a_user(cluster, name, STEPS)
    left = carry_out(cluster, recipe, name, ("learner.max_failures=3",), [Event(AFTER, EVENTS[name])])
    assert left.ledger == quiet.ledger
    assert left.weights == quiet.weights


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_tiny_run_goes_through_with_its_own_engines(tmp_path_factory: pytest.TempPathFactory) -> None:
    for cluster in _cluster(tmp_path_factory):
        left = carry_out(cluster, "kk-tiny-trrd", "tiny", TINY)
        assert len(left.ledger) == 8


def _cluster(tmp_path_factory: pytest.TempPathFactory, *stubs: Path) -> Iterator[RayHosts]:
    try:
        with ray_hosts(tmp_path_factory.mktemp("runs"), stubs) as made:
            yield made
    except UnavailableError as error:
        pytest.skip(str(error))
