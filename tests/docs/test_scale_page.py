"""The table of docs/scale.md is the plan's."""

from __future__ import annotations

from pathlib import Path

from rlad_core.config import SHIPPED, load
from rlad_core.sizing import GIB, GPUS, needs, step_seconds, times

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()


def row(recipe: str) -> str:
    config, gpu = load(Path(recipe)), GPUS["RTX-4090" if recipe.endswith("-24gb") else "H200"]
    found = times(config, config.stages[0], gpu)
    memory = {need.role: f"{need.total / GIB:.1f}" for need in needs(config, gpu)}
    seconds = {each.stage: f"{each.seconds:,.0f}" for each in found}
    split = " + ".join(f"{each.gpus:g}" for each in found)
    cells = (
        f"`{recipe}`", memory["learner"], memory["rollout service"], memory["teacher service"],
        seconds["rollout"], seconds["teacher"], seconds["update"], f"{step_seconds(found):,.0f}",
        split,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def test_every_recipe_on_gpus_stands_there_with_what_the_plan_says() -> None:
    recipes = [path.stem for path in sorted((SHIPPED / "recipes").glob("*.yaml"))]
    rows = [row(recipe) for recipe in recipes if load(Path(recipe)).learner.num_gpus]
    lacking = [each for each in rows if each not in PAGE]
    assert not lacking, "docs/scale.md should have\n" + "\n".join(lacking)
