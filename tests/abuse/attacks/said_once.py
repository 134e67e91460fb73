"""Verifier requests that say one long thing once, for many responses: small, until written out for each."""

import gzip
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import orjson

from tests.abuse.memory import forget_peak, peak
from tests.abuse.target import MIB, PATHS, Effort, Target

SENT = "16 verifier requests at once (in short 4) of 1 KB packed, 63 MiB written out for each response"
_RESPONSES = 63
_FACTOR = 5
_BODIES_MIB = 512


def attack(target: Target, effort: Effort) -> str:
    """Some are judged, the others are refused: what is written out counts with the bodies."""
    asked = {
        "task": "math",
        "gold": {"answer": "5"},
        "opened": "<think>" + "a" * (MIB - 100),
        "responses": [{"response": "5"}] * _RESPONSES,
    }
    body, process = gzip.compress(orjson.dumps(asked)), target.replica("verifier")

    def ask(_: int) -> int:
        with httpx.Client(base_url=target.url, timeout=900.0) as http:
            headers = {"Content-Encoding": "gzip"}
            return http.post(PATHS["verifier"], content=body, headers=headers).status_code

    before, many = process.memory_info().rss, 16 if effort.long else 4
    forget_peak(process)
    with ThreadPoolExecutor(many) as threads, target.health_asked("verifier") as took:
        statuses = Counter(threads.map(ask, range(many)))
    grown = peak(process) - before
    assert set(statuses) <= {200, 429}, statuses
    assert statuses[200], statuses
    assert grown < _FACTOR * _BODIES_MIB * MIB, grown
    assert max(took) < effort.health_s, max(took)
    told = ", ".join(f"{number} times {status}" for status, number in sorted(statuses.items()))
    return f"{told}; memory +{grown / MIB:.0f} MiB, health within {max(took):.2f} s"
