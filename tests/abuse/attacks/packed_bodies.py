"""Bodies that are small as long as nobody unpacks them."""

import gzip

import pyarrow as pa

from tests.abuse.target import MIB, PATHS, SERVICES, Effort, Target

SENT = "gzip and zstd: 1 GiB in a small body, cut short, packed twice; codings that are unknown"
_GIB = 1024 * MIB


def bodies() -> dict[str, tuple[str, bytes, int]]:
    """By what they are: coding, body, status."""
    # In parts: members and frames one after another are one stream.
    zipped = gzip.compress(bytes(64 * MIB)) * (_GIB // (64 * MIB))
    frames = pa.Codec("zstd", 1).compress(bytes(64 * MIB), asbytes=True) * (_GIB // (64 * MIB))
    small = gzip.compress(b'{"sequences": 1}')
    return {
        "gzip": ("gzip", zipped, 413),
        "zstd": ("zstd", frames, 413),
        "cut": ("gzip", small[:-4], 400),
        "no gzip": ("gzip", b"{}", 400),
        "packed twice": ("gzip, gzip", gzip.compress(small), 415),
        "unknown": ("br", b"{}", 415),
    }


def attack(target: Target, effort: Effort) -> str:
    """Refused at the limit of a body as it is, however much more it would be."""
    worst, cpu_s, grown = 0.0, 0.0, 0
    for service in SERVICES:
        process = target.replica(service)
        with target.client() as http:
            for name, (coding, body, status) in bodies().items():
                before, times = process.memory_info().rss, process.cpu_times()
                with target.health_asked(service) as took:
                    answer = http.post(PATHS[service], content=body, headers={"Content-Encoding": coding})
                now = process.cpu_times()
                assert answer.status_code == status, (service, name, answer.status_code, answer.text[:300])
                used = now.user + now.system - times.user - times.system
                worst, cpu_s = max(worst, *took), max(cpu_s, used)
                grown = max(grown, process.memory_info().rss - before)
    assert worst < effort.health_s, worst
    assert cpu_s < 2.0, cpu_s
    assert grown < 5 * 64 * MIB, grown
    return f"refused; {cpu_s:.2f} s of CPU, {grown / MIB:.0f} MiB at most, health within {worst:.2f} s"
