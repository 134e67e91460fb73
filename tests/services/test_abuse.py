"""The three services under attack, over real HTTP: health answers, and neighbours are served.

The attacks are those of ``python -m tests.abuse``: in short here, all of them at length with ``-m long``.
"""

import importlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from rlad_core import schema
from rlad_core.client.forms import ARROW
from tests.abuse.target import LONGEST_HEALTH_S, PATHS, SMALL, Effort, Target

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Those that leave the services as they were, and take seconds, or one that is back within half a minute.
SHORT = [
    "slow_bodies",
    "slow_readers",
    "json_bombs",
    "query_bomb",
    "endless_heads",
    "tiny_rows",
    "tiny_texts",
    "packed_bodies",
    "huge_counts",
    "arrow_junk",
    "arrow_bombs",
    "said_once",
    "disconnects",
    "stopped_replica",
    "lost_idle_replica",
]
_RNG = np.random.default_rng(0)
LARGE: dict[str, Any] = {
    "sequences": [
        {
            "prompt_token_ids": _RNG.integers(3, 200, 8).tolist(),
            "response_token_ids": _RNG.integers(3, 200, 500).tolist(),
        }
        for _ in range(500)
    ]
}


@pytest.mark.parametrize("name", SHORT)
def test_attack(http: httpx.Client, name: str) -> None:
    attack = importlib.import_module(f"tests.abuse.attacks.{name}").attack
    # Another test has a share of the cores: how soon health answers is measured at length, alone.
    effort = Effort(health_s=LONGEST_HEALTH_S)
    assert attack(Target(str(http.base_url).rstrip("/"), os.getpid()), effort)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_all_attacks_at_length() -> None:
    """The table of docs/services.md comes from here."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-m", "tests.abuse", "--long"], cwd=root, check=False)
    assert done.returncode == 0


def test_no_row_of_a_second_stream_vanishes(http: httpx.Client) -> None:
    fingerprint = http.get("/teacher/v1/info").json()["tokenizer_fingerprint"]
    table = schema.build(
        schema.SEQUENCES,
        {"sequence_id": ["a"], "prompt_token_ids": [[5]], "response_token_ids": [[6]]},
        tokenizer_fingerprint=fingerprint,
    )
    stream = schema.to_ipc(table)
    for service, path in PATHS.items():
        query = "?group_size=1&max_tokens=1" if service == "rollout" else ""
        answer = http.post(path + query, content=stream + stream, headers={"Content-Type": ARROW})
        assert (answer.status_code, "one stream" in answer.json()["detail"]) == (400, True), service


def test_a_small_request_passes_a_large_one(http: httpx.Client) -> None:
    with ThreadPoolExecutor(1) as thread, httpx.Client(base_url=http.base_url, timeout=300) as other:
        large = thread.submit(other.post, PATHS["teacher"], json=LARGE)
        while http.get("/teacher/v1/info").json()["load"]["waiting"] == 0:
            assert not large.done(), large.result().text
        assert http.post(PATHS["teacher"], json=SMALL["teacher"]).status_code == 200
        load = http.get("/teacher/v1/info").json()["load"]
        assert not large.done()
        assert (load["callers_waiting"], load["waiting"] > 0, load["waiting_tokens"] > 0) == (1, True, True)
        assert len(large.result().raise_for_status().json()["results"]) == len(LARGE["sequences"])
    assert http.get("/teacher/v1/info").json()["load"]["waiting"] == 0
