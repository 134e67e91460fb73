"""docs/extending.md: its four examples are run from the text of the page, three of them in one run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pages import files, page, plain, run, sections
from transformers import AutoModelForCausalLM

from rlad_core import schema
from rlad_core.config import RunConfig, load, resolve_model, validate_evaluation
from rlad_core.config.yaml_text import dump_values, parse
from rlad_core.objectives import TokenBatch
from rlad_core.tasks import Asked, Task, TaskSpec, Verdict, own_task, section_of
from services.cli.init import write
from services.cli.service_settings import with_tasks
from services.verifier.checking.messages import Check, Outcome
from services.verifier.checking.pool import CheckPool

PAGE = page("extending.md")
SECTIONS = sections(PAGE)
EXAMPLES = {
    "A reward": "reward.py",
    "A task": "sums.py",
    "An objective": "objective.py",
    "A teacher": "teacher.py",
}


def begun(folder: Path, *titles: str) -> Path:
    """The recipe of `rlad init` with the lines of some sections, and their files beside it."""
    write(folder, "prompts")
    recipe = folder / "recipe.yaml"
    values: dict[str, Any] = parse(recipe.read_text())
    for title in titles:
        for name, text in files(SECTIONS[title]).items():
            if name == recipe.name:
                values |= parse(text)
            else:
                (folder / name).write_text(text)
    recipe.write_text(dump_values(values))
    return recipe


@pytest.mark.parametrize(("title", "file"), EXAMPLES.items())
def test_a_section_is_short_and_its_recipe_is_right(title: str, file: str, tmp_path: Path) -> None:
    assert len(SECTIONS[title].splitlines()) + 1 < 60
    assert set(files(SECTIONS[title])) == {file, "recipe.yaml"}
    assert load(begun(tmp_path / "mine", title)).code_places


def judged(spec: TaskSpec, *checks: tuple[str, str]) -> list[Outcome]:
    """What worker processes say of these responses with their gold."""

    async def judge() -> list[Outcome]:
        pool = CheckPool({"mine": spec}, workers=1, time_limit_s=1.0, memory_limit_bytes=2**28)
        try:
            await pool.start()
            return await pool.judge([Check("mine", response, gold) for response, gold in checks])
        finally:
            pool.close()

    return asyncio.run(judge())


def test_the_reward_judges_in_worker_processes(tmp_path: Path) -> None:
    config = load(begun(tmp_path / "mine", "A reward"))
    assert config.task is not None
    gold = config.task.task().prompts("train", "train", 1, 0)[0].gold
    answer = json.loads(gold)["gold"]
    outcomes = judged(
        config.task.judge(),
        (f"<think> So. </think><answer> {answer} </answer>", gold),
        (f"{'so ' * 100}<answer>{answer}</answer>", gold),
        ("<answer> I do not know </answer>", gold),
    )
    verdicts = [each for each in outcomes if isinstance(each, Verdict)]
    over = 100 + len(answer.split()) - 60
    assert [each.reward for each in verdicts] == pytest.approx([1.0, 1 - 0.001 * over, 0.0])
    assert [each.correct for each in verdicts] == [True, True, False]
    assert [each.parts for each in verdicts] == [{"over": 0.0}, {"over": over}, {"over": 0.0}]


def test_what_goes_wrong_is_told_as_the_page_says(tmp_path: Path) -> None:
    shown = [line.strip() for line in SECTIONS["What goes wrong"].splitlines() if "counts as wrong" in line]
    bodies = ("while True: pass", "return 1 / 0", "return float('nan')")
    assert len(shown) == len(bodies)
    for line, body in zip(shown, bodies, strict=True):
        (tmp_path / "reward.py").write_text(f"def score(response):\n    {body}\n")
        _, spec = own_task(f"{tmp_path}/reward.py:score")
        [outcome] = judged(spec, ("a", "b"))
        assert not isinstance(outcome, Verdict)
        beginning, _, rest = line.partition(" ...;")
        said = f"the check {outcome.why}; counts as wrong"
        assert plain(said) == plain(line) if not rest else plain(said).startswith(plain(beginning))


def test_the_task_asks_and_judges(tmp_path: Path) -> None:
    config = load(begun(tmp_path / "mine", "A task"))
    assert config.task is not None
    task = config.task.task()
    assert (config.task.label, tuple(task.subsets)) == ("Sums", ("small", "large"))
    asked = {
        split: {
            prompt.prompt_id for subset in task.subsets for prompt in task.prompts(split, subset, None, 0)
        }
        for split in ("train", "validation", "test")
    }
    assert not asked["train"] & asked["test"]
    assert not asked["train"] & asked["validation"]
    assert not asked["test"] & asked["validation"]
    assert _prompts(task, config) == _prompts(task, config)
    [prompt] = task.prompts("test", "small", 1, seed=3)
    first, second = (int(each) for each in prompt.messages[0]["content"].strip("What is?").split(" + "))
    assert int(prompt.gold) == first + second
    right, wrong, silent = judged(
        config.task.judge(),
        (f"It is {first + second}.", prompt.gold),
        ("9" * 10_000, prompt.gold),
        ("What?", prompt.gold),
    )
    assert right == Verdict(1.0, {"number": 1.0}, True, f"{prompt.gold}, for {prompt.gold}")
    assert wrong == Verdict(0.0, {"number": 1.0}, False, f"{'9' * 20}, for {prompt.gold}")
    assert silent == Verdict(0.0, {"number": 0.0}, False, f"no number, for {prompt.gold}")


def _prompts(task: Task, config: RunConfig) -> list[str]:
    assert config.task is not None
    parts = (*config.task.train_parts, *config.task.evaluation_parts)
    asked = [task.prompts(part.split, part.subset, part.count, part.seed) for part in parts]
    assert [len(prompts) for prompts in asked] == [part.count for part in parts]
    return [prompt.prompt_id for prompts in asked for prompt in prompts]


def test_the_objective_has_the_loss_that_the_page_says(tmp_path: Path) -> None:
    objective = load(begun(tmp_path / "mine", "An objective")).stages[0].objective
    assert (objective.label, objective.needs_teacher) == ("Pulled", True)
    policy = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    batch = TokenBatch(
        policy_logprobs=policy,
        old_logprobs=policy.detach(),
        rollout_logprobs=policy.detach(),
        teacher_logprobs=torch.tensor([-0.5, -6.0, -0.5]),
        advantages=torch.tensor([1.0, 1.0, -1.0]),
        weights=torch.tensor([0.5, 0.25, 0.25]),
    )
    output = objective(batch, 0)
    # Gaps 0.5, -4 clamped to -1, 0; with pull 0.2 the advantages 1.1, 0.8, -1; at the first update rho = 1.
    assert output.loss.item() == pytest.approx(-(0.5 * 1.1 + 0.25 * 0.8 - 0.25 * 1.0))
    output.loss.backward()
    torch.testing.assert_close(policy.grad, torch.tensor([-0.55, -0.2, 0.25]))
    assert output.statistics["gap"].mean == pytest.approx(-0.5 / 3)


def test_the_teacher_tells_what_its_model_says(tmp_path: Path) -> None:
    teacher = load(begun(tmp_path / "mine", "A teacher")).teacher
    assert teacher is not None
    asked = [([5, 6, 7], [8, 9]), ([10], [11, 12, 13]), ([5, 6, 7], [1])]
    table = schema.build(
        schema.SEQUENCES,
        {
            "sequence_id": ["a", "b", "c"],
            "prompt_token_ids": [prompt for prompt, _ in asked],
            "response_token_ids": [response for _, response in asked],
        },
        tokenizer_fingerprint="0" * 64,
    )
    scores = asyncio.run(teacher.score(table))  # type: ignore[attr-defined]
    schema.validate(scores, schema.TEACHER_SCORES)
    assert scores["sequence_id"].to_pylist() == ["a", "b", "c"]
    assert schema.fingerprint_of(scores) == schema.fingerprint_of(table)
    model = AutoModelForCausalLM.from_pretrained(resolve_model("rlad:kk-teacher"))
    for (prompt, response), logprobs in zip(asked, scores["teacher_logprobs"].to_pylist(), strict=True):
        # One token after another, without what comes after it.
        for place, token in enumerate(response):
            with torch.inference_mode():
                logits = model(torch.tensor([[*prompt, *response[:place]]])).logits[0, -1].double().numpy()
            expected = logits[token] - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
            assert logprobs[place] == pytest.approx(expected, abs=1e-4)


def test_the_commands_of_the_page_take_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(tmp_path / "mine", "A reward", "A task")
    monkeypatch.chdir(tmp_path / "mine")
    shown = [line.strip() for line in PAGE.splitlines() if line.startswith("      rlad ")]
    evaluate, of_a_recipe, serve = (line.split() for line in shown)
    assert (evaluate[:2], serve[:3]) == (["rlad", "evaluate"], ["rlad", "serve", "verifier"])
    assert [*evaluate[:4], "recipe.yaml"] == of_a_recipe  # tests/services/test_cli.py gives it one
    section = section_of(evaluate[evaluate.index("--task") + 1], Asked(count=8))
    recipe = validate_evaluation(
        {
            "name": "evaluation",
            "policy": {"model": evaluate[2], "max_length": 512},
            "task": section,
            "rollout": {"max_response_length": 400},
        },
        "the page",
    )
    assert recipe.task is not None
    assert [(part.subset, part.count) for part in recipe.task.evaluation_parts] == [
        ("small", 8),
        ("large", 8),
    ]
    places = [serve[index + 1] for index, word in enumerate(serve) if word == "--task"]
    assert set(with_tasks({}, places)["tasks"]) >= {"Sums", "score"}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_reward_objective_and_teacher_of_ones_own_in_one_run(tmp_path: Path) -> None:
    """They reach every process of the run; the run keeps them."""
    recipe = begun(tmp_path / "mine", "A reward", "An objective", "A teacher")
    few = ("stages.0.steps=2", "rollout.group_size=4", "task.evaluation.files.0.count=4")
    code, printed = run(f"rlad run recipe.yaml {' '.join(f'--set {each}' for each in few)}", recipe.parent)
    assert code == 0, printed[-4000:]
    run_dir = recipe.parent / "runs" / "mine"
    steps = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in steps] == ["Pulled", "Pulled"]
    for row in steps:
        assert -1 <= row["gap"] <= 1
        assert row["gradient_norm"] > 0
        assert {"teacher", "verify"} <= row["seconds"].keys()
    sampled = schema.from_ipc(next((run_dir / "experience").iterdir()).read_bytes())
    assert {name for parts in sampled["reward_parts"].to_pylist() for name, _ in parts} == {"over"}
    assert sampled["teacher_logprobs"].null_count == 0
    origin = json.loads((run_dir / "code" / "origin.json").read_text())
    assert {Path(path).name for path in origin} == {"reward.py", "objective.py", "teacher.py"}
    assert load(run_dir / "recipe.yaml").teacher is not None
