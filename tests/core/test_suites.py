"""Suites are read as the hub has them, and what is missing is named with the command that fetches it."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlad_core.suites import SUITES
from rlad_core.suites.prompts import SuiteError, SuitePrompts, prompts_in
from rlad_core.tasks import Prompt
from rlad_core.tasks.knights_knaves.generator import generate
from rlad_core.tasks.math.task import Math

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

PUZZLES = [
    {
        "quiz": puzzle.text,
        "names": list(puzzle.names),
        "solution": list(puzzle.solution),
        "statements": repr(puzzle.statements),
        "index": place,
    }
    for place, puzzle in enumerate(generate(2, "test", 0, 3, "common"))
]

#: Suite, the file's place below the folder of --data, its rows, and the answers that are read.
LAYOUTS: dict[str, tuple[str, str, list[dict[str, Any]], list[str]]] = {
    "what our command fetches": (
        "aime24",
        "aime24/data/train-00000-of-00001.parquet",
        [{"id": 60, "problem": "A", "solution": "so \\boxed{9}", "answer": "204", "year": "2024"}],
        ["204"],
    ),
    "owner and name": (
        "aime24",
        "Maxwell-Jia/AIME_2024/aime_2024_problems.parquet",
        [{"ID": "2024-I-1", "Problem": "A", "Solution": "...", "Answer": 73}],
        ["73"],
    ),
    "whole numbers": (
        "aime25",
        "MathArena/aime_2025/data/train-00000-of-00001.parquet",
        [{"problem_idx": 1, "problem": "A", "answer": 70, "problem_type": ["Number Theory"]}],
        ["70"],
    ),
    "JSON lines": (
        "aime25",
        "AIME2025/aime2025-I.jsonl",
        [{"question": "A", "answer": "70"}, {"question": "B", "answer": "336^\\circ"}],
        ["70", "336^\\circ"],
    ),
    "decimals that are whole": (
        "amc23",
        "amc23/data/test-00000-of-00001.parquet",
        [{"id": 0, "question": "A", "answer": 27.0}, {"id": 1, "question": "B", "answer": 2.5}],
        ["27", "2.5"],
    ),
    "the same as text": ("amc23", "amc23/test.jsonl", [{"question": "A", "answer": "27.0"}], ["27.0"]),
    "amc24": ("amc24", "2024_AMC12/amc12-2024.jsonl", [{"problem": "A", "answer": "18"}], ["18"]),
    "an answer beside the solution": (
        "math500",
        "math500/test.jsonl",
        [{"problem": "A", "solution": "it is \\boxed{1}", "answer": "\\frac{1}{2}", "level": 2}],
        ["\\frac{1}{2}"],
    ),
    "a solution alone": (
        "math500",
        "math500/test.jsonl",
        [{"problem": "A", "solution": "not \\boxed{1} but \\boxed{2}"}],
        ["2"],
    ),
    "a worked answer": (
        "gsm8k",
        "gsm8k/main/test-00000-of-00001.parquet",
        [{"question": "A", "answer": "He has 3 * 4 = <<3*4=12>>12.\n#### 1,012"}],
        ["1,012"],
    ),
    "verl's rows": (
        "aime24",
        "aime24.parquet",
        [{"prompt": [{"role": "user", "content": "A"}], "reward_model": {"ground_truth": "204"}}],
        ["204"],
    ),
    "the hub's converted files": (
        "gsm8k",
        "gsm8k/main/test/0000.parquet",
        [{"question": "A", "answer": "#### 5"}],
        ["5"],
    ),
    "the hub's converted files of another set": (
        "math500",
        "math500/default/test/0000.parquet",
        [{"problem": "A", "answer": "5"}],
        ["5"],
    ),
    "a file of its name": ("aime24", "aime24.json", [{"problem": "A", "answer": "5"}], ["5"]),
    "the hub's cache": (
        "gsm8k",
        "hub/datasets--openai--gsm8k/snapshots/abc/main/test-00000-of-00001.parquet",
        [{"question": "A", "answer": "#### 5"}],
        ["5"],
    ),
}


def suite_prompts(names: list[str], data: Path, count: int | None = None) -> SuitePrompts:
    return prompts_in(data, SUITES, names, count=count)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def answer(prompt: Prompt) -> str:
    return str(json.loads(prompt.gold)["answer"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_as_the_hub_has_them(tmp_path: Path, layout: str) -> None:
    suite, place, rows, answers = LAYOUTS[layout]
    write(tmp_path / place, rows)
    found = suite_prompts([suite], tmp_path)
    assert [answer(prompt) for prompt in found.prompts] == answers
    assert {(prompt.subset, prompt.task) for prompt in found.prompts} == {(suite, "math")}
    assert all("\\boxed" in prompt.messages[-1]["content"] for prompt in found.prompts)
    assert Math().verify(f"\\boxed{{{answers[0]}}}", found.prompts[0].gold).correct
    expected = SUITES[suite].problems
    told = f"{suite} has {len(rows)} problems here, and {expected} as it was published"
    assert found.remarks == ([told] if expected else [])


@pytest.mark.parametrize(
    "place", ["kk/test/people2_num100.jsonl", "kk/2ppl/test.parquet", "2ppl_train.parquet"]
)
def test_puzzles(tmp_path: Path, place: str) -> None:
    write(tmp_path / place, PUZZLES)
    write(tmp_path / "kk" / "train" / "people3_num200.jsonl", [{"quiz": "not read"}])
    if place.startswith("2ppl"):
        (tmp_path / "kk" / "train" / "people3_num200.jsonl").unlink()
    found = suite_prompts(["kk"], tmp_path)
    assert [prompt.messages[-1]["content"] for prompt in found.prompts] == [row["quiz"] for row in PUZZLES]
    assert {prompt.subset for prompt in found.prompts} == {"2_people"}
    assert bool(found.remarks) == ("train" in place)


def test_test_files_are_not_taken_for_others(tmp_path: Path) -> None:
    for place in ("main/train-0.parquet", "socratic/test-0.parquet"):
        write(tmp_path / "gsm8k" / place, [{"question": place, "answer": "#### 1"}])
    write(tmp_path / "gsm8k" / "main" / "test-0.parquet", [{"question": "A", "answer": "#### 2"}])
    assert [answer(prompt) for prompt in suite_prompts(["gsm8k"], tmp_path).prompts] == ["2"]
    (tmp_path / "math500").mkdir()
    write(tmp_path / "math500" / "train.jsonl", [{"problem": "A", "answer": "2"}])
    with pytest.raises(SuiteError, match="no files of math500"):
        suite_prompts(["math500"], tmp_path)


def test_the_same_problem_in_two_files_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "aime24" / "a.parquet", [{"problem": "A", "answer": 33, "solution": "It is 33."}])
    write(
        tmp_path / "aime24" / "b.jsonl", [{"problem": "A", "answer": "33"}, {"problem": "B", "answer": "4"}]
    )
    assert [answer(prompt) for prompt in suite_prompts(["aime24"], tmp_path).prompts] == ["33", "4"]
    write(tmp_path / "aime24" / "c.jsonl", [{"problem": "A", "answer": "34"}])
    with pytest.raises(SuiteError, match="with another answer"):
        suite_prompts(["aime24"], tmp_path)


def test_what_is_missing_is_named_with_its_command(tmp_path: Path) -> None:
    data = tmp_path / "my data"
    write(data / "amc23.jsonl", [{"question": "A", "answer": 1}])
    with pytest.raises(SuiteError) as caught:
        suite_prompts(["amc23", "gsm8k", "kk"], data)
    first, *commands = str(caught.value).splitlines()
    assert first == f"{data} has no files of gsm8k, kk. Fetch them with"
    assert [shlex.split(command) for command in commands] == [
        ["hf", "download", repository, "--repo-type", "dataset", "--local-dir", f"{data}/{name}"]
        for name, repository in (("gsm8k", "openai/gsm8k"), ("kk", "K-and-K/knights-and-knaves"))
    ]
    with pytest.raises(SuiteError, match=r"there is no suite aime26; there is kk, aime24, aime25"):
        suite_prompts(["aime26"], data)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"question": "A", "answer": None}], "line 1 is no row of amc23: nothing in column answer"),
        ([{"question": "A", "answer": float("nan")}], "line 1 is no row of amc23: the answer is nan"),
        (
            [{"question": "A", "answer": 1}, {"answer": 2}],
            "line 2 is no row of amc23: there is no column prompt, question",
        ),
        ([{"question": "A", "answer": 1}, {"question": "A", "answer": 2}], "line 2: the problem of .*line 1"),
        ([], "there are no rows in"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_place(
    tmp_path: Path, rows: list[dict[str, Any]], said: str
) -> None:
    write(tmp_path / "amc23.jsonl", rows)
    with pytest.raises(SuiteError, match=said):
        suite_prompts(["amc23"], tmp_path)


def test_a_pointer_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "aime24.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(SuiteError, match=r"aime24: .*is a pointer of Git LFS"):
        suite_prompts(["aime24"], tmp_path)


def test_so_many_of_each(tmp_path: Path) -> None:
    rows = [{"question": f"Q{place}", "answer": place} for place in range(20)]
    write(tmp_path / "amc23.jsonl", [*rows, rows[0]])
    write(tmp_path / "aime25.jsonl", rows[:4])
    assert len(suite_prompts(["amc23"], tmp_path).prompts) == 20
    few = suite_prompts(["amc23", "aime25"], tmp_path, count=5).prompts
    assert [prompt.subset for prompt in few] == ["amc23"] * 5 + ["aime25"] * 4
    assert few == suite_prompts(["amc23", "aime25"], tmp_path, count=5).prompts
    # The same problem in two suites is a problem of each.
    assert few[-1].prompt_id in {p.prompt_id for p in suite_prompts(["amc23"], tmp_path).prompts}


def test_sample_files() -> None:
    if not SHARED.is_dir():
        pytest.skip("the sample data are not here")
    found = suite_prompts(["aime24", "aime25", "kk"], SHARED)
    subsets = [prompt.subset for prompt in found.prompts]
    counts = {subset: subsets.count(subset) for subset in dict.fromkeys(subsets)}
    assert counts == {"aime24": 30, "aime25": 30, "3_people": 900, "5_people": 900, "7_people": 900}
