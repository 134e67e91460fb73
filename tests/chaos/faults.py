"""What is done to a run, and to which of its parts: drawn from a seed, before anything starts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

#: Part of the run -> what its process is called; driver and server themselves have no title.
PROCESSES = {
    "driver": "",
    "collector": "ray::ExperienceCollector",
    "journal": "ray::Journal",
    "evaluator": "ray::Evaluator",
    "policy store": "ray::PolicyStore",
    "learner rank": "ray::RayTrainWorker",
    "rollout replica": "rollout:RolloutService",
    "teacher replica": "teacher:TeacherService",
    "verifier replica": "verifier:VerifierService",
    "proxy": "ray::ProxyActor",
    "Serve's controller": "ray::ServeController",
    "raylet": "raylet/raylet",
    "control store": "gcs/gcs_server",
    "teacher elsewhere: its replica": "teacher:TeacherService",
    "teacher elsewhere: its server": "",
}
ELSEWHERE = ("teacher elsewhere: its replica", "teacher elsewhere: its server")
"""Not the run's own processes; a server that has ended is started anew, as a supervisor does it."""
TO_A_PROCESS = ("kill", "stop", "memory")
TO_THE_SURROUNDINGS = {"disk": "the run's disk", "clock": "the run's clock"}
TO_THE_LINE = ("dropped", "slow", "silent")
KINDS = (*TO_A_PROCESS, *TO_THE_SURROUNDINGS, *TO_THE_LINE)
LINE = "line to the teacher"
PARTS = (*PROCESSES, *TO_THE_SURROUNDINGS.values(), LINE)
_WORDS = {
    "kill": "kill -9",
    "stop": "SIGSTOP, 1 to 8 s",
    "memory": "memory refused, 1 to 8 s",
    "disk": "full, 1 to 8 s",
    "clock": "26 h on or back, for 1 to 8 s",
    "dropped": "connections cut, none taken, 1 to 8 s",
    "slow": "0.2 s later, 1 to 8 s",
    "silent": "nothing gets through, 1 to 8 s",
}
_OFTEN = {"kill": 6, "stop": 3, "memory": 2, "disk": 2, "clock": 2, "dropped": 1, "slow": 1, "silent": 1}


@dataclass(frozen=True)
class Fault:
    """kind: what is done. part: one of `PARTS`. step: how many steps are done when its turn comes. delay_s:
    from then, or from the run's last start where ``at_start``. lasts_s: of what passes.
    """

    kind: str
    part: str
    step: int
    at_start: bool
    delay_s: float
    lasts_s: float

    def __str__(self) -> str:
        return f"{self.part}: {_WORDS[self.kind]}"


def drawn(
    count: int, seed: str, steps: int, parts: Sequence[str], kinds: Sequence[str] = KINDS
) -> list[Fault]:
    """So many faults in the order in which they come, the same for the same seed.

    A quarter of them comes while the run starts; the steps of the others are spread over all.
    """
    draw = random.Random(seed)
    possible = [(kind, part) for part in parts for kind in _kinds(part) if kind in kinds]
    # Of each kind as often as `_OFTEN` says, whatever the number of its parts.
    weights = [_OFTEN[kind] / sum(each == kind for each, _ in possible) for kind, _ in possible]
    faults = []
    for kind, part in draw.choices(possible, weights, k=count):
        at_start = draw.random() < 0.25
        faults.append(
            Fault(
                kind=kind,
                part=part,
                step=draw.randrange(steps),
                at_start=at_start,
                delay_s=draw.uniform(0, 20 if at_start else 1),
                lasts_s=draw.uniform(1, 8),
            )
        )
    return sorted(faults, key=lambda fault: fault.step)


def _kinds(part: str) -> Sequence[str]:
    if part in PROCESSES:
        return TO_A_PROCESS
    if part == LINE:
        return TO_THE_LINE
    return [kind for kind, named in TO_THE_SURROUNDINGS.items() if named == part]
