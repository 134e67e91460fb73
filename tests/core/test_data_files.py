"""Rows of data files: formats, encodings, compression, patterns; what is wrong is named with its place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlad_core import data
from rlad_core.data import DataError, Fault, Row, column_names, name_of, path_fault

ROWS: list[dict[str, Any]] = [{"question": "Größe?", "answer": 1}, {"question": "b\u2028\x85?", "answer": 2}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
SHEET = 'question,answer\nGröße?,1\n"a ""b""\nc",\nd,nan\n'
CELLS = [
    {"question": "Größe?", "answer": "1"},
    {"question": 'a "b"\nc', "answer": None},
    {"question": "d", "answer": None},
]


def values(path: Path | str, **how: Any) -> list[Any]:
    return [found.values if isinstance(found, Row) else found for found in data.rows(str(path), **how)]


def places(path: Path | str) -> list[str]:
    return [found.where for found in data.rows(str(path))]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]
)
@pytest.mark.parametrize(("name", "text", "wanted"), [("a.jsonl", LINES, ROWS), ("a.csv", SHEET, CELLS)])
def test_encodings_that_show(tmp_path: Path, encoding: str, name: str, text: str, wanted: Any) -> None:
    if encoding == "utf-32-le":
        text = "\ufeff" + text
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert values(tmp_path / name) == wanted
    assert column_names(str(tmp_path / name)) == ["question", "answer"]


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv"])
def test_other_encodings_are_named_or_their_rows_left_out(tmp_path: Path, ending: str) -> None:
    text = {"jsonl": LINES, "json": json.dumps(ROWS, ensure_ascii=False), "csv": SHEET}[ending]
    text = text.replace("\u2028\x85", "")
    path = tmp_path / f"a.{ending}"
    path.write_bytes(text.encode("latin-1"))
    first, *others = data.rows(str(path))
    place = {"jsonl": "line 1", "json": "row 1", "csv": "line 2"}[ending]
    assert isinstance(first, Fault)
    assert first.where == f"{path}, {place}"
    assert "is no UTF-8: byte 0xf6 at character" in first.reason
    assert "name it: encoding: latin-1" in first.reason
    for found in data.rows(str(path), setting="--encoding "):
        assert not isinstance(found, Fault) or found.reason.endswith("name it: --encoding latin-1")
    assert others
    assert all(isinstance(row, Row) for row in others)
    assert values(path, encoding="latin-1")[0]["question"] == "Größe?"


@pytest.mark.parametrize("named", ["utf-8", "UTF8", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize(("name", "text", "wanted"), [("a.jsonl", LINES, ROWS), ("a.csv", SHEET, CELLS)])
def test_a_mark_is_no_text_where_the_encoding_is_named_too(
    tmp_path: Path, named: str, name: str, text: str, wanted: Any
) -> None:
    marked = {"utf-8": "utf-8-sig", "UTF8": "utf-8-sig"}.get(named, named)
    (tmp_path / name).write_bytes(("\ufeff" * (named == "utf-16-le") + text).encode(marked))
    assert values(tmp_path / name, encoding=named) == wanted
    assert column_names(str(tmp_path / name), named) == ["question", "answer"]


def zstd(raw: bytes) -> bytes:
    return bytes(pa.compress(raw, codec="zstd", asbytes=True))


@pytest.mark.parametrize(("ending", "packed"), [("gz", gzip.compress), ("zst", zstd)])
def test_compressed_files(tmp_path: Path, ending: str, packed: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"a.jsonl.{ending}"
    path.write_bytes(packed(LINES.encode("utf-16")))
    assert values(path) == ROWS
    plain = tmp_path / "b.jsonl"  # what it is, its bytes say
    plain.write_bytes(packed(LINES.encode()))
    assert values(plain) == ROWS
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "b.parquet")
    table = tmp_path / f"c.parquet.{ending}"
    table.write_bytes(packed((tmp_path / "b.parquet").read_bytes()))
    assert values(table) == ROWS
    path.write_bytes(packed(LINES.encode()) + packed(LINES.encode()))  # as `cat` joins them
    assert values(path) == [*ROWS, *ROWS]
    path.write_bytes(packed((LINES * 5000).encode())[:-20])
    with pytest.raises(
        DataError, match=rf"a\.jsonl\.{ending}, line \d+: the file (ends in the middle|is broken)"
    ):
        values(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("array.json", json.dumps(ROWS)),
        ("indented.json", json.dumps(ROWS, indent=2)),
        ("lines.json", LINES),
        ("array.jsonl", json.dumps(ROWS, indent=2)),
        ("below.json", json.dumps({"data": ROWS}, indent=1)),
        ("one-line.json", json.dumps({"data": ROWS})),
        ("beside.json", json.dumps({"version": "1.0", "data": ROWS, "count": 3})),
        ("beside-indented.json", json.dumps({"version": "1.0", "data": ROWS}, indent=2)),
        ("lines.ndjson", LINES.replace("\n", "\r\n\r\n")),
    ],
)
def test_json_in_every_arrangement(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert values(tmp_path / name) == ROWS


CHAT = [{"role": "user", "content": "What is it?"}]


@pytest.mark.parametrize(
    "row",
    [
        ROWS[0],
        {"prompt": CHAT},
        {"prompt": CHAT, "gold": "5"},
        {"question": "What is it?", "tests": [{"input": 1}]},
        {"train": ROWS, "test": ROWS},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_one_object_is_one_row(tmp_path: Path, row: dict[str, Any], indent: int | None) -> None:
    (tmp_path / "a.json").write_text(json.dumps(row, indent=indent))
    assert values(tmp_path / "a.json") == [row]


def test_tables(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "a.parquet")
    pyarrow.feather.write_feather(table, tmp_path / "a.feather")
    with (
        pa.OSFile(str(tmp_path / "stream.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as out,
    ):
        out.write_table(table)
    with pa.OSFile(str(tmp_path / "file.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table)
    for name in ("a.parquet", "a.feather", "stream.arrow", "file.arrow"):
        assert values(tmp_path / name) == ROWS
        assert values(tmp_path / name, choose=lambda names: names[1:]) == [{"answer": 1}, {"answer": 2}]
        assert places(tmp_path / name) == [f"{tmp_path / name}, row {row}" for row in (1, 2)]
        assert column_names(str(tmp_path / name)) == ["question", "answer"]


def test_endings_count_in_capitals_too(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "U.PARQUET")
    assert values(tmp_path / "U.PARQUET") == ROWS
    assert column_names(str(tmp_path / "U.PARQUET")) == ["question", "answer"]
    assert pa.Table.from_batches(data.table_batches(str(tmp_path / "U.PARQUET"))).equals(table)
    (tmp_path / "U.TSV").write_text("question\tanswer\na, b\t1\n")
    assert values(tmp_path / "U.TSV") == [{"question": "a, b", "answer": "1"}]
    (tmp_path / "U.JSON").write_text(LINES)
    assert column_names(str(tmp_path / "U.JSON")) == ["question", "answer"]


def test_a_value_that_is_no_text_costs_its_row_alone(tmp_path: Path) -> None:
    offsets = pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0")
    texts = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"a\xffb")])
    pq.write_table(pa.table({"question": texts}), tmp_path / "a.parquet")
    first, second, third = values(tmp_path / "a.parquet")
    assert (first, third) == ({"question": "a"}, {"question": "b"})
    assert second.where == f"{tmp_path}/a.parquet, row 2"
    assert "cannot be read: 'utf-8'" in second.reason


def saved(folder: Path, rows: list[dict[str, Any]], shards: int = 2) -> Path:
    """A folder as `datasets.Dataset.save_to_disk` writes it."""
    folder.mkdir(parents=True)
    names = [f"data-{shard:05}-of-{shards:05}.arrow" for shard in range(shards)]
    for shard, name in enumerate(names):
        table = pa.Table.from_pylist(rows[shard::shards])
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
            out.write_table(table)
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train", "_format_type": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_a_folder_of_the_library_datasets(tmp_path: Path) -> None:
    folder = saved(tmp_path / "all" / "train", ROWS)
    assert values(folder) == ROWS
    assert path_fault(str(folder)) is None
    (tmp_path / "all" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert f"holds the splits train. Name one: {folder}" in str(path_fault(str(tmp_path / "all")))
    (folder / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"lacks data-00001-of-00002\.arrow, which its state\.json names"):
        values(folder)
    (folder / "state.json").write_text("{}")
    with pytest.raises(DataError, match=r"state\.json does not say which files"):
        values(folder)
    (tmp_path / "plain").mkdir()
    assert "no dataset that was saved to it" in str(path_fault(str(tmp_path / "plain")))


def test_a_pattern_is_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        (tmp_path / f"part-{number}.jsonl").write_text(json.dumps({"answer": number}))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "part-3.csv").write_text("answer\n3\n")
    assert [row["answer"] for row in values(tmp_path / "part-*.jsonl")] == [0, 1, 2]
    assert [row["answer"] for row in values(tmp_path / "**" / "part-*")] == ["3", 0, 1, 2]
    (tmp_path / "part-[x].jsonl").write_text('{"answer": "x"}')  # a name, before it is a pattern
    assert values(tmp_path / "part-[x].jsonl") == [{"answer": "x"}]


def test_brackets_of_a_folder_are_its_name_and_no_pattern(tmp_path: Path) -> None:
    for folder, answer in (("mine [1]", 1), ("mine 1", 2)):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "part-0.jsonl").write_text(json.dumps({"answer": answer}))
    for pattern in ("deep/part-*.jsonl", "**/part-?.jsonl", "d*p/part-0.jsonl"):
        assert values(tmp_path / "mine [1]" / pattern) == [{"answer": 1}]
        assert data.is_there(str(tmp_path / "mine [1]" / pattern))
    assert values(tmp_path / "mine [1-2]" / "deep" / "*.jsonl") == [{"answer": 2}]  # no folder is called so
    assert not data.is_there(str(tmp_path / "mine\0" / "*.jsonl"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/train.jsonl", "train"),
        ("/a/v1.2.jsonl.gz", "v1.2"),
        ("/a/train-00000-of-00001.parquet", "train"),
        ("/a/train-*.parquet", "train"),
        ("/gsm8k/*.parquet", "gsm8k"),
        ("/a/my data.csv", "my-data"),
        ("/a/saved", "saved"),
    ],
)
def test_what_prompts_are_reported_under(path: str, name: str) -> None:
    assert name_of(path) == name


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "a.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1",
            "a pointer of Git LFS in place",
        ),
        ("a.json", b'[{"a": 1},', "is no JSON: "),
        ("a.csv", b"", "line 1: has no names of columns"),
        ("a.csv", b"a,a\n1,2\n", "line 1: two columns have the same name: a, a"),
        ("a.csv", b'a,b\n1,2\n"3,4\n5,6\n', "line 3: is no CSV: unexpected end of data"),
        ("a.jsonl", LINES.encode("utf-16")[:-1], "line 2: the text is no utf-16"),
        ("a.parquet", b"PAR1", "is no Parquet file, or a broken one"),
        ("a.arrow", b"nonsense", "is no Arrow file, or a broken one"),
        ("a.arrow", b"", "is no Arrow file, or a broken one"),
        ("a.xlsx", b"PK", "ends in none of .jsonl, "),
    ],
)
def test_a_file_at_fault_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as refused:
        values(tmp_path / name)
    assert str(refused.value).startswith(str(tmp_path / name))
    assert says in str(refused.value)


def test_rows_at_fault_cost_no_others(tmp_path: Path) -> None:
    lines = [
        '{"a": 1}',
        '{"a": ',
        "[1]",
        '{"a": ' + "9" * 5000 + "}",
        '{"a": "\\ud83d"}',
        "[" * 100_000,
        '{"a": 2}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = values(tmp_path / "a.jsonl")
    assert [row for row in found if isinstance(row, dict)] == [{"a": 1}, {"a": "\ud83d"}, {"a": 2}]
    faults = [row for row in found if isinstance(row, Fault)]
    assert [fault.where.rpartition(" ")[2] for fault in faults] == ["2", "3", "4", "6"]
    (tmp_path / "first.jsonl").write_text('{"a": \n{"a": 2}\n')
    broken, row = values(tmp_path / "first.jsonl")
    assert (broken.where, row) == (f"{tmp_path}/first.jsonl, line 1", {"a": 2})
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3\n4,5,6\n7,8\n")
    assert [row["a"] if isinstance(row, dict) else row.reason for row in values(tmp_path / "a.csv")] == [
        "1",
        "has 1 cells, and the file has 2 columns",
        "has 3 cells, and the file has 2 columns",
        "7",
    ]


def test_blanks_behind_commas_mean_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('question, "answer"\n"1 + 1, that is?", "2"\nWhat?,  b c \n')
    assert column_names(str(path)) == ["question", "answer"]
    assert values(path) == [
        {"question": "1 + 1, that is?", "answer": "2"},
        {"question": "What?", "answer": "b c "},
    ]


def test_cells_can_be_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('question, "answer"\nWhat?,  b c \n,"nan"\n')
    assert values(path, verbatim=True) == [
        {"question": "What?", "answer": "  b c "},
        {"question": "", "answer": "nan"},
    ]


def test_names_of_columns_may_take_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"the\nquestion", "the ""right""\n\nanswer"\nWhy?,2\n"a\nb"\n')
    names = ["the\nquestion", 'the "right"\n\nanswer']
    assert column_names(str(path)) == names
    row, fault = data.rows(str(path))
    assert isinstance(row, Row)
    assert (row.where, row.values) == (
        f"{path}, line 5",
        dict(zip(names, ("Why?", "2"), strict=True)),
    )
    assert isinstance(fault, Fault)
    assert fault.where == f"{path}, line 6"
    path.write_text('"question,answer\nWhy?,2\n')
    with pytest.raises(DataError, match=r"line 1: is no CSV: unexpected end of data"):
        values(path)


def test_a_comma_within_a_name_stands_between_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"question, in full";answer\nWhy?;2\n')
    assert values(path) == [{"question, in full": "Why?", "answer": "2"}]


def test_columns_without_a_name_are_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",question,answer,,\n0,Why?,2,,\n")
    [row] = values(path)
    assert (row["question"], row["answer"]) == ("Why?", "2")


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    table = pa.table([["a"], ["b"], ["1"]], names=["question", "question", "answer"])
    if ending == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    with pytest.raises(
        DataError, match=rf"{path}: two columns have the same name: question, question, answer"
    ):
        values(path)


@given(st.binary(max_size=200), st.sampled_from(["jsonl", "json", "csv", "parquet", "arrow"]))
def test_no_bytes_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, ending: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{ending}"
    path.write_bytes(raw)
    try:
        found = list(data.rows(str(path)))
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert all(isinstance(row, Row | Fault) for row in found)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(st.lists(st.fixed_dictionaries({"a": TEXT, "b": st.integers() | st.none() | TEXT}), min_size=1))
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "written"
    (path.with_suffix(".jsonl")).write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline=""
    )
    (path.with_suffix(".json")).write_text(json.dumps(rows), encoding="utf-8")
    assert values(path.with_suffix(".jsonl")) == values(path.with_suffix(".json")) == rows
