"""Small bodies that ask for more than any machine has."""

from typing import Any

from tests.abuse.target import PATHS, SERVICES, Effort, Target

SENT = "counts that are too large: sequences, tokens, top_k, group_size, n, prompts to solve"
_MANY = 20_000
_SEQUENCE = {"prompt_token_ids": [5], "response_token_ids": [6]}
_PROMPT = {"prompt_token_ids": [5]}
_PUZZLE = "A very special island is inhabited only by knights and knaves. You meet 30 inhabitants: {}."


_COMPLETIONS = "/rollout/v1/completions"


def requests() -> dict[str, list[dict[str, Any]]]:
    """By service; those with a `prompt` are completions."""
    huge = 2**31 - 1
    long_text = "word " * 200_000
    return {
        "teacher": [
            {"sequences": [_SEQUENCE] * _MANY},
            {"sequences": [{"prompt_token_ids": [5], "response_token_ids": [6] * 300_000}]},
            {"sequences": [{"prompt": long_text, "response": "a"}]},
            {"sequences": [{"messages": [{"role": "user", "content": long_text}], "response": "a"}]},
            {"sequences": [_SEQUENCE], "top_k": huge},
            {"sequences": [_SEQUENCE], "top_k": 10**30},
        ],
        "rollout": [
            {"prompts": [_PROMPT] * _MANY, "sampling": {"group_size": 1, "max_tokens": 1}},
            {"prompts": [_PROMPT], "sampling": {"group_size": huge, "max_tokens": 1}},
            {"prompts": [_PROMPT], "sampling": {"group_size": 10**30, "max_tokens": 1}},
            {"prompts": [{"prompt": long_text}], "sampling": {"group_size": 1, "max_tokens": 1}},
            {"prompt": [5], "n": 4096, "max_tokens": 1000, "logprobs": 20},
        ],
        "verifier": [
            {"task": "math", "gold": {"answer": "5"}, "responses": [{"response": "5"}] * _MANY},
            {
                "task": "knights_knaves",
                "responses": [{"response": "5", "prompt": _PUZZLE.format(place)} for place in range(2000)],
            },
            {"task": "math", "gold": {"answer": "9" * (2 * 2**20)}, "responses": [{"response": "5"}]},
        ],
    }


def attack(target: Target, effort: Effort) -> str:
    """Each is refused before anything is done for it."""
    cpu_s, health_s, sent = 0.0, 0.0, 0
    for service in SERVICES:
        process = target.replica(service)
        with target.client() as http:
            for body in requests()[service]:
                times = process.cpu_times()
                with target.health_asked(service) as took:
                    answer = http.post(_COMPLETIONS if "prompt" in body else PATHS[service], json=body)
                now = process.cpu_times()
                used = now.user + now.system - times.user - times.system
                shown = str(body)[:200]
                assert answer.status_code in (413, 422), (
                    service,
                    answer.status_code,
                    answer.text[:300],
                    shown,
                )
                assert used < 1.0, (service, used, shown)
                assert max(took) < effort.health_s, (service, shown)
                cpu_s, health_s, sent = max(cpu_s, used), max(health_s, *took), sent + 1
    return f"{sent} kinds, all refused; {cpu_s:.2f} s of CPU at most, health within {health_s:.2f} s"
