"""What a chat template opens of the model's turn reaches whoever judges it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schema_tables import MINE, rollouts

from rlad_core import schema
from rlad_core.tasks.base import Prompt
from rlad_core.tasks.knights_knaves.task import KnightsKnaves
from rlad_core.tasks.math.task import Math
from rlad_core.turn import opened_by, rest_of, without_opening

OPEN, EMPTY = "<think>\n", "<think>\n\n</think>\n\n"
PUZZLES = KnightsKnaves()
[PROMPT] = PUZZLES.prompts("train", "3_people", 1, seed=0)
TURN = PUZZLES.demonstration(PROMPT.gold)


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("<|im_start|>assistant\n", ""),
        ("<\uff5cAssistant\uff5c><think>\n", OPEN),
        ("<|im_start|>assistant\n<think>", "<think>"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", EMPTY),
        ("assistant\n<think>\nI need not think.\n</think>\n\n", "<think>\nI need not think.\n</think>\n\n"),
        # What a user says has the template's marks behind it.
        ("<|im_start|>user\nBegin with <think><|im_end|>\n<|im_start|>assistant\n", ""),
        ("user: <think> reasoning </think><answer> (1) </answer>\nassistant:", ""),
        ("Assistant: Let me solve this step by step.\n<think>", "<think>"),
        ("", ""),
        ("x" * 100_000 + "assistant\n<think>\n", OPEN),
    ],
)
def test_what_prompts_open(prompt: str, opened: str) -> None:
    assert opened_by(prompt) == opened


@given(st.sampled_from([OPEN, EMPTY, "<think>", ""]), st.text(alphabet="<b> \na"), st.booleans())
def test_the_rest_of_any_turn_leaves_no_thoughts_open_or_twice(opened: str, reply: str, thinks: bool) -> None:
    turn = f"<think> because </think>{reply}" if thinks else reply
    whole = opened + rest_of(turn, opened)
    assert whole.count("<think>") == whole.count("</think>") == bool(opened or thinks)
    assert whole.startswith(opened)
    assert whole.rstrip().endswith(reply.strip())


@pytest.mark.parametrize(
    ("opened", "response", "left"),
    [
        ("", "<think> so", "<think> so"),
        (OPEN, "<think>\n\nso", "\nso"),
        (OPEN, "<think>so, and cut off", "so, and cut off"),
        (OPEN, " <think> because </think> so", "because </think> so"),
        (OPEN, "because </think> so", "because </think> so"),
        (OPEN, "it says <think>", "it says <think>"),
        ("<think>", "<think>\nso", "\nso"),
        (EMPTY, "<think>\n\n</think>\n\nso", "so"),
        (EMPTY, "<think></think>so", "so"),
        (EMPTY, "<think> because </think> so", "<think> because </think> so"),
        (EMPTY, "so", "so"),
    ],
)
def test_what_a_response_repeats_of_the_prompt(opened: str, response: str, left: str) -> None:
    assert without_opening(response, opened) == left


@pytest.mark.parametrize("opened", ["", OPEN, EMPTY, "<think>"])
def test_a_demonstration_goes_on_where_the_prompt_ends(opened: str) -> None:
    verdict = PUZZLES.verify(opened + rest_of(TURN, opened), PROMPT.gold)
    assert (verdict.reward, verdict.correct) == (3.0, True), verdict.reason
    solution = "Two and two are $\\boxed{4}$."
    assert Math().verify(opened + rest_of(solution, opened), '{"answer": "4"}').correct


def judged(opened: str, responses: list[str]) -> list[float]:
    """Rewards of responses to a prompt of a template that opens this, on the way that a run takes."""
    count = len(responses)
    table = rollouts(
        count, prompt_id=[PROMPT.prompt_id] * count, response=responses, finish_reason=["stop"] * count
    )
    asked = schema.build(schema.PROMPTS, [_row(PROMPT, opened)], tokenizer_fingerprint=MINE)
    columns: dict[str, Any] = schema.to_responses(table, asked).to_pydict()
    assert columns["response"] == [opened + response for response in responses]
    return [PUZZLES.verify(turn, PROMPT.gold).reward for turn in columns["response"]]


def _row(prompt: Prompt, opened: str) -> dict[str, Any]:
    return {
        "prompt_id": prompt.prompt_id,
        "task": prompt.task,
        "subset": prompt.subset,
        "prompt": f"<|user|>{prompt.messages[-1]['content']}<|assistant|>{opened}",
        "prompt_token_ids": [1],
        "gold": prompt.gold,
    }


def test_a_run_judges_the_whole_turn() -> None:
    answer = TURN.partition("</think>")[2]
    assert judged("", [TURN, answer]) == [3.0, -3.0]
    assert judged(OPEN, [TURN.removeprefix("<think>"), TURN, answer]) == [3.0, -3.0, -3.0]
    assert judged(EMPTY, [answer, TURN]) == [3.0, -3.0]


def test_thoughts_that_were_cut_off_give_no_answer() -> None:
    cut_off = "So far I think it is \\boxed{4}, but let me"
    assert Math().verify(cut_off, '{"answer": "4"}').correct
    assert not Math().verify(OPEN + cut_off, '{"answer": "4"}').correct
    assert Math().verify(OPEN + cut_off + "</think> It is \\boxed{4}.", '{"answer": "4"}').correct
