"""`rlad score` and what is kept of it: parts that the disk has garbled, names of files that are no UTF-8."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from rlad_command import Said
from text_teacher import TextTeacher, served

from rlad_core.data import Row, rows
from services.score.asking import SCORES
from services.score.parts import Parts, PartsError, stamp_of
from services.score.scoring import ROWS_PER_PART
from services.score.writing import write

Command = Callable[..., Said]


@pytest.fixture
def teacher() -> Iterator[TextTeacher]:
    with served() as teacher:
        yield teacher


def flipped(content: bytes) -> bytes:
    """One bit is another, in the values."""
    return content[:40] + bytes([content[40] ^ 1]) + content[41:]


@pytest.mark.parametrize("garble", [lambda _: b"", lambda content: content[:-9], flipped])
def test_a_garbled_part_is_scored_again(
    rlad: Command, tmp_path: Path, teacher: TextTeacher, garble: Callable[[bytes], bytes]
) -> None:
    responses = ["b"] * (2 * ROWS_PER_PART) + ["long"]
    given = [{"prompt": "a", "response": response} for response in responses]
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    assert rlad("score", "f.jsonl", "--url", teacher.url).code == 1
    first, second = sorted((tmp_path / "f.scored.jsonl.parts").glob("0*.parquet"))
    first.write_bytes(garble(first.read_bytes()))
    second.unlink()
    teacher.asked.clear()
    done = rlad("score", "f.jsonl", "--url", teacher.url, "--skip-refused")
    assert done.code == 0, done.err
    assert sum(map(len, teacher.asked)) == len(responses)
    told = [json.loads(line)["teacher_logprobs"] for line in (tmp_path / "f.scored.jsonl").open()]
    assert told == [[-0.5]] * (2 * ROWS_PER_PART) + [None]


def test_a_part_with_other_rows_is_none(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "out.jsonl", {})
    parts.keep(0, pa.Table.from_pylist([{"teacher_logprobs": [-1.0]}], SCORES))
    parts.keep(1, pa.table({"teacher_logprobs": [[-1.0]]}))
    assert parts.kept(0, 1) is not None
    assert (parts.kept(0, 2), parts.kept(1, 1), parts.kept(2, 1)) == (None, None, None)


@pytest.mark.parametrize("told", [b"", b"{", b"[1]", b"\xff"])
def test_parts_that_say_no_more_what_they_are(tmp_path: Path, told: bytes) -> None:
    out = tmp_path / "out.jsonl"
    Parts(out, {"model": "a"})
    (tmp_path / "out.jsonl.parts" / "asked.json").write_bytes(told)
    with pytest.raises(PartsError, match=r"out\.jsonl\.parts does not say .* garbled\. Remove it to begin"):
        Parts(out, {"model": "a"})


@pytest.mark.parametrize("ending", [".jsonl", ".arrow", ".parquet"])
def test_names_that_are_no_utf_8(rlad: Command, tmp_path: Path, teacher: TextTeacher, ending: str) -> None:
    name, out = os.fsdecode(b"caf\xe9.jsonl"), os.fsdecode(b"th\xe9" + ending.encode())
    (tmp_path / name).write_text(json.dumps({"prompt": "a", "response": "b"}))
    assert rlad("score", name, "--url", teacher.url, "--out", out).code == 0
    [found] = rows(str(tmp_path / out))
    assert isinstance(found, Row)
    assert found.values["teacher_logprobs"] == [-0.5]


@pytest.mark.parametrize("out", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize("rows_now", [1, 2, 3])
def test_a_file_that_is_changed_meanwhile_gets_no_scores_of_other_rows(
    tmp_path: Path, out: str, rows_now: int
) -> None:
    file = tmp_path / "f.jsonl"
    file.write_text('{"prompt": "a", "response": "b"}\n' * 2)
    parts = Parts(tmp_path / out, stamp_of(str(file)))
    parts.keep(0, pa.Table.from_pylist([{"teacher_logprobs": [-1.0]}] * 2, SCORES))
    file.write_text('{"prompt": "a", "response": "c"}\n' * rows_now)
    os.utime(file, ns=(0, 0))
    with pytest.raises(
        PartsError, match=r"f\.jsonl was changed while it was scored.*Remove .*parts and begin"
    ):
        write(str(file), None, parts, 1, tmp_path / out, {"teacher_logprobs": "teacher_logprobs"})
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["f.jsonl", out + ".parts"])
