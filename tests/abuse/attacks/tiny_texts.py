"""Jobs of tiny texts and chats, no two alike, of which the last one is wrong: too long, or no token id."""

from typing import Any

import orjson

from tests.abuse.target import MIB, PATHS, Effort, Target

SENT = "jobs of 32,768 rows with texts or chats of a few letters, refused for the last one"
_ROWS = 32_768
_CPU_S = 10.0
"""For 10 MiB of rows that are all tokenized: a tokenizer takes 3 to 7 microseconds for a few letters, and a
template some 15 for a chat, of rows of 20 to 70 bytes.
"""
_LOOKED_AT_S = 2.0
"""Where ids, which are looked at before, say that nothing need be."""
_LONG = "a " * 3000
"""Has more tokens than the models take, and not so many more that its beginning shows it."""


def jobs() -> list[tuple[str, str, dict[str, Any], float]]:
    """Service, what its last row has at fault, the body, and CPU seconds for 10 MiB."""
    texts = [{"prompt": f"a{place:x}"} for place in range(_ROWS - 1)]
    chats = [{"messages": [{"role": "user", "content": f"{place:x}"}]} for place in range(_ROWS - 1)]
    found = list[tuple[str, str, dict[str, Any], float]]()
    for rows in (texts, chats):
        for last, fault, most in (
            ({"prompt": _LONG}, "prompt", _CPU_S),
            ({"prompt_token_ids": [-1]}, "prompt_token_ids", _LOOKED_AT_S),
        ):
            sequences = [row | {"response": f"b{place:x}"} for place, row in enumerate([*rows, last])]
            found.append(("teacher", fault, {"sequences": sequences}, most))
            prompts = {"prompts": [*rows, last], "sampling": {"group_size": 1, "max_tokens": 1}}
            found.append(("rollout", fault, prompts, most))
    return found


def attack(target: Target, effort: Effort) -> str:
    """Each is refused within so much CPU."""
    cpu_s, health_s = {_CPU_S: 0.0, _LOOKED_AT_S: 0.0}, 0.0
    for service, fault, asked, most in jobs():
        process, body = target.replica(service), orjson.dumps(asked)
        with target.client() as http, target.health_asked(service) as took:
            times = process.cpu_times()
            answer = http.post(PATHS[service].rpartition("/")[0] + "/jobs", content=body)
            now = process.cpu_times()
        assert answer.status_code == 422, (service, answer.text[:300])
        assert f"[{_ROWS - 1}].{fault}" in answer.text, (service, answer.text[:300])
        used = (now.user + now.system - times.user - times.system) * 10 * MIB / len(body)
        assert used < most or not effort.long, (
            service,
            fault,
            used,
        )  # alone on the machine, else it takes longer
        assert max(took) < effort.health_s, (service, max(took))
        cpu_s[most], health_s = max(cpu_s[most], used), max(health_s, *took)
    return (
        f"refused; {cpu_s[_CPU_S]:.2f} s of CPU for 10 MiB where the last text is too long, "
        f"{cpu_s[_LOOKED_AT_S]:.2f} s where it is a wrong id; health within {health_s:.2f} s"
    )
