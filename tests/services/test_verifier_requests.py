"""Requests to the verifier as JSON: gold, or a prompt whose gold the task finds. Without Ray."""

from typing import Any

import orjson
import pytest

from rlad_core.client.errors import UnknownNameError
from rlad_core.tasks.base import Task
from rlad_core.tasks.knights_knaves.puzzle import Puzzle
from rlad_core.tasks.knights_knaves.task import KnightsKnaves
from rlad_core.tasks.math.task import Math
from services.serve.http.bodies import Body
from services.serve.http.problems import ProblemError
from services.verifier.http import EXAMPLE, read_request
from services.verifier.settings import VerifierLimits

TASKS: dict[str, Task | None] = {"knights_knaves": KnightsKnaves(), "math": Math(), "my_task": None}
[PROMPT] = KnightsKnaves().prompts("train", "3_people", 1, seed=1)
PUZZLE = Puzzle.from_gold(PROMPT.gold)


def asked(**request: Any) -> list[dict[str, Any]]:
    rows = read_request(Body(orjson.dumps(request), "json", "json"), TASKS, VerifierLimits()).to_pylist()
    return [{key: row[key] for key in ("sequence_id", "task", "gold")} for row in rows]


def test_a_prompt_stands_for_its_gold() -> None:
    right = {"response": KnightsKnaves().demonstration(PROMPT.gold)}
    rows = asked(task="knights_knaves", prompt=PUZZLE.text, responses=[right, right])
    assert [row["gold"] for row in rows] == [PROMPT.gold] * 2
    assert KnightsKnaves().verify(right["response"], rows[0]["gold"]).correct
    # What a response brings is its own, whatever the request has.
    own = {**right, "id": "own", "task": "math", "gold": {"answer": "5"}}
    rows = asked(task="knights_knaves", prompt=PUZZLE.text, responses=[right, own])
    assert rows[1] == {"sequence_id": "own", "task": "math", "gold": '{"answer": "5"}'}


OPEN, EMPTY = "<think>\n", "<think>\n\n</think>\n\n"
ASKED = f"<|im_start|>user\n{PUZZLE.text}<|im_end|>\n<|im_start|>assistant\n"


def turns(**request: Any) -> list[str]:
    body = Body(orjson.dumps({"task": "knights_knaves", **request}), "json", "json")
    return [row["response"] for row in read_request(body, TASKS, VerifierLimits()).to_pylist()]


def test_what_the_prompt_opened_is_judged_with_the_response() -> None:
    thinking, _, answer = KnightsKnaves().demonstration(PROMPT.gold).partition("</think>")
    rest = f"{thinking.removeprefix('<think>')}</think>{answer}"
    for opened, response in ((OPEN, rest), (EMPTY, answer), ("", thinking + "</think>" + answer)):
        turn = opened + response
        assert KnightsKnaves().verify(turn, PROMPT.gold).correct
        assert turns(gold=PROMPT.gold, opened=opened, responses=[{"response": response}]) == [turn]
        # The prompt as the model read it says it by its end.
        assert turns(prompt=ASKED + opened, responses=[{"response": response}]) == [turn]
    assert turns(
        prompt=ASKED + OPEN,
        opened="<think>",
        responses=[{"response": "a"}, {"response": "b", "opened": ""}, {"response": "c", "opened": EMPTY}],
    ) == ["<think>a", "b", EMPTY + "c"]
    # Gold of its own: the request's prompt is not what was asked.
    own = {"response": "a", "gold": {"answer": "5"}}
    assert turns(prompt=ASKED + OPEN, responses=[own]) == ["a"]


def test_the_documented_example_is_taken() -> None:
    assert [row["gold"] for row in asked(**EXAMPLE)] == ['{"answer": "5"}'] * 2


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"task": "math", "prompt": "2 + 2?"}, "prompt: task math cannot find the answer from"),
        ({"task": "knights_knaves", "prompt": "2 + 2?"}, "prompt: no puzzle in the prompt"),
        (
            {"task": "my_task", "prompt": "2 + 2?"},
            "prompt: task 'my_task' is a user's own, which",
        ),
        ({"task": "math", "prompt": "2 + 2?", "gold": "4"}, "give one of gold, prompt"),
        (
            {"task": "math"},
            "responses[0].gold: missing, here and for the whole request, and a prompt as well",
        ),
        ({"gold": "4"}, "responses[0].task: missing"),
    ],
)
def test_what_is_at_fault_is_said(request_: dict[str, Any], says: str) -> None:
    with pytest.raises(ProblemError) as refused:
        asked(**request_, responses=[{"response": "x"}])
    assert refused.value.problem.status == 422
    assert says in str(refused.value.problem.detail)


@pytest.mark.parametrize("where", ["prompt", "responses[1].prompt"])
def test_a_prompt_too_long_to_be_solved_is_named(where: str) -> None:
    whole = (PUZZLE.text + " ").ljust(2**16)
    good = {"response": "x", "prompt": whole}
    assert [row["gold"] for row in asked(task="knights_knaves", responses=[good])] == [PROMPT.gold]
    if where == "prompt":
        request = {"prompt": whole + " ", "responses": [{"response": "x"}]}
    else:
        request = {"responses": [good, {"response": "x", "prompt": whole + " "}]}
    with pytest.raises(ProblemError) as refused:
        asked(task="knights_knaves", **request)
    assert refused.value.problem.status == 422
    assert refused.value.problem.detail == f"{where}: Expected `str` of length <= 65536"


def test_a_response_with_both_is_named() -> None:
    with pytest.raises(ProblemError) as refused:
        asked(task="math", responses=[{"response": "x", "gold": "4", "prompt": "2 + 2?"}])
    assert "responses[0]: give one of gold, prompt" in str(refused.value.problem.detail)


def test_a_prompt_of_an_unknown_task_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="task 'sudoku' is not judged here; known are knights_knaves"):
        asked(task="sudoku", prompt="1 _ 3", responses=[{"response": "2"}])
