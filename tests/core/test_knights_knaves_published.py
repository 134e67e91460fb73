"""The project's solver, texts and verifier against puzzles that others made.

The rows lie in `data/knights_knaves/` of a folder named by the variable RLAD_SHARED, or in `shared` beside
the repository; without them these tests are skipped.
"""

import itertools
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlad_core.tasks.knights_knaves import published
from rlad_core.tasks.knights_knaves.generator import generate, split_of
from rlad_core.tasks.knights_knaves.names import COMMON
from rlad_core.tasks.knights_knaves.prompt import reply
from rlad_core.tasks.knights_knaves.puzzle import TEMPLATES, Puzzle, answer_lines, role
from rlad_core.tasks.knights_knaves.reading import read
from rlad_core.tasks.knights_knaves.statements import solve
from rlad_core.tasks.knights_knaves.verifier import verify

SHARED = Path(os.environ.get("RLAD_SHARED", Path(__file__).parents[3] / "shared"))
FILES = sorted((SHARED / "data" / "knights_knaves").glob("*.parquet"))

needs_files = pytest.mark.skipif(not FILES, reason=f"no published puzzles below {SHARED}")


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def rows(request: pytest.FixtureRequest) -> list[tuple[Puzzle, dict]]:
    """Each puzzle of a file with the row it was read from."""
    stored = pq.read_table(request.param).to_pylist()
    return list(zip(published.read(request.param), stored, strict=True))


@needs_files
def test_the_solver_agrees_with_the_stored_solution(rows: list[tuple[Puzzle, dict]]) -> None:
    for puzzle, row in rows:
        assert solve(puzzle.statements) == [tuple(row["solution"])]


@needs_files
def test_our_text_is_the_stored_one(rows: list[tuple[Puzzle, dict]]) -> None:
    for puzzle, row in rows:
        assert puzzle.text == row["quiz"]
        assert puzzle.solution_text == row["solution_text_format"]
    assert {index for puzzle, _ in rows for index in puzzle.wording} == set(range(len(TEMPLATES)))
    assert {name for puzzle, _ in rows for name in puzzle.names} <= set(COMMON)


@needs_files
def test_the_stored_text_alone_gives_the_puzzle(rows: list[tuple[Puzzle, dict]]) -> None:
    for puzzle, row in rows:
        assert read(row["quiz"]) == puzzle
        assert read(row["prompt"][0]["content"]) == puzzle


@needs_files
def test_the_verifier_accepts_the_stored_solution(rows: list[tuple[Puzzle, dict]]) -> None:
    for puzzle, row in rows:
        assert verify(reply("...", row["solution_text_format"]), puzzle).reward == 3
        assert verify(reply("...", row["solution_text"]), puzzle).reward == 3


@needs_files
def test_the_verifier_rejects_every_other_assignment(rows: list[tuple[Puzzle, dict]]) -> None:
    for puzzle, row in rows:
        for assignment in itertools.product((True, False), repeat=len(puzzle.names)):
            if list(assignment) != row["solution"]:
                answer = answer_lines(puzzle.names, [role(truthful) for truthful in assignment])
                verdict = verify(reply("...", answer), puzzle)
                assert (verdict.reward, verdict.correct) == (-0.5, False)


def write_rows(path: Path, puzzles: list[Puzzle]) -> None:
    pq.write_table(
        pa.table(
            {
                "quiz": [puzzle.text for puzzle in puzzles],
                "names": [list(puzzle.names) for puzzle in puzzles],
                "statements": [repr(puzzle.statements) for puzzle in puzzles],
                "solution": [list(puzzle.solution) for puzzle in puzzles],
            }
        ),
        path,
    )


def test_our_own_puzzles_survive_the_row_format(tmp_path: Path) -> None:
    puzzles = [puzzle for people in range(2, 9) for puzzle in generate(people, "train", 0, 20)]
    random.Random(0).shuffle(puzzles)
    write_rows(tmp_path / "rows.parquet", puzzles)
    read = published.read(tmp_path / "rows.parquet")
    assert read == puzzles
    assert {split_of(puzzle.names, puzzle.statements) for puzzle in read} == {"train"}


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("quiz", "Something else altogether.", "should begin with"),
        ("statements", "(('lying', 0),", "row 1"),
        ("statements", "__import__('os')", "row 1"),
        ("statements", "5", "row 1"),
        ("solution", [True, True, True, True], "row 1"),
        ("solution", None, "row 1"),
        ("names", None, "row 1"),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path: Path, column: str, value: object, message: str) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, generate(3, "train", 0, 3))
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[1] = value
    index = table.column_names.index(column)
    pq.write_table(table.set_column(index, column, pa.array(values, table.schema.field(column).type)), path)
    with pytest.raises(ValueError, match=message) as caught:
        published.read(path)
    assert f"{path}, row 1: " in str(caught.value)


def test_a_text_that_differs_from_its_statements_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, generate(3, "train", 0, 1))
    table = pq.read_table(path)
    quiz = [text.replace("So who is", "Who is") for text in table["quiz"].to_pylist()]
    pq.write_table(table.set_column(0, "quiz", pa.array(quiz)), path)
    with pytest.raises(ValueError, match="not the published one"):
        published.read(path)


def test_a_file_without_the_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"quiz": ["?"]}), path)
    with pytest.raises(ValueError, match=r"lacks the columns \['names', 'solution', 'statements'\]"):
        published.read(path)
