"""What `rlad score` writes as tables, and finds out before it asks for anything."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rlad_command import Said
from text_teacher import TextTeacher, served

Command = Callable[..., Said]
KINDS = [["x", "y"], ["z", "x"], [None, "z"]]
"""Of three parts of a file: each has a dictionary of its own."""


@pytest.fixture
def teacher() -> Iterator[TextTeacher]:
    with served() as teacher:
        yield teacher


def table(kinds: list[str | None]) -> pa.Table:
    kind = pa.array(kinds, pa.string()).dictionary_encode()
    return pa.table({"kind": kind, "prompt": ["a"] * 2, "response": ["b"] * 2})


def stream(folder: Path) -> str:
    file = folder / "f.arrow"
    with pa.ipc.new_stream(file, table(KINDS[0]).schema) as writer:
        for kinds in KINDS:
            writer.write_table(table(kinds))
    return file.name


def shards(folder: Path) -> str:
    for number, kinds in enumerate(KINDS):
        pq.write_table(table(kinds), folder / f"f-{number}.parquet")
    return "f-*.parquet"


@pytest.mark.parametrize("write", [stream, shards])
@pytest.mark.parametrize("ending", [".arrow", ".parquet", ".jsonl"])
def test_dictionaries_that_differ_are_written(
    rlad: Command, tmp_path: Path, teacher: TextTeacher, write: Callable[[Path], str], ending: str
) -> None:
    done = rlad("score", write(tmp_path), "--url", teacher.url, "--out", f"out{ending}")
    assert done.code == 0, done.err
    out = tmp_path / f"out{ending}"
    if ending == ".jsonl":
        return
    scored = pa.ipc.open_file(out).read_all() if ending == ".arrow" else pq.read_table(out)
    assert scored["kind"].to_pylist() == [each for kinds in KINDS for each in kinds]
    wanted = pa.string() if ending == ".arrow" else table(KINDS[0]).schema.field("kind").type
    assert scored["kind"].type == wanted
    assert scored["teacher_logprobs"].to_pylist() == [[-0.5]] * 6


def test_a_late_row_that_cannot_be_written_is_found_before_anything_is_asked(
    rlad: Command, tmp_path: Path, teacher: TextTeacher
) -> None:
    """Dictionaries inside of lists: an Arrow file takes one for all batches."""
    batches = []
    for kinds in (["x", "y"], ["z", "x"]):
        lists = pa.ListArray.from_arrays([0, 2], pa.array(kinds).dictionary_encode())
        batches.append(pa.record_batch({"kinds": lists, "prompt": ["a"], "response": ["b"]}))
    with pa.ipc.new_stream(tmp_path / "f.arrow", batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    said = rlad("score", "f.arrow", "--url", teacher.url, "--out", "out.arrow")
    assert said.code == 2
    assert "f.arrow: its columns cannot be written as .arrow" in said.err
    assert "--out NAME.jsonl" in said.err
    assert teacher.asked == []
