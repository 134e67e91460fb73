"""`rlad score` and files that are empty, broken or odd: refused before anything is asked, or scored."""

import asyncio
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rlad_command import Said
from text_teacher import info, served

from rlad_core import schema
from rlad_core.client import AsyncTeacherClient
from rlad_core.client.forms import TeacherLimits
from services.cli import score as command
from services.score.asked import AskedError, Columns
from services.score.asking import Asking, RefusedRowError, Wanted
from services.score.looking import look, names_of
from services.score.scoring import Source, UntoldError, refuse_untold

Command = Callable[..., Said]
ROW = b'{"prompt": "a", "response": "b"}\n'
NOWHERE = "http://127.0.0.1:1"


def packed(text: bytes, upto: int) -> bytes:
    return gzip.compress(text, mtime=0)[:upto]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("f.jsonl", b"", "f.jsonl has no rows"),
        ("f.jsonl", b"\n \n", "f.jsonl has no rows"),
        ("f.json", b"[]", "f.json has no rows"),
        ("f.csv", b"prompt,response\n", "f.csv has no rows"),
        ("f.csv", b"", "f.csv, line 1: has no names of columns"),
        (
            "f.csv.gz",
            packed(b"prompt,response\n" + b"a,b\n" * 5000, 30),
            "f.csv.gz, line 1: the file ends",
        ),
        ("f.jsonl.gz", packed(ROW * 5000, 40), "f.jsonl.gz, line 1: the file ends in the middle"),
        ("f.jsonl", b"{bad\n" * 25 + ROW, "f.jsonl, line 5: is no JSON"),
        ("f.jsonl", b"1\n" * 25 + ROW, "f.jsonl, line 1: is no JSON object"),
        ("f.jsonl", b"{}\n" * 25 + ROW, "no column of prompt_token_ids, messages, prompt is there"),
        ("f.jsonl", ROW * 300 + b'{"prompt": "a"\n', "f.jsonl, line 301: is no JSON"),
        ("f.jsonl", b'{"prompt":"a","response":"b","\\ud800":1}\n', r"line 1: \ud800 holds half a character"),
        (
            "f.jsonl",
            b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":""}]}\n',
            "f.jsonl, line 1: the last message of messages is empty",
        ),
        (
            "f.jsonl",
            b'{"prompt_token_ids":[1],"response_token_ids":[1]}\n'
            b'{"prompt_token_ids":[1],"response_token_ids":[1,-100]}\n'
            b'{"prompt_token_ids":[2147483648],"response_token_ids":[1]}\n',
            "f.jsonl, line 2: response_token_ids has -100, which is no token id\n"
            "f.jsonl, line 3: prompt_token_ids has 2147483648, which is no token id\n"
            "With --skip-refused such rows get nulls",
        ),
    ],
)
def test_what_cannot_be_scored_is_said_before_anything_is_asked(
    rlad: Command, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    said = rlad("score", name, "--url", NOWHERE)
    assert said.code == 2
    assert says in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("column", ["entropy", "teacher_logprobs", "response_token_ids"])
@pytest.mark.parametrize("pattern", [False, True])
def test_a_late_column_of_ones_own_is_not_written_over(
    rlad: Command, tmp_path: Path, column: str, pattern: bool
) -> None:
    late = json.dumps({"prompt": "a", "response": "b", column: "mine"}).encode()
    (tmp_path / "a-0.jsonl").write_bytes(ROW * 300 + (b"" if pattern else late))
    (tmp_path / "a-1.jsonl").write_bytes(late)
    file, where = ("a-?.jsonl", "a-1.jsonl, line 1") if pattern else ("a-0.jsonl", "a-0.jsonl, line 301")
    said = rlad("score", file, "--url", NOWHERE, "--entropy", "--out", "out.jsonl")
    assert said.code == 2
    assert f"{where}: has a column {column} already" in said.err


@pytest.mark.parametrize("encoding", ["utf9", "hex"])
def test_an_encoding_that_is_none_is_refused(rlad: Command, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "f.csv").write_bytes(b"prompt,response\na,b\n")
    said = rlad("score", "f.csv", "--url", NOWHERE, "--encoding", encoding)
    assert said.code == 2
    assert f"--encoding {encoding}: there is no such encoding" in said.err


def test_what_no_parquet_file_holds_is_said_before_anything_is_asked(rlad: Command, tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_bytes(b'{"prompt": "a", "response": "b", "more": {}}\n')
    said = rlad("score", "f.jsonl", "--url", NOWHERE, "--out", "f.parquet")
    assert said.code == 2
    assert "its columns cannot be written as .parquet" in said.err
    assert "--out NAME.jsonl" in said.err


def test_a_folder_is_no_output(rlad: Command, tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_bytes(ROW)
    (tmp_path / "out.jsonl").mkdir()
    said = rlad("score", "f.jsonl", "--url", NOWHERE, "--out", "out.jsonl")
    assert (said.code, "out.jsonl is a folder" in said.err) == (2, True)


def test_a_large_json_file_and_an_empty_first_one_have_columns(tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    large.write_text(json.dumps([{"prompt": "a " * 2000, "response": "b"}] * 2200))
    assert large.stat().st_size > 2**23
    assert names_of(str(large), None) == ["prompt", "response"]
    (tmp_path / "p-0.jsonl").write_bytes(b"")
    (tmp_path / "p-1.jsonl").write_bytes(ROW)
    assert names_of(str(tmp_path / "p-*.jsonl"), None) == ["prompt", "response"]


def test_chats_are_told_from_text(tmp_path: Path) -> None:
    (file := tmp_path / "f.jsonl").write_bytes(ROW * 2)
    looked = look(Source(str(file), Columns("prompt", "response")), skip_refused=False)
    assert (looked.rows, looked.has_text, looked.has_chats) == (2, True, False)
    file.write_bytes(ROW + b'{"prompt": [{"role": "user", "content": "a"}], "response": "b"}\n')
    assert look(Source(str(file), Columns("prompt", "response")), skip_refused=False).has_chats


@pytest.mark.parametrize(
    ("wanted", "has_chats", "says"),
    [
        (Wanted(entropy=True), False, "--entropy: engine vllm of m does not tell it"),
        (Wanted(top_k=111), False, "--top-k 111: m tells at most 110; its service has a setting for it"),
        (Wanted(top_k=101), False, "--top-k 101: m has 100 tokens"),
        (Wanted(), True, "m has no chat template, and there are chats"),
    ],
)
def test_what_the_teacher_refuses_of_every_row(wanted: Wanted, has_chats: bool, says: str) -> None:
    with pytest.raises(UntoldError, match=says):
        refuse_untold(wanted, has_chats, info())
    able = info(
        details=["top_k", "entropy"], chat_template_fingerprint="c", vocab_size=200, limits=TeacherLimits()
    )
    refuse_untold(wanted, has_chats, able)


@pytest.fixture
def teacher() -> Iterator[str]:
    with served() as teacher:
        yield teacher.url


@pytest.mark.parametrize("options", [("--top-k", "200"), ("--entropy",)])
def test_refusals_of_a_whole_request_are_none_of_rows(
    rlad: Command, tmp_path: Path, teacher: str, options: tuple[str, ...]
) -> None:
    (tmp_path / "f.jsonl").write_bytes(ROW)
    said = rlad("score", "f.jsonl", "--url", teacher, "--skip-refused", *options)
    assert said.code == 2
    assert options[0] in said.err
    assert not (tmp_path / "f.scored.jsonl").exists()


@pytest.mark.parametrize("name", ["ü 日.jsonl", "large.json", "f.csv.gz"])
def test_odd_files_are_scored(rlad: Command, tmp_path: Path, teacher: str, name: str) -> None:
    if name == "large.json":
        text = json.dumps(
            [{"prompt": "a", "response": "b", "note": "n" * 2**23}, {"prompt": "a", "response": "long"}]
        )
        (tmp_path / name).write_text(text)
    elif name == "f.csv.gz":
        (tmp_path / name).write_bytes(gzip.compress(b"prompt,response\na,b\na,long\n", mtime=0))
    else:
        (tmp_path / name).write_bytes(ROW + b'{"prompt": "a", "response": "long", "note": null}')
    said = rlad("score", name, "--url", teacher, "--skip-refused", "--out", "out.jsonl")
    assert said.code == 0, said.err
    assert "1 of 2 rows were refused" in said.out
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["teacher_logprobs"], row["response_token_ids"]) for row in rows] == [
        ([-0.5], [7]),
        (None, None),
    ]


class Scores:
    """A teacher of token ids: each log-prob is minus the id."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def score(self, table: pa.Table, **_: Any) -> pa.Table:
        self.asked.append(table.num_rows)
        told = [[-float(token) for token in row] for row in table["response_token_ids"].to_pylist()]
        columns = {"sequence_id": table["sequence_id"], "teacher_logprobs": told}
        return schema.build(schema.TEACHER_SCORES, columns, tokenizer_fingerprint="f")


def test_rows_with_what_is_no_token_id_are_skipped_where_that_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "f.parquet"
    ids = [[1], [2, -100], [3], [2**40]]
    pq.write_table(pa.table({"prompt_token_ids": [[5]] * 4, "response_token_ids": ids}), file)
    source = Source(str(file), Columns("prompt_token_ids", "response_token_ids"))
    with pytest.raises(AskedError, match=r"row 2: .* has -100.*\n.*row 4: .* has 1099511627776"):
        look(source, skip_refused=False)
    assert look(source, skip_refused=True).rows == 4
    [part] = source.parts()
    client = Scores()
    asked = cast(AsyncTeacherClient, client)
    asking = Asking(asked, info(), Wanted(skip_refused=True))
    scores = asyncio.run(asking.scores(part))
    assert scores["teacher_logprobs"].to_pylist() == [[-1.0], None, [-3.0], None]
    assert client.asked == [2]  # the others go together
    assert asking.first_refused == f"{file}, row 2: response_token_ids has -100, which is no token id"
    with pytest.raises(RefusedRowError, match=r"f\.parquet, row 2: response_token_ids has -100"):
        asyncio.run(Asking(asked, info(), Wanted()).scores(part))


@pytest.mark.parametrize(("top_k", "limits"), [(100, None), (200, {"max_top_k": 200})])
def test_a_served_teacher_gets_the_limit_that_it_needs(
    monkeypatch: pytest.MonkeyPatch, top_k: int, limits: dict[str, int] | None
) -> None:
    class SeenError(Exception):
        pass

    def read(_service: str, settings: dict[str, Any], _model: str) -> None:
        assert settings.get("limits") == limits
        raise SeenError

    monkeypatch.setattr("services.cli.service_settings.read_settings", read)
    with pytest.raises(SeenError), command._teacher("", "m", [], top_k, 1.0):
        pass
