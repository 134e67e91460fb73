"""Arrow streams that are cut, flipped, concatenated, or have junk between their messages."""

import random
from collections import Counter

from rlad_core import schema
from rlad_core.client.forms import ARROW, JSON
from tests.abuse.target import SERVICES, Effort, Target

SENT = "Arrow streams cut, flipped, doubled, with junk inside (10,000, in short 150)"
ROUTES = {
    "teacher": "/teacher/v1/score",
    "rollout": "/rollout/v1/rollouts?max_tokens=1&group_size=1",
    "verifier": "/verifier/v1/verify",
}


def attack(target: Target, effort: Effort) -> str:
    """Each is refused, or answered with as many rows as it has."""
    chance = random.Random(0)
    statuses: Counter[int] = Counter()
    whole = _streams(target)
    with target.client() as http, target.health_asked(*SERVICES) as took:
        for place in range(10_000 if effort.long else 150):
            service = SERVICES[place % 3]
            body, must_fail = _damaged(whole[service], chance)
            answer = http.post(ROUTES[service], content=body, headers={"Content-Type": ARROW, "Accept": JSON})
            statuses[answer.status_code] += 1
            # A flipped bit may hit padding, or make another table that can be worked on, or another task.
            allowed = (400, 413, 422) if must_fail else (200, 400, 404, 413, 422)
            assert answer.status_code in allowed, (service, answer.status_code, answer.text[:300])
            if answer.status_code == 200:
                assert len(answer.json()["results"]) == schema.from_ipc(body).num_rows
            else:
                assert answer.headers["content-type"] == "application/problem+json"
    assert max(took) < effort.health_s
    told = ", ".join(f"{number} times {status}" for status, number in sorted(statuses.items()))
    return f"{told}; no row vanished, health within {max(took):.2f} s"


def _damaged(whole: bytes, chance: random.Random) -> tuple[bytes, bool]:
    """A body, and whether it may not be taken whatever was hit."""
    place = chance.randrange(1, len(whole) - 1)
    junk = chance.randbytes(chance.randrange(8, 200))
    match chance.randrange(6):
        case 0:
            return whole[:place], False  # the end marker may be missing
        case 1:
            return whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[
                place + 1 :
            ], False
        case 2:
            return whole + whole, True
        case 3:
            return whole + junk, True
        case 4:
            return junk + whole, True
        case _:
            return whole[:place] + junk + whole[place:], False


def _streams(target: Target) -> dict[str, bytes]:
    with target.client() as http:
        fingerprint = http.get("/teacher/v1/info").raise_for_status().json()["tokenizer_fingerprint"]
    sequences = {
        "sequence_id": ["a", "b"],
        "prompt_token_ids": [[5], [6, 7]],
        "response_token_ids": [[8], [9]],
    }
    prompts = {
        "prompt_id": ["a"],
        "task": ["knights_knaves"],
        "subset": ["2_people"],
        "prompt": ["Mia"],
        "prompt_token_ids": [[5, 6]],
        "gold": ["{}"],
    }
    responses = {
        "sequence_id": ["a", "b"],
        "task": ["math"] * 2,
        "response": ["5", "\\boxed{5}"],
        "gold": ['{"answer": "5"}'] * 2,
    }
    return {
        "teacher": schema.to_ipc(
            schema.build(schema.SEQUENCES, sequences, tokenizer_fingerprint=fingerprint)
        ),
        "rollout": schema.to_ipc(schema.build(schema.PROMPTS, prompts, tokenizer_fingerprint=fingerprint)),
        "verifier": schema.to_ipc(
            schema.build(schema.RESPONSES, responses, tokenizer_fingerprint=fingerprint)
        ),
    }
