"""`rlad score`, rows that a teacher refuses, and a teacher that becomes another one."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rlad_command import Said
from text_teacher import TextTeacher, made_with, served

from rlad_core.client import AsyncTeacherClient, TeacherClient
from rlad_core.client.made_with import MixedError
from services.score.asked import Columns
from services.score.asking import Asking, Wanted
from services.score.parts import Parts
from services.score.scoring import ROWS_PER_PART, Source, asked_of, score_parts

Command = Callable[..., Said]


@pytest.fixture
def teacher() -> Iterator[TextTeacher]:
    with served() as teacher:
        yield teacher


def write(folder: Path, responses: list[str]) -> None:
    rows = [{"prompt": "a", "response": response} for response in responses]
    (folder / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def logprobs(folder: Path) -> list[list[float] | None]:
    text = (folder / "f.scored.jsonl").read_text()
    return [json.loads(line)["teacher_logprobs"] for line in text.splitlines()]


def test_what_was_scored_is_kept_where_rows_are_to_be_skipped(
    rlad: Command, tmp_path: Path, teacher: TextTeacher
) -> None:
    count = 3 * ROWS_PER_PART + 1
    write(tmp_path, ["b"] * (count - 1) + ["long"])
    stopped = rlad("score", "f.jsonl", "--url", teacher.url)
    assert stopped.code == 1
    assert f"f.jsonl, line {count}: " in stopped.err
    again = f"rlad score f.jsonl --url {teacher.url} --skip-refused"
    assert f"What was scored until then is kept. Skip what is refused:\n  {again}\n" in stopped.err
    kept = len(list((tmp_path / "f.scored.jsonl.parts").glob("0*.parquet")))
    teacher.asked.clear()
    done = rlad("score", "f.jsonl", "--url", teacher.url, "--skip-refused")
    assert done.code == 0, done.err
    assert f"1 of {count} rows were refused" in done.out
    assert sum(map(len, teacher.asked)) == count - kept * ROWS_PER_PART
    assert logprobs(tmp_path) == [[-0.5]] * (count - 1) + [None]


def test_rows_that_were_skipped_are_asked_for_again_where_they_matter(
    rlad: Command, tmp_path: Path, teacher: TextTeacher
) -> None:
    write(tmp_path, ["b", "long"])
    skipped = Wanted(skip_refused=True)
    source = Source("f.jsonl", Columns("prompt", "response"))

    async def keep() -> None:
        async with AsyncTeacherClient(teacher.url) as client:
            told = await client.info()
            parts = Parts(Path("f.scored.jsonl"), asked_of(source, skipped, told))
            await score_parts(source, parts, Asking(client, told, skipped), lambda *_: None)

    asyncio.run(keep())  # and the command was stopped before it wrote
    stopped = rlad("score", "f.jsonl", "--url", teacher.url)
    assert (stopped.code, "f.jsonl, line 2: " in stopped.err) == (1, True)
    assert rlad("score", "f.jsonl", "--url", teacher.url, "--skip-refused").code == 0


def test_one_row_among_many_is_found_in_few_requests(
    rlad: Command, tmp_path: Path, teacher: TextTeacher
) -> None:
    responses = ["b"] * ROWS_PER_PART
    responses[77] = "long"
    write(tmp_path, responses)
    done = rlad("score", "f.jsonl", "--url", teacher.url, "--skip-refused")
    assert done.code == 0, done.err
    assert [place for place, told in enumerate(logprobs(tmp_path)) if told is None] == [77]
    assert len(teacher.asked) == 15  # the whole, and two halves of each of the 7 that hold it


def test_a_file_of_which_all_is_refused_is_a_failure(
    rlad: Command, tmp_path: Path, teacher: TextTeacher
) -> None:
    write(tmp_path, ["long", "long"])
    done = rlad("score", "f.jsonl", "--url", teacher.url, "--skip-refused")
    assert done.code == 1
    assert "there is no score in it, since all rows were refused. f.jsonl, line 1: " in done.err
    assert "it is refused" in done.err
    assert "2 of 2 rows were refused" in done.out
    assert logprobs(tmp_path) == [None, None]


def test_scores_of_two_teachers_are_not_mixed(rlad: Command, tmp_path: Path, teacher: TextTeacher) -> None:
    teacher.weights, teacher.next_weights = "first", "second"
    write(tmp_path, ["b"] * (9 * ROWS_PER_PART))
    done = rlad("score", "f.jsonl", "--url", teacher.url)
    assert done.code == 1
    assert "answers with different things (weights: first and second)" in done.err
    assert "Once the former teacher is served again, the same command goes on" in done.err
    assert not (tmp_path / "f.scored.jsonl").exists()
    other = rlad("score", "f.jsonl", "--url", teacher.url)
    assert (other.code, "another weights has scored" in other.err) == (2, True)
    teacher.weights = "first"
    done = rlad("score", "f.jsonl", "--url", teacher.url)
    assert done.code == 0, done.err
    assert logprobs(tmp_path) == [[-0.5]] * (9 * ROWS_PER_PART)


def test_what_another_teacher_refuses_is_no_refused_row(
    rlad: Command, tmp_path: Path, teacher: TextTeacher
) -> None:
    teacher.weights, teacher.next_weights = "first", "second"
    write(tmp_path, ["long"])
    done = rlad("score", "f.jsonl", "--url", teacher.url, "--skip-refused")
    assert done.code == 1
    assert "weights: first and second" in done.err


def test_a_client_refuses_answers_of_different_teachers(teacher: TextTeacher) -> None:
    teacher.weights = "first"
    with TeacherClient(teacher.url) as client:
        texts = [("a", "b")]
        assert client.score_texts(texts, made_with=made_with("first"))
        with pytest.raises(MixedError, match="weights: other and first"):
            client.score_texts(texts, made_with=made_with("other"))
        teacher.next_weights = "second"
        many = [("a", f"{n} " * 20_000) for n in range(4)]  # of a request's tokens each has more than half
        with pytest.raises(MixedError, match="weights: "):
            client.score_texts(many)
