"""What `rlad score` writes as lines of JSON."""

import json
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from services.score.asking import SCORES
from services.score.parts import Parts, stamp_of
from services.score.writing import write


def none_of(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON (RFC 8259, 6)")


def test_lines_are_json_whatever_numbers_a_file_holds(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a", "response": "b", "number": float("nan"), "more": {"list": [1.5, float("inf")]}},
        {"prompt": "ä", "response": "b", "number": 0.5, "more": {"list": [-float("inf")]}},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    out = tmp_path / "out.jsonl"
    (tmp_path / ".out.jsonl.1a2b3c4d.unfinished").write_text("of one that was killed")
    parts = Parts(out, stamp_of(str(tmp_path / "in.parquet")))
    parts.keep(0, pa.Table.from_pylist([{"teacher_logprobs": [-0.5]}, {"teacher_logprobs": [-1.0]}], SCORES))
    write(str(tmp_path / "in.parquet"), None, parts, 1, out, {"teacher_logprobs": "teacher_logprobs"})
    assert not list(tmp_path.glob("*.unfinished"))
    first, second = (json.loads(line, parse_constant=none_of) for line in out.read_text("utf-8").splitlines())
    assert first == {**rows[0], "number": None, "more": {"list": [1.5, None]}, "teacher_logprobs": [-0.5]}
    assert second == {**rows[1], "more": {"list": [None]}, "teacher_logprobs": [-1.0]}
