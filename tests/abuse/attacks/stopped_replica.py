"""SIGSTOP of a replica, as a machine that swaps or a hypervisor that moves it does."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

from tests.abuse.target import PATHS, SERVICES, SMALL, Effort, Target

SENT = "SIGSTOP of each replica (20 s, in short 3 s) with a request under way"


def attack(target: Target, effort: Effort) -> str:
    """The others are served meanwhile; then the request is answered, by the same process."""
    seconds = 20.0 if effort.long else 3.0
    worst = 0.0
    for service in SERVICES:
        target.expected(service)
        process = target.replica(service)
        others = [other for other in SERVICES if other != service]
        process.send_signal(signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(1) as thread, target.client() as http, target.client() as waiting:
                asked = thread.submit(waiting.post, PATHS[service], json=SMALL[service])
                with target.health_asked(*others) as took:
                    for other in others:
                        assert target.is_right(other, http.post(PATHS[other], json=SMALL[other])), other
                    time.sleep(seconds)
                assert not asked.done(), asked.result().text
                process.send_signal(signal.SIGCONT)
                assert target.is_right(service, asked.result()), asked.result().text
        finally:
            process.send_signal(signal.SIGCONT)
        assert target.replica(service).pid == process.pid
        worst = max(worst, *took)
    assert worst < effort.health_s
    return f"answered right when they went on; the others' health within {worst:.2f} s"
