"""The table of docs/scale.md is the plan's."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlad_core.config import SHIPPED, RunConfig, load
from rlad_core.sizing import GIB, GPUS, Gpu, evaluation_seconds, needs, step_seconds, times
from services.run.plan_sizes import slow_evaluation

BENCHMARKS = 645
"""Problems of MATH500, AMC23, AMC24, AIME24 and AIME25, which the recipes for math name by their files."""
PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()


def evaluation(config: RunConfig, gpu: Gpu) -> float:
    parts = [part for task in config.task_sections.values() for part in task.evaluation_parts]
    problems = BENCHMARKS if "math" in config.name else sum(part.count or 0 for part in parts)
    found = evaluation_seconds(config, problems, gpu)
    assert found is not None
    return found


def row(recipe: str) -> str:
    config, gpu = load(Path(recipe)), GPUS["RTX-4090" if recipe.endswith("-24gb") else "H200"]
    found = times(config, config.stages[0], gpu)
    memory = {need.role: f"{need.total / GIB:.1f}" for need in needs(config, gpu)}
    seconds = {each.stage: f"{each.seconds:,.0f}" for each in found}
    split = " + ".join(f"{each.gpus:g}" for each in found)
    cells = (
        f"`{recipe}`", memory["learner"], memory["rollout service"], memory["teacher service"],
        seconds["rollout"], seconds["teacher"], seconds["update"], f"{step_seconds(found):,.0f}",
        f"{evaluation(config, gpu):,.0f}", split,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def test_every_recipe_on_gpus_stands_there_with_what_the_plan_says() -> None:
    recipes = [path.stem for path in sorted((SHIPPED / "recipes").glob("*.yaml"))]
    rows = [row(recipe) for recipe in recipes if load(Path(recipe)).learner.num_gpus]
    lacking = [each for each in rows if each not in PAGE]
    assert not lacking, "docs/scale.md should have\n" + "\n".join(lacking)


def test_the_plan_says_where_an_evaluation_outlasts_the_learner() -> None:
    config, gpu = load(Path("qwen3-0.6b-kk-trrd")), GPUS["H100"]
    assert slow_evaluation(config, gpu) is None
    long = load(Path("qwen3-0.6b-kk-trrd"), ["evaluation.samples=512"])
    assert "the learner waits 1,800 s" in (slow_evaluation(long, gpu) or "")


@pytest.mark.parametrize("name", ["H100", "A100-80GB"])
def test_no_recipe_gives_up_what_takes_long_and_does_not_hang(name: str) -> None:
    """Not even where every response is as long as it may be, on the GPUs that the recipes are for."""
    for path in sorted((SHIPPED / "recipes").glob("*.yaml")):
        config = load(path)
        if not config.learner.num_gpus:
            continue
        seconds = {each.stage: each.seconds for each in times(config, config.stages[0], GPUS[name])}
        assert seconds["rollout"] < config.rollout.timeout_s, path.stem
        [teacher] = config.served_teachers.values()
        assert seconds["teacher"] < teacher.timeout_s, path.stem
        batch = max(seconds["rollout"], seconds["teacher"])
        assert max(batch, evaluation(config, GPUS[name])) < config.learner.timeout_s, path.stem
