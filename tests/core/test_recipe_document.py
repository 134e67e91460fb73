"""The page of a recipe's fields is the one that the fields give."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlad_core.config.recipe_document import markdown
from rlad_core.objectives import KINDS
from rlad_core.tasks import SECTIONS

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "recipe.md").read_text() == markdown(), (
        "docs/recipe.md is old: run `python -m rlad_core.config.recipe_document > docs/recipe.md`"
    )


@pytest.mark.parametrize(
    "row",
    [
        "| `prompts_per_step` | whole number > 0 | `32` |  |",
        "| `every` | whole number ≥ 0 | `0` | Also after every so many steps; 0: only before and after. |",
        "| `top_p` | number > 0 and ≤ 1 | `0.95` |  |",
        "| `min_lr` | number ≥ 0 | `0.0` | Where linear and cosine schedules end. |",
        "| `grad_clip` | number > 0 or null | `1.0` | Largest norm of the gradient; null for none. |",
        "| `weights` | section | as below |  |",
        "| `steps` | whole number > 0 |  |  |",
    ],
)
def test_a_field_s_row(row: str) -> None:
    assert row in markdown().splitlines()


def test_every_section_is_there_once() -> None:
    lines = markdown().splitlines()
    titles = ["`learner`", "`learner.lora`", "`stages`", "`stages.until`", "`teacher` with `kind: serve`"]
    titles += [f"`task` with `name: {name}`" for name in SECTIONS]
    titles += [f"`task.columns (name: {name})`" for name in ("math", "prompts")]
    for title in titles:
        assert sum(line.lstrip("# ") == title for line in lines if line.startswith("#")) == 1, title
    assert all(f"`stages.objective` with `kind: {kind}`" in markdown() for kind in KINDS)
