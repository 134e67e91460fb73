"""Arrow streams that name far more than they hold: columns, labels, batches."""

import pyarrow as pa

from rlad_core.client.forms import ARROW
from tests.abuse.attacks.arrow_junk import ROUTES
from tests.abuse.memory import forget_peak, peak
from tests.abuse.target import MIB, SERVICES, Effort, Target
from tests.arrow_labels import naming_again

SENT = "Arrow streams: 1,250,000 columns (in short 250,000), 28,000 empty batches, one label 50,000 times"
_CPU_S = 2.0
"""For 10 MiB."""
_FACTOR = 5
_IDS = pa.list_(pa.int32())
_COLUMNS = [("sequence_id", pa.string()), ("prompt_token_ids", _IDS), ("response_token_ids", _IDS)]


def bodies(fingerprint: str, *, long: bool) -> dict[str, bytes]:
    """By what they have many of."""
    labels = {"rlad.schema": "sequences", "rlad.version": "1", "rlad.tokenizer": fingerprint}
    columns = [(str(number), pa.int8()) for number in range(1_250_000 if long else 250_000)]
    usual = pa.schema(_COLUMNS, metadata=labels)
    empty = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in usual], schema=usual)
    return {
        "columns": _stream(pa.schema(columns, metadata=labels), []),
        "batches": _stream(usual, [empty] * 28_000),
        "labels": naming_again(50_000, b"x" * MIB),  # written out, 50 GB
    }


def attack(target: Target, effort: Effort) -> str:
    """Each is refused in few words, before anything is made of it."""
    cpu_s, health_s, factor = 0.0, 0.0, 0.0
    with target.client() as http:
        info = http.get("/teacher/v1/info").raise_for_status().json()
        for what, body in bodies(info["tokenizer_fingerprint"], long=effort.long).items():
            for service in SERVICES:
                process = target.replica(service)
                http.post(ROUTES[service], content=b" " * len(body))  # so that its memory is there
                before, times = process.memory_info().rss, process.cpu_times()
                forget_peak(process)
                with target.health_asked(service) as took:
                    answer = http.post(ROUTES[service], content=body, headers={"Content-Type": ARROW})
                now = process.cpu_times()
                assert (answer.status_code, len(answer.content) < 1000) == (400, True), (service, what)
                used = (now.user + now.system - times.user - times.system) * 10 * MIB / len(body)
                assert used < _CPU_S or not effort.long, (service, what, used)
                assert max(took) < effort.health_s, (service, what, max(took))
                cpu_s, health_s = max(cpu_s, used), max(health_s, *took)
                factor = max(factor, (peak(process) - before) / len(body))
    assert factor < _FACTOR, factor
    return (
        f"refused; {cpu_s:.2f} s of CPU for 10 MiB, {factor:.1f} times the body in memory, "
        f"health within {health_s:.2f} s"
    )


def _stream(of: pa.Schema, batches: list[pa.RecordBatch]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, of) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())
