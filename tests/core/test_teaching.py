"""Several tasks and several teachers in one recipe: who teaches what, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlad_core.config import ConfigError, RunConfig, validate
from rlad_core.evaluation import ALL, AVERAGE
from rlad_core.prompt_stream import PromptStream, held_out_prompts, tasks_of
from rlad_core.tasks.knights_knaves.tiny import build_tokenizer

PUZZLES = {
    "name": "knights_knaves",
    "train": {"people": [2], "count": 5},
    "evaluation": {"people": [2], "count": 3},
}
SERVED = {"kind": "serve", "model": "owner/teacher"}
REMOTE = {"kind": "http", "url": "http://teacher:8000"}
TRRD = {"kind": "trrd"}


@pytest.fixture
def problems(tmp_path: Path) -> dict[str, Any]:
    """A task of 4 sums to train on and 2 to be asked."""
    for name, numbers in (("sums", range(4)), ("held", range(10, 12))):
        rows = [{"question": f"What is {n} + 1 ?", "answer": f"{n} + 1\n#### {n + 1}"} for n in numbers]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {
        "name": "math",
        "train": {"files": [{"path": str(tmp_path / "sums.jsonl"), "format": "gsm8k"}]},
        "evaluation": {"files": [{"path": str(tmp_path / "held.jsonl"), "format": "gsm8k"}]},
    }


def recipe(**sections: Any) -> RunConfig:
    objective = sections.pop("objective", TRRD)
    return validate(
        {
            "name": "several",
            "policy": {"model": "tiny:student", "init": "random", "max_length": 512},
            "rollout": {"max_response_length": 200},
            "stages": [{"steps": 1, "objective": objective}],
            **sections,
        },
        "the test",
    )


def refusals(**sections: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        recipe(**sections)
    return [str(problem) for problem in caught.value.problems]


def test_each_task_has_its_teacher(problems: dict[str, Any]) -> None:
    config = recipe(
        tasks=[PUZZLES, problems],
        teachers=[{**REMOTE, "tasks": ["math"]}, {**SERVED, "tasks": ["knights_knaves"]}],
    )
    assert config.teachers_of("math") == ("teachers.0",)
    assert config.teachers_of("knights_knaves") == ("teachers.1",)
    assert list(config.served_teachers) == ["teachers.1"]


def test_a_lone_teacher_teaches_every_task(problems: dict[str, Any]) -> None:
    config = recipe(tasks=[PUZZLES, problems], teacher=SERVED)
    assert [config.teachers_of(name) for name in ("math", "knights_knaves")] == [("teacher",)] * 2


def test_the_tasks_are_shuffled_together_and_evaluated_one_by_one(problems: dict[str, Any]) -> None:
    config = recipe(tasks=[PUZZLES, problems], teacher=SERVED)
    stream = PromptStream(config, build_tokenizer(1024))
    epoch = stream.prompts(range(9))
    assert sorted(prompt.task for prompt in epoch) == ["knights_knaves"] * 5 + ["math"] * 4
    assert [prompt.subset for prompt in held_out_prompts(config, tasks_of(config))] == ["2_people"] * 3 + [
        "held"
    ] * 2
    # Each with the worked solution of its own task.
    first = {prompt.task: prompt for prompt in epoch}
    table = stream.demonstrations(list(first.values()), list(first))
    assert table.num_rows == 2


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"teacher": SERVED}, "task (not set): is needed"),
        ({"task": PUZZLES, "tasks": [PUZZLES], "teacher": SERVED}, "tasks (1): task is there too"),
        ({"tasks": [PUZZLES, PUZZLES], "teacher": SERVED}, "tasks.1.name ('knights_knaves'): is there twice"),
        ({"task": PUZZLES, "teacher": SERVED, "teachers": [SERVED]}, "teachers (1): teacher is there too"),
        ({"task": PUZZLES}, "teacher (null): stages.0.objective (trrd) needs a teacher"),
        (
            {"task": PUZZLES, "teachers": [SERVED, REMOTE]},
            "teachers.1.tasks (null): teachers.0 teaches knights_knaves already",
        ),
        (
            {"task": PUZZLES, "teacher": {**SERVED, "tasks": ["chess"]}},
            "teacher.tasks ('chess'): is no task of this recipe",
        ),
        (
            {"task": PUZZLES, "teachers": [{**SERVED, "tasks": ["knights_knaves"], "model": 3}]},
            "teachers.0.model (3): is no text",
        ),
        (
            {"task": PUZZLES, "teacher": REMOTE, "objective": {"kind": "sft", "source": "teacher"}},
            "teacher.kind ('http'): stages.0.objective (sft, source: teacher) samples from the teacher",
        ),
    ],
)
def test_what_does_not_fit_is_refused(sections: dict[str, Any], says: str) -> None:
    assert any(line.startswith(says) for line in refusals(**sections)), refusals(**sections)


def test_a_task_that_nobody_teaches_is_named(problems: dict[str, Any]) -> None:
    taught = refusals(tasks=[PUZZLES, problems], teachers=[{**SERVED, "tasks": ["math"]}])
    assert len(taught) == 1
    assert "nobody teaches knights_knaves" in taught[0]


def test_two_tasks_do_not_report_under_one_name(problems: dict[str, Any]) -> None:
    problems["evaluation"]["files"][0]["name"] = "2_people"
    [line] = refusals(tasks=[PUZZLES, problems], teacher=SERVED)
    assert "tasks.0 reports a subset of that name already" in line


@pytest.mark.parametrize("name", [ALL, AVERAGE])
def test_a_subset_is_not_called_as_the_lines_over_several_are(problems: dict[str, Any], name: str) -> None:
    problems["evaluation"]["files"][0]["name"] = name
    recipe(task=problems, teacher=SERVED)  # alone it is taken for no other line
    [line] = refusals(tasks=[PUZZLES, problems], teacher=SERVED)
    assert line.startswith(f"tasks.1.evaluation ('{name}'): is what tables call a line over several subsets")


def test_only_one_teacher_can_demonstrate(problems: dict[str, Any]) -> None:
    found = refusals(
        tasks=[PUZZLES, problems],
        teachers=[{**SERVED, "tasks": ["math"]}, {**SERVED, "tasks": ["knights_knaves"]}],
        objective={"kind": "sft", "source": "teacher"},
    )
    assert any("one for all tasks" in line for line in found)


EXACT = {"kind": "trrd", "anchor": "normalised", "source": "hidden"}


def test_an_exact_normaliser_pulls_hidden_states_and_no_likely_tokens() -> None:
    config = recipe(task=PUZZLES, teacher=SERVED, objective=EXACT)
    assert config.needs_hidden_states
    assert config.teacher_top_k == 0
    assert not recipe(
        task=PUZZLES, teacher=SERVED, objective={**EXACT, "source": "top_k"}
    ).needs_hidden_states
    assert not recipe(task=PUZZLES, teacher=SERVED, objective={**EXACT, "alpha": 1.0}).needs_hidden_states


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"teacher": REMOTE},
            "teacher.kind ('http'): source: hidden pulls hidden states from a teacher in the",
        ),
        (
            {"teacher": {"kind": "openai", "url": "http://teacher:8000", "model": "m"}},
            "Write kind: serve with engine: torch, or source: top_k",
        ),
        ({"teacher": {**SERVED, "engine": "vllm"}}, "teacher.engine ('vllm'): tells no hidden states"),
        ({"teacher": {**SERVED, "sleep": True}}, "teacher.sleep (true): it is asked for hidden states while"),
        (
            {"teacher": {**SERVED, "prefix": "{solution}"}},
            "asks for hidden states. Leave it out, or write source: top_k in",
        ),
        (
            {"teachers": [{**SERVED, "weight": 1}, {**SERVED, "weight": 2}]},
            "teachers (2): source: hidden has the learner hold one teacher's head. Write teacher: {...}, or "
            "an objective of the response's tokens, such as trrd with anchor: paper",
        ),
        ({"teacher": SERVED, "objective": {"kind": "trrd", "source": "hidden"}}, "with anchor: paper"),
        ({"teacher": SERVED, "objective": {**EXACT, "top_k": 8}}, "has no effect with source: hidden"),
    ],
)
def test_who_cannot_tell_hidden_states_is_refused(sections: dict[str, Any], said: str) -> None:
    assert said in "\n".join(refusals(task=PUZZLES, **{"objective": EXACT, **sections}))


def test_the_way_out_of_hidden_states_is_a_recipe(problems: dict[str, Any]) -> None:
    mixed = [{**SERVED, "weight": 1}, {**SERVED, "weight": 2}]
    recipe(task=PUZZLES, teachers=mixed, objective={"kind": "trrd", "anchor": "paper"})
    apart = [{**SERVED, "tasks": ["math"]}, {**SERVED, "tasks": ["knights_knaves"]}]
    two = {"tasks": [PUZZLES, problems], "teachers": apart}
    assert any(
        line.endswith("or source: top_k in the objective.") for line in refusals(**two, objective=EXACT)
    )
    recipe(**two, objective={**EXACT, "source": "top_k"})


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        (
            {**SERVED, "engine": "vllm"},
            "teacher.engine ('vllm'): cannot be asked for the log-probs of likely tokens",
        ),
        (
            {"kind": "openai", "url": "http://teacher:8000", "model": "m"},
            "teacher.kind ('openai'): cannot be asked for the log-probs of likely tokens",
        ),
        (SERVED, None),
        (REMOTE, None),
    ],
)
def test_tokens_that_the_policy_names_are_asked_of_who_can_tell_them(
    teacher: dict[str, Any], said: str | None
) -> None:
    objective = {"kind": "gkd", "top_of": "policy"}
    if said is None:
        assert recipe(task=PUZZLES, teacher=teacher, objective=objective).policy_top_k == 64
    else:
        [found] = refusals(task=PUZZLES, teacher=teacher, objective=objective)
        assert found.startswith(said)


@pytest.mark.parametrize("objective", [{"kind": "gkd"}, {"kind": "trrd", "anchor": "normalised"}])
def test_a_teacher_of_ones_own_tells_no_likely_tokens(tmp_path: Path, objective: dict[str, Any]) -> None:
    place = tmp_path / "own.py"
    place.write_text(
        "from rlad_core.config.teachers import OwnTeacher\n\n\n"
        "class Mine(OwnTeacher):\n    async def score(self, sequences):\n        return None\n"
    )
    [found] = refusals(task=PUZZLES, teacher={"kind": f"{place}:Mine"}, objective=objective)
    assert "does not tell the log-probs of likely tokens" in found
    assert recipe(task=PUZZLES, teacher={"kind": f"{place}:Mine"}).teacher is not None
