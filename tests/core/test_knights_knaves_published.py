"""The project's solver, texts and verifier against puzzles that others made.

The rows lie in `data/knights_knaves/` of a folder named by the variable RLAD_SHARED, or in `shared` beside
the repository; without them these tests are skipped.
"""

import itertools
import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlad_core.tasks.knights_knaves import perturbations, published
from rlad_core.tasks.knights_knaves.generator import generate, split_of
from rlad_core.tasks.knights_knaves.islanders import KNIGHTS, OTHERS
from rlad_core.tasks.knights_knaves.names import COMMON, UNCOMMON
from rlad_core.tasks.knights_knaves.prompt import reply
from rlad_core.tasks.knights_knaves.puzzle import TEMPLATES, Puzzle, answer_lines, worked_in
from rlad_core.tasks.knights_knaves.reading import read
from rlad_core.tasks.knights_knaves.statements import solve
from rlad_core.tasks.knights_knaves.verifier import verify
from rlad_core.tasks.rows import read_file

SHARED = Path(os.environ.get("RLAD_SHARED", Path(__file__).parents[3] / "shared"))
FILES = sorted((SHARED / "data" / "knights_knaves").glob("*.parquet"))


def puzzles_of(path: Path) -> list[Puzzle]:
    """Those of a file, in its order, and no row is at fault."""
    found = read_file(str(path), None, published.PuzzleReader())
    assert not found.faults
    return [Puzzle.from_gold(row.gold) for _, row in found.rows]


needs_files = pytest.mark.skipif(not FILES, reason=f"no published puzzles below {SHARED}")


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def rows(request: pytest.FixtureRequest) -> list[tuple[Puzzle, dict]]:
    """Each puzzle of a file with the row it was read from."""
    stored = pq.read_table(request.param).to_pylist()
    return list(zip(puzzles_of(request.param), stored, strict=True))


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
        assert published.from_row({key: row[key] for key in ("prompt", "reward_model")}) == puzzle


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
                answer = answer_lines(puzzle.names, [KNIGHTS.role(truthful) for truthful in assignment])
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
    read = puzzles_of(tmp_path / "rows.parquet")
    assert read == puzzles
    assert {split_of(puzzle.names, puzzle.statements) for puzzle in read} == {"train"}


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("quiz", "Something else altogether.", "no puzzle in the prompt"),
        ("quiz", None, "no puzzle in column quiz, nor in prompt"),
        ("statements", "(('lying', 0),", "statements .* cannot be read"),
        ("statements", "__import__('os')", "statements .* cannot be read"),
        ("statements", "5", "they are no tuple"),
        ("statements", "(('lying', 1), ('lying', 0), ('lying', 0))", "contradicts the text"),
        ("solution", [True, True, True, True], "solution .* contradicts the text, which says"),
        ("solution", None, "nothing in solution"),
        ("names", None, "nothing in names"),
        ("names", ["A", "B", "C"], "names .* contradicts the text"),
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
    found = read_file(str(path), None, published.PuzzleReader())
    assert len(found.rows) == 2
    [fault] = found.faults
    assert fault.where == f"{path}, row 2"
    assert re.search(message, fault.reason)


def test_a_text_in_other_words_is_refused() -> None:
    [puzzle] = generate(3, "train", 0, 1)
    with pytest.raises(ValueError, match="no puzzle in the prompt"):
        published.from_row({"quiz": puzzle.text.replace("So who is", "Who is")})


def test_a_file_without_the_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"question": ["?"]}), path)
    with pytest.raises(ValueError, match="there is no column quiz or prompt; there is question"):
        puzzles_of(path)


ALTERED = [(kind, people) for kind in perturbations.KINDS for people in (2, 3, 6)]


@pytest.mark.parametrize(("kind", "people"), ALTERED)
def test_altered_puzzles_are_read_in_both_layouts(kind: str, people: int, tmp_path: Path) -> None:
    """As the perturbed sets of K-and-K are published, and as Logic-RL asks its puzzles."""
    puzzles = perturbations.generate(kind, people, "train", 0, 20)
    rows = [
        {
            "quiz": puzzle.text,
            "names": list(puzzle.names),
            "statements": str(puzzle.statements),
            "solution": list(puzzle.solution),
            "solution_text_format": puzzle.solution_text,
            "index": index,
        }
        for index, puzzle in enumerate(puzzles)
    ]
    path = tmp_path / f"{kind}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert puzzles_of(path) == puzzles
    for puzzle, row in zip(puzzles, rows, strict=True):
        templated = f"<|im_start|>user\n{puzzle.text}\n<|im_end|>\n<|im_start|>assistant\n<think>"
        truth = {key: row[key] for key in ("statements", "solution_text_format")}
        theirs = {"prompt": [{"role": "user", "content": templated}], "reward_model": {"ground_truth": truth}}
        assert published.from_row(theirs) == puzzle
        assert published.from_row({**theirs, "reward_model": {"ground_truth": row["solution_text_format"]}})
        truth["solution_text_format"] = truth["solution_text_format"] + "!"
        with pytest.raises(ValueError, match=r"solution_text_format .* contradicts"):
            published.from_row(theirs)
        assert verify(reply("", row["solution_text_format"]), puzzle).correct


