"""Bodies of 10 MiB that are no requests, and should cost less than one."""

from tests.abuse.target import MIB, PATHS, SERVICES, Effort, Target

SENT = (
    "bodies of 10 MiB: numbers, objects, lists, levels, keys, one long key, one long name, escapes, no JSON, "
    "no Arrow"
)
FIELDS = {"teacher": "sequences", "rollout": "prompts", "verifier": "responses"}
#: Around a name that is none of those which may stand there.
_NAMED = {
    "teacher": (b'{"sequences":[],"hidden_dtype":"', b'"}'),
    "rollout": (b'{"prompts":[{"messages":[{"role":"user","content":"a"}],"', b'":1}],"sampling":{}}'),
    "verifier": (b'{"prompt":"a","responses":[{"response":"a"}],"task":"', b'"}'),
}
_ARROW = "application/vnd.apache.arrow.stream"


def bombs(service: str) -> dict[str, bytes]:
    """Bodies of 10 MiB that ask for nothing that could be done."""
    field = FIELDS[service].encode()
    open_ = b'{"' + field + b'":['
    return {
        "numbers": open_ + b"1," * (5 * MIB) + b"1]}",
        "objects": open_ + b"{}," * (10 * MIB // 3) + b"{}]}",
        "lists": open_ + b"[]," * (10 * MIB // 3) + b"[]]}",
        "levels": b"[" * (10 * MIB),
        "keys": b"{" + b'"a":1,' * (10 * MIB // 6) + b'"b":1}',
        "long key": b'{"' + b"x" * (10 * MIB) + b'":1}',
        "long name": _NAMED[service][0] + b"x" * (10 * MIB) + _NAMED[service][1],
        "text": b'{"' + field + b'":"' + b"\\n" * (5 * MIB) + b'"}',
        "no JSON": b"\xff" * (10 * MIB),
        "no Arrow": b"\xff" * (10 * MIB),
    }


def attack(target: Target, effort: Effort) -> str:
    """Each is refused in few words, within 2 s of CPU and 5 times its size in memory."""
    cpu_s, factor, health_s, words = 0.0, 0.0, 0.0, 0
    for service in SERVICES:
        process = target.replica(service)
        with target.client() as http:
            http.post(PATHS[service], content=b" " * (10 * MIB))  # so that buffers have their size
            for name, body in bombs(service).items():
                before, times = process.memory_info().rss, process.cpu_times()
                headers = {"Content-Type": _ARROW} if name == "no Arrow" else {}
                with target.health_asked(service) as took:
                    answer = http.post(PATHS[service], content=body, headers=headers)
                now = process.cpu_times()
                assert answer.status_code in (400, 404, 413, 422), (service, name, answer.text[:300])
                used = now.user + now.system - times.user - times.system
                grown = (process.memory_info().rss - before) / len(body)
                assert used < 2.0, (service, name, used)
                assert grown < 5.0, (service, name, grown)
                assert max(took) < effort.health_s, (service, name)
                cpu_s, factor, health_s = max(cpu_s, used), max(factor, grown), max(health_s, *took)
                words = max(words, len(answer.content))
    assert words < 5_000
    return (
        f"refused in {words} bytes at most; {cpu_s:.2f} s of CPU, {factor:.1f} times the body in memory, "
        f"health within {health_s:.2f} s"
    )
