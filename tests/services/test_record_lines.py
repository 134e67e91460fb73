"""JSON lines: a last one that a kill has cut off is left out, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
from storage_faults import unreadable

from services.report.record_lines import Lines, LinesError, append, read_lines, read_record, rewrite

TWO = b'{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize("tail", [b"{", b'{"step": 3', '{"a": "ä'.encode()[:-1], b"\0\0\0"])
def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path, tail: bytes) -> None:
    (file := tmp_path / "metrics.jsonl").write_bytes(TWO + tail)
    assert read_record(file) == Lines({1: {"step": 1}, 2: {"step": 2}}, cut_off=3)


def test_a_last_line_that_lacks_its_break_alone_counts(tmp_path: Path) -> None:
    (file := tmp_path / "metrics.jsonl").write_bytes(TWO[:-1])
    assert read_record(file) == Lines({1: {"step": 1}, 2: {"step": 2}})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"step": 1}\n{"st\n{"step": 3}\n', "line 2 of .* is broken"),
        (b'{"step": 1}\n{"st\n', "line 2 of .* is broken"),  # its break is there: no kill has left it
        (b'{"step": 1}\n[1]', r"line 2 of .* is \[1\] and should be an object"),
        (b'{"step": 1}\n\n{"stop": 2}\n', "line 3 of .* tells of no step"),
        (b'{"step": "1"}', "line 1 of .* tells of no step"),
    ],
)
def test_any_other_line_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (file := tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(LinesError, match=rf"{says}.*\. Repair or delete the line$"):
        read_record(file)


def test_no_file_has_no_lines_and_one_that_cannot_be_read_is_none_of_these(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert read_lines(file) == Lines({})
    unreadable(file)
    with pytest.raises(OSError, match="Input/output error"):
        read_lines(file)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    append(file, {"step": 1, "mean": float("nan"), "seconds": {"step": float("inf")}}, {"step": 2})
    append(file, {"step": 3})
    rows = read_record(file).rows
    assert rows == [{"step": 1, "mean": None, "seconds": {"step": None}}, {"step": 2}, {"step": 3}]
    rewrite(file, rows[1:])
    assert file.read_bytes() == b'{"step": 2}\n{"step": 3}\n'
