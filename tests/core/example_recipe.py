"""A small recipe for tests, and what is said when it is changed into one that cannot run."""

from __future__ import annotations

import pytest

from rlad_core.config import ConfigError, RunConfig, parse, validate

RECIPE = """
name: example
policy: {model: "tiny:student", init: random, max_length: 512}
teacher: {kind: serve, model: owner/teacher}
task: {name: knights_knaves, train: {people: [2, 3]}, evaluation: {people: [2, 3]}}
rollout: {max_response_length: 256}
stages:
  - {steps: 10, objective: {kind: trrd, alpha: 0.3}}
  - {steps: 5, objective: {kind: grpo}, lr: 2e-6, name: sharpen}
"""


def read(*overrides: str) -> RunConfig:
    return validate(parse(RECIPE), source="recipe.yaml", overrides=overrides)


def refusal(*overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(*overrides)
    return caught.value


def the_problem(*overrides: str) -> str:
    """The one problem with the recipe, as its line."""
    problems = refusal(*overrides).problems
    assert len(problems) == 1, "\n".join(map(str, problems))
    return str(problems[0])
