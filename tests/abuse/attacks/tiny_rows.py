"""Jobs of as many rows as one may have, which hold next to nothing and of which the last one is wrong."""

from typing import Any

import orjson

from tests.abuse.memory import forget_peak, peak
from tests.abuse.target import MIB, PATHS, SERVICES, Effort, Target

SENT = "jobs of 262,144 and 1,048,576 tiny rows, refused for the last one"
_ROWS = {"teacher": 262_144, "rollout": 262_144, "verifier": 1_048_576}
_FACTORS = {"teacher": 5, "rollout": 5, "verifier": 7}
"""Of the body in memory. The verifier's rows are of 16 bytes, and become four columns of some 30 together."""
_NO_TOKEN = 2**31 - 1
_WARM = 20_000


def jobs(rows: int) -> dict[str, bytes]:
    """The largest of the smallest, by service."""
    sequence = {"prompt_token_ids": [5], "response_token_ids": [6]}
    task = {"task": "math", "gold": "1"}
    return {
        "teacher": _body("sequences", sequence, sequence | {"response_token_ids": [_NO_TOKEN]}, rows),
        "rollout": _body(
            "prompts",
            {"prompt_token_ids": [5]},
            {"prompt_token_ids": [_NO_TOKEN]},
            rows,
            sampling={"group_size": 1, "max_tokens": 1},
        ),
        "verifier": _body("responses", {"response": ""}, {"response": "", "task": "nobody's"}, rows, **task),
    }


def attack(target: Target, effort: Effort) -> str:
    """Each is refused within 2 s of CPU for 10 MiB, and takes a bounded number of times its size in memory
    beside what as many blanks take, of which nothing is read.
    """
    cpu_s, blank, health_s = 0.0, 0.0, 0.0
    factors = dict[str, float]()
    for service in SERVICES:
        process, rows = target.replica(service), _ROWS[service]
        path, body = PATHS[service].rpartition("/")[0] + "/jobs", jobs(rows)[service]
        with target.client() as http:
            http.post(path, content=jobs(_WARM)[service])  # so that what is made once is there
            before = process.memory_info().rss
            forget_peak(process)
            http.post(path, content=b" " * len(body))
            blanks = (peak(process) - before) / len(body)
            times = process.cpu_times()
            with target.health_asked(service) as took:
                answer = http.post(path, content=body)
            now = process.cpu_times()
        assert answer.status_code in (404, 422), (service, answer.text[:300])
        assert str(rows - 1) in answer.text, (service, answer.text[:300])
        used = (now.user + now.system - times.user - times.system) * 10 * MIB / len(body)
        factors[service] = (peak(process) - before) / len(body) - blanks
        assert used < 2.0 or not effort.long, (service, used)  # alone on the machine, else it takes longer
        assert factors[service] < _FACTORS[service], (service, factors, blanks)
        assert max(took) < effort.health_s, (service, max(took))
        cpu_s, blank, health_s = max(cpu_s, used), max(blank, blanks), max(health_s, *took)
    told = ", ".join(f"{factor:.1f} ({service})" for service, factor in factors.items())
    return (
        f"refused; {cpu_s:.2f} s of CPU for 10 MiB; in memory {told} times the body beside the "
        f"{blank:.1f} that blanks take; health within {health_s:.2f} s"
    )


def _body(field: str, row: dict[str, Any], last: dict[str, Any], rows: int, **beside: Any) -> bytes:
    listed = b",".join([*([orjson.dumps(row)] * (rows - 1)), orjson.dumps(last)])
    return orjson.dumps({**beside, field: orjson.Fragment(b"[" + listed + b"]")})
