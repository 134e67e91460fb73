"""The table of docs/scale.md is the plan's."""

from __future__ import annotations

from pathlib import Path

from rlad_core.config import SHIPPED, load
from rlad_core.sizing import GIB, GPUS, balanced, needs, step_seconds, times

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
GPU = GPUS["H200"]


def row(recipe: str) -> str:
    config = load(Path(recipe))
    found = times(config, config.stages[0], GPU)
    memory = {need.role: f"{need.total / GIB:.1f}" for need in needs(config, GPU)}
    seconds = {each.stage: f"{each.seconds:,.0f}" for each in found}
    split, wanted = (" + ".join(f"{each.gpus:g}" for each in stages) for stages in (found, balanced(found)))
    cells = (
        f"`{recipe}`", memory["learner"], memory["rollout service"], memory["teacher service"],
        seconds["rollout"], seconds["teacher"], seconds["update"], f"{step_seconds(found):,.0f}",
        f"{split} ({wanted})",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def test_every_recipe_on_gpus_stands_there_with_what_the_plan_says() -> None:
    recipes = [path.stem for path in sorted((SHIPPED / "recipes").glob("*.yaml"))]
    for recipe in recipes:
        if load(Path(recipe)).learner.num_gpus:
            assert row(recipe) in PAGE, f"docs/scale.md should have {row(recipe)}"
