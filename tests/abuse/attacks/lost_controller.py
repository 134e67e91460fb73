"""kill -9 of Serve's controller in the middle of requests."""

import time

from tests.abuse.losing import under_way
from tests.abuse.target import PATHS, SERVICES, SMALL, Effort, Target

SENT = "kill -9 of Serve's controller in the middle of requests"


def attack(target: Target, effort: Effort) -> str:
    """Nobody notices, and the next controller replaces replicas as the first one did."""
    [controller] = target.processes("ServeController")
    with under_way(target, "teacher") as (plain, _), target.health_asked(*SERVICES) as took:
        controller.kill()
        with target.client() as http:
            for service in SERVICES:
                assert target.is_right(service, http.post(PATHS[service], json=SMALL[service])), service
        assert plain.result().status_code == 200
        back_s = target.wait_until(
            lambda: any(p.pid != controller.pid for p in target.processes("ServeController")),
            "there is a controller",
        )
    assert max(took) < effort.health_s, max(took)
    began = time.monotonic()
    target.replica("verifier").kill()
    target.wait_until_right("verifier")
    replaced_s = time.monotonic() - began
    return (
        f"all answered right, health within {max(took):.2f} s; a new one after {back_s:.0f} s, "
        f"which replaced a killed replica within {replaced_s:.0f} s"
    )
