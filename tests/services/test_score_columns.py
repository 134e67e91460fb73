"""Which columns `rlad score` takes as prompt and response, what cells are to it, and what it adds."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rlad_command import Said
from text_teacher import TextTeacher, served

from rlad_core.data import Row
from services.evaluate.demonstrations import CHATS
from services.score.asked import AskedError, Columns

Command = Callable[..., Said]
CHAT = [{"role": "user", "content": "Mia is a knight."}]
SAID = [{"role": "assistant", "content": "b"}]


@pytest.fixture
def teacher() -> Iterator[TextTeacher]:
    with served() as teacher:
        yield teacher


def asked(values: dict[str, Any], prompt: str = "", response: str = "") -> tuple[Any, Any]:
    found = Columns.of(list(values), prompt, response).asked(Row("f, row 1", values))
    return found.prompt, found.response


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"prompt": "a", "response": "b"}, ("a", "b")),
        ({"prompt": "a", "completion": "b"}, ("a", "b")),
        ({"prompt_token_ids": [1], "response_token_ids": [2], "prompt": "a", "response": "b"}, ([1], [2])),
        ({"prompt_token_ids": [1], "prompt": "a", "response": "b"}, ("a", "b")),
        ({"messages": CHAT, "response": "b"}, (CHAT, "b")),
        ({"messages": [*CHAT, {"role": "assistant", "content": "b", "tool_calls": None}]}, (CHAT, "b")),
        ({"prompt": CHAT, "completion": [{"role": "assistant", "content": "b"}]}, (CHAT, "b")),
        # As `rlad generate` writes it: messages are the whole chat.
        ({"messages": [*CHAT, *SAID], "prompt": CHAT, "completion": SAID, "solution": "b"}, (CHAT, "b")),
        ({"messages": CHAT, "prompt": "a", "response": "b"}, (CHAT, "b")),
        # As `rlad evaluate` writes it: the response's ids without those of the prompt.
        ({"prompt": "a", "response": "b", "response_token_ids": [2]}, ("a", "b")),
        ({"messages": json.dumps([*CHAT, *SAID])}, (CHAT, "b")),
        ({"messages": str(CHAT), "response": "b"}, (CHAT, "b")),
        ({"prompt_token_ids": "[1]", "response_token_ids": "[2, 3]"}, ([1], [2, 3])),
    ],
)
def test_columns_are_found(values: dict[str, Any], expected: tuple[Any, Any]) -> None:
    assert asked(values) == expected


def test_columns_can_be_chosen() -> None:
    values = {"prompt": "a", "response": "b", "question": "c", "answer": "d"}
    assert asked(values, "question", "answer") == ("c", "d")
    assert asked(values, "", "answer") == ("a", "d")
    assert asked({**values, "response_token_ids": [2]}, "question") == ("c", "b")
    whole = {"messages": [*CHAT, *SAID], "prompt": CHAT, "completion": SAID, "solution": "b"}
    assert asked(whole, "messages", "messages") == (CHAT, "b")
    assert asked(whole, "prompt", "solution") == (CHAT, "b")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"text": "a"}, "no column of prompt_token_ids, messages, prompt is there"),
        ({"prompt": "a"}, "no column of response_token_ids, response, completion is there"),
        ({"prompt": "a", "response": None}, "f, row 1: response is missing"),
        ({"prompt": "a", "response": ""}, "f, row 1: response is empty"),
        ({"prompt": "", "response": "b"}, "f, row 1: prompt is empty"),
        ({"prompt_token_ids": [1], "response_token_ids": []}, "f, row 1: response_token_ids is empty"),
        ({"prompt_token_ids": [], "response_token_ids": [1]}, "f, row 1: prompt_token_ids is empty"),
        ({"prompt": [1, 2], "response": "b"}, "f, row 1: prompt is token ids, and no text or chat"),
        ({"prompt": "a", "response": [1]}, "response is token ids and prompt text; both are to be token ids"),
        ({"messages": CHAT}, "f, row 1: messages is no chat that ends with an assistant's message"),
        (
            {"messages": [*CHAT, {"role": "assistant", "content": None, "tool_calls": [{}]}]},
            "f, row 1: message 2 of messages has no content; messages of text are scored",
        ),
        (
            {"prompt": [{"role": "user", "content": [{"type": "text"}]}], "response": "b"},
            "f, row 1: message 1 of prompt has the content list",
        ),
        (
            {"messages": [*CHAT, *SAID], "response": "b"},
            "f, row 1: messages ends with an assistant's message, and response would be scored as another "
            "one behind it. Name the column without the response: --prompt COLUMN; or, to score that last "
            "message, --prompt messages --response messages",
        ),
        (
            {"messages": "Hi", "response": "b"},
            "f, row 1: messages is text, and the text of no JSON with a chat",
        ),
        ({"messages": '["Hi"]', "response": "b"}, "messages is text, and the text of no JSON with a chat"),
        (
            {"prompt_token_ids": "[1]", "response_token_ids": "2 3"},
            "f, row 1: response_token_ids is text, and the text of no JSON with token ids",
        ),
        ({"prompt": json.dumps(CHAT), "response": "b"}, "f, row 1: prompt is a text that looks like a chat"),
        ({"prompt": str(CHAT * 2).replace(",", "\n"), "response": "b"}, "is a text that looks like a chat"),
        ({"prompt_token_ids": [1], "response": "b"}, "prompt_token_ids and response make no pair: token ids"),
    ],
)
def test_what_cannot_be_scored_is_named(values: dict[str, Any], says: str) -> None:
    with pytest.raises(AskedError, match=re.escape(says)):
        asked(values)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize(("name", "mark"), [("f.csv", ","), ("f.tsv", "\t"), ("g.csv", ";")])
def test_cells_are_scored_and_written_as_they_are(
    rlad: Command, tmp_path: Path, teacher: TextTeacher, name: str, mark: str
) -> None:
    cells = [["prompt", "response", " note"], ["a", " is a knight. ", ""], ["nan", '"nan"', " x"]]
    (tmp_path / name).write_text("".join(mark.join(row) + "\n" for row in cells))
    done = rlad("score", name, "--url", teacher.url, "--out", "out.jsonl")
    assert done.code == 0, done.err
    assert teacher.asked == [[" is a knight. ", "nan"]]
    first, second = lines(tmp_path / "out.jsonl")
    assert (first["prompt"], first["response"], first["note"]) == ("a", " is a knight. ", "")
    assert (second["prompt"], second["response"], second["note"]) == ("nan", "nan", " x")


def test_one_file_is_scored_by_two_teachers(rlad: Command, tmp_path: Path, teacher: TextTeacher) -> None:
    (tmp_path / "f.jsonl").write_text(json.dumps({"prompt": "a", "response": "b"}))
    assert rlad("score", "f.jsonl", "--url", teacher.url, "--out", "one.parquet").code == 0
    taken = rlad("score", "one.parquet", "--url", teacher.url, "--out", "two.parquet")
    assert taken.code == 2
    assert "has a column teacher_logprobs already, which would be added" in taken.err
    assert "--column-prefix PREFIX" in taken.err
    for out in ("two.parquet", "two.jsonl"):
        done = rlad("score", "one.parquet", "--url", teacher.url, "--column-prefix", "second_", "--out", out)
        assert done.code == 0, done.err
    [row] = pq.read_table(tmp_path / "two.parquet").to_pylist()
    assert row == {
        "prompt": "a", "response": "b", "teacher_logprobs": [-0.5], "response_token_ids": [7],
        "second_teacher_logprobs": [-0.5], "second_response_token_ids": [7],
    }  # fmt: skip
    assert lines(tmp_path / "two.jsonl") == [row]


def test_what_generate_wrote_is_scored_after_what_was_asked(tmp_path: Path) -> None:
    row = dict.fromkeys(CHATS.names) | {
        "messages": [*CHAT, *SAID],
        "prompt": CHAT,
        "completion": SAID,
    }
    pq.write_table(pa.Table.from_pylist([row], CHATS), tmp_path / "f.parquet")
    [row] = pq.read_table(tmp_path / "f.parquet").to_pylist()
    assert asked(row) == (CHAT, "b")
