"""Jobs of tiny texts and chats, no two alike, of which the last one is wrong: too long, or no token id."""

from typing import Any

import orjson

from tests.abuse.target import MIB, PATHS, Effort, Target

SENT = "jobs of 32,768 rows with texts or chats of a few letters, refused for the last one"
_ROWS = 32_768
_CPU_S = 2.0
"""For 10 MiB: ids are looked at before texts, and texts that may be too long before the others."""
_LONG = "a " * 3000
"""Has more tokens than the models take, and not so many more that its beginning shows it."""


def jobs() -> list[tuple[str, str, dict[str, Any]]]:
    """Service, what its last row has at fault, and the body."""
    texts = [{"prompt": f"a{place:x}"} for place in range(_ROWS - 1)]
    chats = [{"messages": [{"role": "user", "content": f"{place:x}"}]} for place in range(_ROWS - 1)]
    found = list[tuple[str, str, dict[str, Any]]]()
    for rows in (texts, chats):
        for last, fault in (
            ({"prompt": _LONG}, "prompt"),
            ({"prompt_token_ids": [-1]}, "prompt_token_ids"),
        ):
            sequences = [row | {"response": f"b{place:x}"} for place, row in enumerate([*rows, last])]
            found.append(("teacher", fault, {"sequences": sequences}))
            prompts = {"prompts": [*rows, last], "sampling": {"group_size": 1, "max_tokens": 1}}
            found.append(("rollout", fault, prompts))
    return found


def attack(target: Target, effort: Effort) -> str:
    """Each is refused within so much CPU."""
    cpu_s, health_s = {"prompt": 0.0, "prompt_token_ids": 0.0}, 0.0
    for service, fault, asked in jobs():
        process, body = target.replica(service), orjson.dumps(asked)
        with target.client() as http, target.health_asked(service) as took:
            times = process.cpu_times()
            answer = http.post(PATHS[service].rpartition("/")[0] + "/jobs", content=body)
            now = process.cpu_times()
        assert answer.status_code == 422, (service, answer.text[:300])
        assert f"[{_ROWS - 1}].{fault}" in answer.text, (service, answer.text[:300])
        used = (now.user + now.system - times.user - times.system) * 10 * MIB / len(body)
        # Alone on the machine, else it takes longer.
        assert used < _CPU_S or not effort.long, (service, fault, used)
        assert max(took) < effort.health_s, (service, max(took))
        cpu_s[fault], health_s = max(cpu_s[fault], used), max(health_s, *took)
    return (
        f"refused; {cpu_s['prompt']:.2f} s of CPU for 10 MiB where the last text is too long, "
        f"{cpu_s['prompt_token_ids']:.2f} s where it is a wrong id; health within {health_s:.2f} s"
    )
