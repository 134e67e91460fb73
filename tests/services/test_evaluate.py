"""Benchmarks on an OpenAI-compatible endpoint, which is a stock vLLM server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluate_command import answers, evaluate
from rlad_command import Said

from rlad_core.evaluation import rows_of
from rlad_core.tasks.knights_knaves.generator import generate
from services.report.answers import kept_in

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


def test_benchmarks_on_an_endpoint(stock_server: str, tmp_path: Path, rlad: Callable[..., Said]) -> None:
    write_suite(tmp_path / "data")
    printed = evaluate(
        tmp_path,
        *("--endpoint", f"{stock_server}/v1", "--model", "kk", "--concurrency", "8"),
        *("--suite", "kk,amc23,aime25", "--data", "data", "--max-response-length", "200"),
    )
    assert "amc23 has 4 problems here, and 40 as it was published" in printed
    assert "Traceback" not in printed
    [folder] = (tmp_path / "evaluations").iterdir()
    assert folder.name.startswith("kk-")
    table = kept_in(folder)[0].read()
    rows = {row.subset: row for row in rows_of(table)}
    assert list(rows) == ["2_people", "3_people", "amc23", "aime25", "average", "all"]
    # The problems that are in two benchmarks were answered once, and judged in each.
    assert rows["all"].prompts == 2 * PUZZLES + 4
    assert len(answers(folder)) == 2 * PUZZLES + 4 + SHARED
    by_prompt: dict[str, set[str]] = {}
    for (prompt, _, _), response in answers(folder).items():
        by_prompt.setdefault(prompt, set()).add(response)
    assert all(len(responses) == 1 for responses in by_prompt.values())
    # The teacher, which the server has, knows puzzles and no maths; 200 tokens are few for three people.
    assert rows["2_people"].accuracy > 0.8
    assert rows["amc23"].accuracy == 0
    mean = sum(rows[subset].accuracy for subset in list(rows)[:4]) / 4
    assert rows["average"].accuracy == pytest.approx(mean)
    assert rows["3_people"].cut_off + rows["amc23"].cut_off + rows["amc23"].format_errors > 0

    said = rlad("show", str(folder), "--wrong", "--subset", "amc23", "--limit", "2")
    assert said.code == 0
    assert said.out.count("sample 0") == 2
    assert "[user]" in said.out  # the chat in words: the template is the server's
    assert rlad("report", str(folder)).code == 0
    assert "3 people" in (folder / "report.html").read_text()


def test_an_endpoint_that_is_not_there_is_said_at_once(stock_server: str, tmp_path: Path) -> None:
    printed = evaluate(tmp_path, "--endpoint", stock_server, "--model", "other", "--people", "2", code=2)
    assert f"other: {stock_server}/v1 serves kk, not other; correct --model" in printed
    printed = evaluate(tmp_path, "http://127.0.0.1:9", "--people", "2", code=2)
    assert "http://127.0.0.1:9/v1/policy did not succeed within 10 s" in printed
    assert not list(tmp_path.glob("evaluations/*"))
