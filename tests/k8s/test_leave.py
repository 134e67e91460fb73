"""What a pod waits for before it goes; on a real cluster: test_on_ray.py."""

from types import SimpleNamespace

import pytest

from services.run import leave

RUN = [("RolloutEngine", False), ("JobSupervisor", True)]
REPLICAS = [("ServeReplica:teacher:TeacherService", True)]
PROXY = [("ProxyActor", True)]
OTHERS = [("ServeController", True), ("AutoscalingRequester", True)]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        # Serve takes the proxy of a drained node away, once it has no request any more.
        ("drain", [*RUN, *REPLICAS, *PROXY]),
        # Elsewhere proxies stay for as long as the cluster: nobody would ever leave.
        ("stop", [*RUN, *REPLICAS]),
        ("wait", [*RUN, *REPLICAS]),
    ],
)
def test_who_is_waited_for(
    how: str, expected: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = [
        SimpleNamespace(class_name=name, is_detached=detached)
        for name, detached in (*RUN, *REPLICAS, *PROXY, *OTHERS)
    ]
    monkeypatch.setattr(leave, "list_actors", lambda **_: alive)
    assert leave.at_work("node", how) == [name for name, _ in expected]
