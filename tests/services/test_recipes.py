"""The recipes of the paper's runs: planned without error, GPUs split as the plan itself would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlad_core.config import SHIPPED, ConfigError, load
from rlad_core.sizing import GPUS, balanced, times
from services.cli.app import app

PAPER = sorted(recipe.stem for recipe in (SHIPPED / "recipes").glob("*.yaml") if "tiny" not in recipe.stem)


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("gpu", ["H100", "H200"])
def test_it_is_planned(name: str, gpu: str, tmp_path: Path) -> None:
    if name.endswith("-24gb"):
        gpu = "RTX-4090"
    ran = CliRunner().invoke(app, ["plan", name, "--gpu", gpu, "--set", f"output.dir={tmp_path}"])
    assert ran.exit_code == 0, ran.output
    assert "takes longest" in ran.output


def test_a_model_whose_size_is_not_known_is_named(tmp_path: Path) -> None:
    settings = ("--set", "policy.model=owner/name", "--set", f"output.dir={tmp_path}")
    ran = CliRunner().invoke(app, ["plan", PAPER[0], *settings])
    assert ran.exit_code == 0, ran.output
    assert "Not estimated, since its size is not known here: policy.model owner/name" in ran.output


@pytest.mark.parametrize("name", PAPER)
def test_gpus_are_split_as_the_plan_would(name: str) -> None:
    config, gpu = load(Path(name)), GPUS["H200"]
    found = times(config, config.stages[0], gpu)
    assert found == balanced(config, config.stages[0], gpu)
    if all(each.gpus >= 1 for each in found):
        assert sum(each.gpus for each in found) == (64 if name.endswith("-math-trrd") else 8)


def write(folder: Path, name: str, *lines: str) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text("\n".join(lines))
    return file


def problem(file: Path, overrides: Sequence[str] = ()) -> str:
    with pytest.raises(ConfigError) as raised:
        load(file, overrides)
    return str(raised.value)


def test_a_recipe_is_laid_over_the_one_it_extends(tmp_path: Path) -> None:
    write(tmp_path, "first", "extends: kk-tiny-trrd", "seed: 7", "learner: {lr: 0.5, betas: [0.1, 0.2]}")
    changes = ("extends: first.yaml", "name: second", "learner: {betas: [0.3, 0.4]}")
    second = write(tmp_path, "second", *changes)
    base, config = load(Path("kk-tiny-trrd")), load(second, ["learner.lr=0.25"])
    assert (config.name, config.seed, config.learner.lr, config.learner.betas) == (
        "second",
        7,
        0.25,
        (0.3, 0.4),
    )
    assert config.stages == base.stages
    assert config.learner.workers == base.learner.workers


def test_what_cannot_be_extended(tmp_path: Path) -> None:
    assert "is no recipe in" in problem(write(tmp_path, "a", "extends: nothing-here"))
    assert "is no name" in problem(write(tmp_path, "a", "extends: ../a"))
    assert "is no name" in problem(write(tmp_path, "a", "extends: 3"))
    write(tmp_path, "b", "extends: a")
    assert "and so itself" in problem(write(tmp_path, "a", "extends: b"))
    write(tmp_path, "b", "extends: nothing-here.yaml")
    said = problem(write(tmp_path, "a", "extends: b"))
    assert said.startswith(f"{tmp_path}/b.yaml:")  # that a.yaml stands in its place would mislead
    assert "extends ('nothing-here.yaml')" in said
    write(tmp_path, "b", "- a list")
    assert "has no keys" in problem(write(tmp_path, "a", "extends: b"))