# One row of each set, of people2_num100.jsonl or its like, with names and statements of our own.
PUBLISHED = {
    "flip_role": (
        "A very special island is inhabited only by knaves and knights. Knaves always tell the truth, and "
        "knights always lie. You meet 2 inhabitants: Zoey, and Ella. Zoey said that Ella is a knave. Ella "
        "told you that Zoey is a knight or Ella is a knave. So who is a knave and who is a knight?"
    ),
    "random_pair": (
        "A very special island is inhabited only by heros and villains. Heros always tell the truth, and "
        "villains always lie. You meet 2 inhabitants: Zoey, and Ella. Zoey said that Ella is a hero. Ella "
        "told you that Zoey is a villain or Ella is a hero. So who is a hero and who is a villain?"
    ),
    "random_pair with an": (
        "A very special island is inhabited only by angels and devils. Angels always tell the truth, and "
        "devils always lie. You meet 2 inhabitants: Zoey, and Ella. Zoey said that Ella is an angel. Ella "
        "told you that Zoey is a devil or Ella is an angel. So who is an angel and who is a devil?"
    ),
    "reorder_statement": (
        "A very special island is inhabited only by knights and knaves. Knights always tell the truth, "
        "and knaves always lie. You meet 2 inhabitants: Zoey, and Ella. Ella told you that Zoey is a "
        "knave or Ella is a knight. Zoey said that Ella is a knight. So who is a knight and who is a "
        "knave?"
    ),
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_the_words_are_those_of_the_published_sets(kind: str) -> None:
    puzzle = read(PUBLISHED[kind])
    plain = Puzzle(
        names=("Zoey", "Ella"),
        statements=(("telling-truth", 1), ("or", ("lying", 0), ("telling-truth", 1))),
        solution=(True, True),
        wording=(1, 2),
    )
    assert (puzzle.names, puzzle.statements, puzzle.solution) == (
        plain.names,
        plain.statements,
        plain.solution,
    )
    assert puzzle != plain


def test_the_public_generators_words() -> None:
    """Its pairs (lib_kk.py of AlphaPav/mem-kk-logic), and as many rare names as common ones."""
    assert {(each.truthful, each.lying) for each in OTHERS} == {
        ("pioneer", "laggard"),
        ("saint", "sinner"),
        ("hero", "villain"),
        ("angel", "devil"),
        ("altruist", "egoist"),
        ("sage", "fool"),
    }
    assert len(UNCOMMON) == 50
    assert {"Aeronwen", "Osiris", "Zora"} <= set(UNCOMMON)


@pytest.mark.parametrize("written", [json.dumps, repr], ids=["JSON", "Python"])
def test_a_row_may_hold_its_lists_as_text(written: Callable[[Any], str]) -> None:
    [puzzle] = generate(2, "train", 0, 1)
    named = {"names": written([*puzzle.names]), "solution": written([*puzzle.solution])}
    assert published.from_row({"quiz": puzzle.text, **named}).statements == puzzle.statements
    chat = {"prompt": written([{"role": "user", "content": puzzle.text}])}
    truth = {"reward_model": written({"ground_truth": {"solution_text_format": puzzle.solution_text}})}
    assert published.from_row({**chat, **truth}).statements == puzzle.statements


def test_a_worked_solution_beside_a_prompt_is_accepted_or_named() -> None:
    [puzzle] = generate(2, "train", 0, 1)
    right = f"<think> So. </think> <answer> {puzzle.solution_text} </answer>"
    reader = published.PuzzleReader()
    gold = reader.read({"prompt": puzzle.text, "solution": right}).gold
    assert (worked_in(gold), Puzzle.from_gold(gold)) == (right, puzzle)
    # The roles, or the lines of the answer, are no worked solution.
    for told in (list(puzzle.solution), str(list(puzzle.solution)), puzzle.solution_text, " ", None):
        assert worked_in(reader.read({"prompt": puzzle.text, "solution": told}).gold) is None
    with pytest.raises(ValueError, match="worked solution '<think> So' is not accepted: form"):
        reader.read({"prompt": puzzle.text, "solution": "<think> So"})
