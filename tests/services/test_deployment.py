"""What is waited for while services come up has a limit, which the error names."""

import threading

import pytest
from ray import serve

from services.serve import deployment
from services.serve.deployment import deployed
from services.serve.starting import DeploymentError


def test_serve_s_controller_is_waited_for_within_the_limit_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(serve, "start", lambda **_: over.wait(60))
    monkeypatch.setattr(deployment, "serve_is_up", lambda: False)
    said = r"^waited 0\.2 s for Serve's controller, which starts all services \(cluster\.start_timeout_s\)$"
    with (
        pytest.raises(DeploymentError, match=said),
        deployed({}, timeout_s=0.2, setting="cluster.start_timeout_s"),
    ):
        pytest.fail("it is up")
    over.set()
