"""Models side by side, here and behind a stock vLLM server: one table, their difference, the responses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluate_command import answers, evaluate
from rlad_command import Said

from rlad_core.evaluation import EvaluationRow, rows_of
from rlad_core.tasks.knights_knaves.generator import generate
from services.evaluate.store import read_answers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PUZZLES, SHARED = 12, 2


def write_suite(data: Path) -> None:
    """Puzzles of two and three people, as the hub has them, and two problems that are in two benchmarks."""
    for people in (2, 3):
        rows = [
            {
                "quiz": puzzle.text,
                "names": puzzle.names,
                "solution": puzzle.solution,
                "statements": repr(puzzle.statements),
            }
            for puzzle in generate(people, "test", 0, PUZZLES, "common")
        ]
        file = data / "kk" / "test" / f"people{people}_num100.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = [{"question": f"What is {place} + 1?", "answer": float(place + 1)} for place in range(4)]
    (data / "amc23.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    shared = [{**row, "answer": str(row["answer"])} for row in problems[:SHARED]]
    (data / "aime25.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shared))


def test_two_models_on_benchmarks(stock_server: str, tmp_path: Path, rlad: Callable[..., Said]) -> None:
    write_suite(tmp_path / "data")
    printed = evaluate(
        tmp_path,
        *("rlad:kk-student", "--endpoint", f"{stock_server}/v1", "--model", "kk", "--concurrency", "8"),
        *("--suite", "kk,amc23,aime25", "--data", "data", "--max-response-length", "200"),
    )
    assert "amc23 has 4 problems here, and 40 as it was published" in printed
    assert "Traceback" not in printed
    folders = {path.name.rpartition("-")[0]: path for path in (tmp_path / "evaluations").iterdir()}
    assert set(folders) == {"rlad-kk-student", "kk"}
    subsets = ["2_people", "3_people", "amc23", "aime25"]
    found: dict[str, dict[str, EvaluationRow]] = {}
    for name, folder in folders.items():
        table = read_answers(folder)
        assert table is not None
        rows = {row.subset: row for row in rows_of(table)}
        assert set(rows) == {*subsets, "average", "all"}
        # The problems that are in two benchmarks were answered once, and judged in each.
        assert rows["all"].prompts == 2 * PUZZLES + 4
        assert len(answers(folder)) == 2 * PUZZLES + 4 + SHARED
        by_prompt: dict[str, set[str]] = {}
        for (prompt, _, _), response in answers(folder).items():
            by_prompt.setdefault(prompt, set()).add(response)
        assert all(len(responses) == 1 for responses in by_prompt.values())
        found[name] = rows
    # The teacher, which the stock server has, is better at puzzles than the student; neither knows maths.
    teacher, student = found["kk"], found["rlad-kk-student"]
    assert teacher["2_people"].accuracy > student["2_people"].accuracy
    assert teacher["amc23"].accuracy == student["amc23"].accuracy == 0
    assert re.search(r"kk against rlad:kk-student", printed)
    assert re.search(r"2_people +│ +│? *12", printed.replace("2 people", "2_people"))

    # What is kept can be read: on a terminal, and on a page.
    student_folder = str(folders["rlad-kk-student"])
    said = rlad("show", student_folder, "--wrong", "--subset", "3_people", "--limit", "2")
    assert said.code == 0
    assert said.out.count("sample 0") == 2
    assert "response, by the policy" in said.out
    said = rlad("show", str(folders["kk"]), "--limit", "1")
    assert "<think>" in said.out
    assert rlad("report", student_folder).code == 0
    page = (folders["rlad-kk-student"] / "report.html").read_text()
    assert "3 people" in page
    assert 'title="policy -' in page
