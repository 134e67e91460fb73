"""`rlad generate` from its command line to the file: an endpoint answers over HTTP, what is right is kept.

The verifier's tasks judge here in the test's process; the service around them has tests of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fastapi import FastAPI
from rlad_command import Said
from served_app import running

from rlad_core import schema
from rlad_core.config import load
from rlad_core.prompt_checks import parts_of, read_parts
from rlad_core.prompt_stream import tasks_of
from rlad_core.tasks import Prompt
from rlad_core.tasks.knights_knaves.puzzle import Puzzle
from services.evaluate import measure

RECIPE = "own.yaml"


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Prompt]:
    """Two puzzles that a recipe trains on; their responses are judged without Ray."""
    part = {"people": [2], "count": 2}
    task = {"name": "knights_knaves", "train": {**part, "seed": 1}, "evaluation": {**part, "split": "test"}}
    (tmp_path / RECIPE).write_text(yaml.safe_dump({"extends": "kk-tiny-sft", "name": "own", "task": task}))
    config = load(tmp_path / RECIPE)
    tasks = tasks_of(config)

    class Judge:
        async def verdicts(self, responses: pa.Table) -> pa.Table:
            found = [tasks[row["task"]].verify(row["response"], row["gold"]) for row in responses.to_pylist()]
            return schema.build(
                schema.REWARDS,
                {
                    "sequence_id": responses["sequence_id"],
                    "reward": [each.reward for each in found],
                    "reward_parts": [each.parts for each in found],
                    "correct": [each.correct for each in found],
                    "verdict": [each.reason for each in found],
                },
            )

    @contextmanager
    def services(*_: Any) -> Iterator[Judge]:
        yield Judge()

    monkeypatch.setattr(measure, "cluster", lambda *_, **__: nullcontext())
    monkeypatch.setattr(measure, "deployed", lambda *_, **__: nullcontext(""))
    monkeypatch.setattr(measure, "_models_services", services)
    return read_parts(parts_of(config, "training"), "training", tasks).prompts


class Teacher:
    """An OpenAI-compatible endpoint that answers from a table.

    Args:
        answers: what the user asks -> response to the first try, to the second and so on.
    """

    def __init__(self, answers: dict[str, list[str]]) -> None:
        self.asked: Counter[tuple[str, int]] = Counter()
        self.app = FastAPI()

        @self.app.get("/v1/models")
        async def models() -> dict[str, Any]:
            return {"object": "list", "data": [{"id": "big", "object": "model"}]}

        @self.app.post("/v1/chat/completions")
        async def complete(body: dict[str, Any]) -> dict[str, Any]:
            asked, number = body["messages"][-1]["content"], body["seed"] - 7
            self.asked[asked, number] += 1
            message = {"role": "assistant", "content": answers[asked][number]}
            return {
                "object": "chat.completion",
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"completion_tokens": 9},
            }


def test_what_a_teacher_solves_is_kept_and_the_same_command_goes_on(
    rlad: Callable[..., Said], prompts: list[Prompt], tmp_path: Path
) -> None:
    first, second = (prompt.messages[-1]["content"] for prompt in prompts)
    right = {
        prompt.messages[-1]["content"]: f"<answer> {Puzzle.from_gold(prompt.gold).solution_text} </answer>"
        for prompt in prompts
    }
    short, long = (
        {asked: f"<think> {words} </think> {end}" for asked, end in right.items()}
        for words in ("Seen.", "Case by case.")
    )
    teacher = Teacher(
        {
            first: [short[first], short[first], "I give up.", long[first]],
            second: ["No.", long[second], short[second], "<think> ? </think> <answer> (1) </answer>"],
        }
    )
    out = tmp_path / "teacher.parquet"

    with running(teacher.app) as url:

        def generate(tries: int, *more: str) -> Said:
            said = rlad(
                "generate", RECIPE, "--endpoint", f"{url}/v1", "--model", "big", "--seed", "7",
                "--tries", str(tries), "--out", str(out), *more,
            )  # fmt: skip
            assert said.code == 0, said.err
            return said

        said = generate(3)
        assert "4 of 6 responses were accepted, 1 of them repeat another word by word; 3 are kept" in said.out
        assert "0 of 2 prompts have none" in said.out
        assert kept(out) == [(first, short[first]), (second, long[second]), (second, short[second])]
        assert teacher.asked == Counter({(asked, n): 1 for asked in (first, second) for n in range(3)})

        generate(3)  # nothing is left to ask
        assert teacher.asked.total() == 6
        said = generate(4)  # the fourth tries alone
        assert "5 of 8 responses were accepted" in said.out
        assert set(teacher.asked.values()) == {1}
        assert teacher.asked.total() == 8
        assert (first, long[first]) in kept(out)

        generate(4, "--keep", "1")
        assert kept(out) == [(first, short[first]), (second, long[second])]
        assert teacher.asked.total() == 8

    task = tasks_of(load(tmp_path / RECIPE))["knights_knaves"]
    golds = {prompt.prompt_id: prompt.gold for prompt in prompts}
    rows = pq.read_table(out).to_pylist()
    assert all(task.verify(row["solution"], golds[row["prompt_id"]]).correct for row in rows)
    assert {row["teacher"] for row in rows} == {"big"}


def test_a_name_of_another_format_is_refused(rlad: Callable[..., Said]) -> None:
    said = rlad("generate", "kk-tiny-sft", "rlad:kk-teacher", "--out", "teacher.jsonl")
    assert said.code == 2
    assert "--out teacher.jsonl: Parquet is written. Write teacher.parquet" in said.err


def test_where_no_prompt_fits_it_says_which_and_why(rlad: Callable[..., Said]) -> None:
    said = rlad("generate", "kk-tiny-sft", "rlad:kk-teacher", "--max-length", "8")
    assert said.code != 0
    told = " ".join(said.err.split())
    assert "no prompt can be used of: training knights_knaves, 2_people. Why, 4,000 times of 4,000:" in told
    assert "tokens, and policy.max_length is 8" in told


def kept(file: Path) -> list[tuple[str, str]]:
    """What the user asks and the response, a row of the file each."""
    rows = pq.read_table(file).to_pylist()
    return [(row["messages"][-2]["content"], row["messages"][-1]["content"]) for row in rows]
