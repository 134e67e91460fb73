"""URLs of 64 KB with as many names as fit, none of them known; they need no body."""

import itertools
import string

from tests.abuse.target import PATHS, SERVICES, Effort, Target

SENT = "URLs of 64 KB with 16,000 names in them, to each route with a query and to health"
_NAMES = "&".join("".join(each) for each in itertools.product(string.ascii_letters, repeat=3))[:64_000]


def attack(target: Target, effort: Effort) -> str:
    """Each is refused within 0.5 s of CPU, and health answers."""
    cpu_s, health_s = 0.0, 0.0
    for service in SERVICES:
        processes = [target.replica(service), *target.processes("ProxyActor")]
        with target.client() as http, target.health_asked(service) as took:
            for path in (PATHS[service], f"/{service}/v1/jobs", f"/{service}/healthz"):
                for times in range(10 if effort.long else 2):
                    before = sum(sum(process.cpu_times()[:2]) for process in processes)
                    answer = http.request("GET" if "health" in path else "POST", f"{path}?{_NAMES}")
                    used = sum(sum(process.cpu_times()[:2]) for process in processes) - before
                    assert answer.status_code == 414, (path, times, answer.text[:300])
                    assert used < 0.5, (path, times, used)
                    cpu_s = max(cpu_s, used)
        assert max(took) < effort.health_s, (service, max(took))
        health_s = max(health_s, *took)
    return f"414; {cpu_s:.2f} s of CPU, health within {health_s:.2f} s"
