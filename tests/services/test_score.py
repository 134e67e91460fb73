"""`rlad score`: files of several kinds against a teacher over real HTTP, stopped and gone on with."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rlad_command import Said
from storage_faults import unreadable

from rlad_core.client.forms import TeacherInfo
from rlad_core.client.made_with import MadeWith
from rlad_core.data import Row, rows
from services.score import scoring
from services.score.asked import Columns
from services.score.asking import SCORES, Wanted
from services.score.parts import Parts, PartsError
from services.score.scoring import Source, asked_of
from services.score.writing import default_out

Command = Callable[..., Said]
CHAT = [{"role": "user", "content": "Mia is a knight."}]


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("responses.step10.jsonl", "responses.step10.scored.jsonl"),
        ("responses.step20.JSONL", "responses.step20.scored.jsonl"),
        ("a.b.parquet.zst", "a.b.scored.jsonl"),
        ("a.csv.gz", "a.scored.jsonl"),
        ("a.feather", "a.scored.feather"),
    ],
)
def test_an_output_has_the_name_of_its_file(name: str, out: str) -> None:
    assert default_out(f"some/{name}") == Path("some", out)


def test_parts_are_the_same_each_time_and_hold_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "SIZE_PER_PART", 100)
    file = tmp_path / "rows.jsonl"
    sizes = [5, 90, 20, 300, 1, 1, 1]
    file.write_text("\n".join(json.dumps({"prompt": "p", "response": "r" * size}) for size in sizes))
    source = Source(str(file), Columns("prompt", "response"))
    parts = [[len(each.response) for each in part] for part in source.parts()]
    assert parts == [[5, 90], [20], [300], [1, 1, 1]]
    assert parts == [[len(each.response) for each in part] for part in source.parts()]


def test_parts_of_another_command_are_not_taken(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    parts = Parts(out, {"model": "a", "options": {"top_k": 0}})
    assert parts.kept(0, 1) is None
    parts.keep(0, pa.Table.from_pylist([{"teacher_logprobs": [-1.0]}], SCORES))
    again = Parts(out, {"model": "a", "options": {"top_k": 0}})
    assert again.scores(0)["teacher_logprobs"].to_pylist() == [[-1.0]]
    with pytest.raises(PartsError, match=r"another options has scored\. Remove it"):
        Parts(out, {"model": "a", "options": {"top_k": 5}})


def test_parts_that_cannot_be_read_are_not_told_as_ones_that_cannot_be_written(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    Parts(out, {"model": "a"})
    unreadable(tmp_path / "out.jsonl.parts" / "asked.json")
    with pytest.raises(PartsError, match=r"out\.jsonl\.parts cannot be read or written: Input/output error$"):
        Parts(out, {"model": "a"})


def test_two_commands_do_not_write_one_output(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    ours, theirs = Parts(out, {"model": "a"}), Parts(out, {"model": "a"})
    with ours.held():
        refused = r"another rlad score works on .*out\.jsonl\.parts\. Wait until it ends, or write"
        with pytest.raises(PartsError, match=refused), theirs.held():
            pass
    with theirs.held():  # also after a command that left its parts
        theirs.remove()


@pytest.mark.parametrize("changed", ["weights", "chat template", "encoding"])
def test_parts_of_another_teacher_or_reading_are_not_mixed(tmp_path: Path, changed: str) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text("{}")

    def asked_with(told: str) -> dict[str, Any]:
        made_with = MadeWith.model_construct(weights=told if changed == "weights" else "same")
        template = told if changed == "chat template" else None
        info = TeacherInfo.model_construct(
            model="m", tokenizer_fingerprint="t", dtype="float32", made_with=made_with,
            chat_template_fingerprint=template,
        )  # fmt: skip
        encoding = told if changed == "encoding" else None
        return asked_of(Source(str(file), Columns("prompt", "response"), encoding), Wanted(), info)

    Parts(tmp_path / "out.jsonl", asked_with("utf-8"))
    Parts(tmp_path / "out.jsonl", asked_with("utf-8"))
    with pytest.raises(PartsError, match=f"another {changed} has scored"):
        Parts(tmp_path / "out.jsonl", asked_with("latin-1"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("f.jsonl",), "--url URL of a teacher, or --model"),
        (("f.jsonl", "--url", "http://x", "--model", "m"), "one of the two"),
        (("f.jsonl", "--url", "http://x", "--set", "engine=vllm"), "--set goes with --model"),
        (("nothing.jsonl", "--url", "http://x"), "nothing.jsonl: there is no such file"),
        (("f.jsonl", "--url", "http://x", "--prompt", "q"), "--prompt q: there is no such column"),
        (("f.jsonl", "--url", "http://x", "--out", "f.txt"), "ends in none of .parquet"),
        (("f.jsonl", "--url", "http://x", "--out", "f.jsonl"), "is the file itself"),
        (("?.jsonl", "--url", "http://x", "--out", "f.jsonl"), "or one of its files"),
        (("f.jsonl", "--url", "http://x", "--token-env", "NO_SUCH"), "NO_SUCH holds no token"),
        (("broken.jsonl", "--url", "http://x"), "broken.jsonl, line 2: is no JSON"),
        (("broken.jsonl", "--url", "localhost:9999"), "localhost:9999 is no address. Write http://HOST:PORT"),
        (("broken.jsonl", "--url", "http://x/v1/score"), "ends in a route (/v1/score)"),
        (("latin.csv", "--url", "http://x"), "has another encoding, name it: --encoding latin-1"),
        (("utf16.csv", "--url", "http://x"), "has another encoding, name it: --encoding latin-1"),
    ],
)
def test_wrong_usage_is_refused_at_once(
    rlad: Command, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "f.jsonl").write_text(json.dumps({"prompt": "a", "response": "b"}))
    (tmp_path / "broken.jsonl").write_text('{"prompt": "a", "response": "b"}\n{"prompt": \n')
    (tmp_path / "latin.csv").write_bytes("prompt,response\na,ü\n".encode("latin-1"))
    (tmp_path / "utf16.csv").write_bytes(b"\xff\xfep\x00,\x00r")  # ends in half a character
    said = rlad("score", *arguments)
    assert said.code == 2
    assert says in re.sub(r"[\s│]+", " ", said.err)


@pytest.mark.parametrize("column", ["prompt", "response", "note"])
@pytest.mark.parametrize("out", ["out.jsonl", "out.parquet"])
def test_half_a_character_is_named_before_anything_is_asked(
    rlad: Command, tmp_path: Path, column: str, out: str
) -> None:
    row = {"prompt": "a", "response": "b", "note": ["c"]}
    odd = {**row, column: ["x\ud800"] if column == "note" else "x\ud800"}
    (tmp_path / "f.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(odd)}\n")
    said = rlad("score", "f.jsonl", "--url", "http://127.0.0.1:1", "--out", out)
    assert said.code == 2
    assert f"f.jsonl, line 2: {column} holds half a character" in said.err


def test_values_that_make_no_columns_are_named_before_anything_is_asked(
    rlad: Command, tmp_path: Path
) -> None:
    rows = [{"prompt": "a", "response": "b", "n": n} for n in (1, "one")]
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = rlad("score", "f.jsonl", "--url", "http://127.0.0.1:1", "--out", "out.parquet")
    assert said.code == 2
    assert "f.jsonl: its values make no columns" in said.err


def test_shards_with_other_columns_are_named_before_anything_is_asked(rlad: Command, tmp_path: Path) -> None:
    for name, number in (("a-0.parquet", 1), ("a-1.parquet", 1.5)):
        pq.write_table(pa.table({"prompt": ["a"], "response": ["b"], "n": [number]}), tmp_path / name)
    said = rlad("score", "a-*.parquet", "--url", "http://127.0.0.1:1", "--out", "out.parquet")
    assert said.code == 2
    assert "a-*.parquet: its files have different columns, from row 2 on" in said.err
    assert "n: double" in said.err
    assert "--out NAME.jsonl" in said.err


# Against the served teacher


@pytest.fixture
def teacher(http: httpx.Client) -> str:
    return f"{str(http.base_url).rstrip('/')}/teacher"


def told(teacher: str, sequences: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    """What the service itself says of the same."""
    answer = httpx.post(f"{teacher}/v1/score", json={"sequences": sequences, **more}, timeout=60)
    results: list[dict[str, Any]] = answer.raise_for_status().json()["results"]
    return results


@pytest.mark.slow
def test_parquet_keeps_its_columns_and_types(rlad: Command, tmp_path: Path, teacher: str) -> None:
    table = pa.table(
        {
            "id": pa.array([7, 8, 9], pa.int16()),
            "day": pa.array([date(2026, 1, day) for day in (1, 2, 3)]),
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "prompt": ["Mia is a knight.", "Ella", "Noah"],
            "response": ["<think> Mia", "is a knave.", "Noah is"],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    said = rlad("score", "in.parquet", "--url", teacher, "--top-k", "3", "--entropy")
    assert (said.code, said.err) == (0, "")
    scored = pq.read_table(tmp_path / "in.scored.parquet")
    assert scored.select(table.column_names).equals(table)
    pairs = zip(table["prompt"].to_pylist(), table["response"].to_pylist(), strict=True)
    sequences = [{"prompt": prompt, "response": response} for prompt, response in pairs]
    expected = told(teacher, sequences, top_k=3, entropy=True)
    for row, wanted in zip(scored.to_pylist(), expected, strict=True):
        np.testing.assert_allclose(row["teacher_logprobs"], wanted["logprobs"], atol=1e-5)
        np.testing.assert_allclose(row["entropy"], wanted["entropy"], atol=1e-5)
        assert row["response_token_ids"] == wanted["response_token_ids"]
        assert row["top_token_ids"] == [[each["token_id"] for each in place] for place in wanted["top"]]
    assert not (tmp_path / "in.scored.parquet.parts").exists()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".jsonl", ".arrow", ".parquet"])
def test_token_ids_in_and_out_in_every_format(
    rlad: Command, tmp_path: Path, teacher: str, ending: str
) -> None:
    given = [{"prompt_token_ids": [5, 6, n], "response_token_ids": [n, 9, 10], "n": n} for n in range(11, 31)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, given)))
    said = rlad("score", "in.jsonl", "--teacher", teacher, "--out", f"out{ending}", "--top-k", "2")
    assert said.code == 0, said.err
    scored = [found.values for found in rows(str(tmp_path / f"out{ending}")) if isinstance(found, Row)]
    assert [{name: row[name] for name in given[0]} for row in scored] == given
    expected = told(teacher, [{k: v for k, v in row.items() if k != "n"} for row in given])
    for row, wanted in zip(scored, expected, strict=True):
        np.testing.assert_allclose(row["teacher_logprobs"], wanted["logprobs"], atol=1e-5)
        assert np.shape(row["top_token_ids"]) == np.shape(row["top_logprobs"]) == (3, 2)


@pytest.mark.slow
def test_chats_and_rows_that_are_refused(rlad: Command, tmp_path: Path, teacher: str) -> None:
    chat = [*CHAT, {"role": "assistant", "content": "<think> Mia"}]
    long = [*CHAT, {"role": "assistant", "content": "Mia is a knave. " * 2000}]
    (tmp_path / "in.jsonl").write_text(
        "\n".join(json.dumps({"messages": each}) for each in (chat, long, chat))
    )
    stopped = rlad("score", "in.jsonl", "--url", teacher)
    assert stopped.code == 1
    assert "line 2" in stopped.err
    done = rlad("score", "in.jsonl", "--url", teacher, "--skip-refused")
    assert done.code == 0, done.err
    assert "1 of 3 rows were refused" in done.out
    first, second, third = map(json.loads, (tmp_path / "in.scored.jsonl").read_text().splitlines())
    assert second["teacher_logprobs"] is None
    assert first == third
    [wanted] = told(teacher, [{"messages": CHAT, "response": "<think> Mia"}])
    np.testing.assert_allclose(first["teacher_logprobs"], wanted["logprobs"], atol=1e-5)


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(rlad: Command, tmp_path: Path, teacher: str) -> None:
    count = 12 * scoring.ROWS_PER_PART
    given = [
        {"prompt_token_ids": [5 + n % 50] * 20, "response_token_ids": [6 + n % 90] * 20} for n in range(count)
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, given)))
    command = [sys.executable, "-P", "-m", "services", "score", "in.jsonl", "--url", teacher]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, env=dict(os.environ))
    kept = tmp_path / "in.scored.jsonl.parts"
    deadline = time.monotonic() + 120
    while len(list(kept.glob("*.parquet"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    assert not (tmp_path / "in.scored.jsonl").exists()
    finished = sorted(kept.glob("0*.parquet"))
    assert 2 <= len(finished) < 12
    # What is there is not asked for again: a number that no teacher says comes through.
    marked = [{"teacher_logprobs": [-0.125] * 20}] * scoring.ROWS_PER_PART
    pq.write_table(pa.Table.from_pylist(marked, SCORES), finished[0])
    said = rlad("score", "in.jsonl", "--url", teacher)
    assert said.code == 0, said.err
    scored = [
        json.loads(line)["teacher_logprobs"]
        for line in (tmp_path / "in.scored.jsonl").read_text().splitlines()
    ]
    assert len(scored) == count
    first = int(finished[0].stem) * scoring.ROWS_PER_PART
    assert scored[first] == [-0.125] * 20
    for place in (count - 1, (first + scoring.ROWS_PER_PART) % count):
        [wanted] = told(teacher, [given[place]])
        np.testing.assert_allclose(scored[place], wanted["logprobs"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.long
def test_a_model_is_served_for_the_command(tmp_path: Path) -> None:
    """The whole command, with a Ray of its own."""
    (tmp_path / "in.jsonl").write_text(json.dumps({"prompt": "Mia", "response": "is a knight."}))
    asked = ("score", "in.jsonl", "--model", "rlad:kk-teacher", "--top-k", "30", "--out", "out.parquet")
    command = [sys.executable, "-P", "-m", "services", *asked]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    [row] = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert len(row["teacher_logprobs"]) == len(row["response_token_ids"]) == len(row["top_token_ids"])
    assert len(row["top_token_ids"][0]) == 30
    assert max(row["teacher_logprobs"]) <= 0
