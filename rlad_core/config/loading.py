"""Recipes from their files, with overrides, and as text."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rlad_core.config.checks import evaluation_problems, run_problems
from rlad_core.config.evaluation_recipe import EvaluationRecipe, Recipe
from rlad_core.config.extending import extended
from rlad_core.config.models import SHIPPED, model_problems
from rlad_core.config.run import RunConfig
from rlad_core.config.yaml_text import dump_values, parse
from rlad_core.sections.findings import problems_of
from rlad_core.sections.paths import FOLDER, expanded, typed
from rlad_core.sections.problems import ConfigError, Problem


def load(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a recipe.

    Args:
        path: a YAML file, or the name of a recipe that ships with the project (``kk-tiny-trrd``). It may
            extend another one, see `rlad_core.config.extending`.
        overrides: assignments such as ``learner.lr=1e-5`` or ``stages.0.steps=5``; values are YAML.

    Raises:
        ConfigError: the file, an override, a field, or a combination of fields is wrong. All
            problems are listed at once, except that fields are compared with each other only when each
            is right by itself.
    """
    return read(path).config(overrides)


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as its file has it, from which any number of runs are made that each change other fields.

    Attributes:
        file: where it was read.
        values: what it says, with what it extends.
    """

    file: Path
    values: Any

    def config(self, overrides: Sequence[str] = (), typed_in: Path | None = None) -> RunConfig:
        """The recipe with these assignments, as :func:`load` has it.

        Args:
            typed_in: folder that relative paths in them start from; None: the current one.

        Raises:
            ConfigError: as for :func:`load`.
        """
        folder = _folder_of(self.file)
        return validate(self.values, str(self.file), overrides, folder, typed_in)


def read(path: str | Path) -> RecipeFile:
    """Read a recipe's file, and those that it extends; its fields are not checked yet.

    Raises:
        ConfigError: there is no such file, or it is no YAML.
    """
    file = _find(expanded(str(path)))
    return RecipeFile(file, extended(_read(file), file, _read, _find))


def _read(file: Path) -> Any:
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), [Problem("the recipe", str(file), f"is no YAML: {error}")]) from error
    except OSError as error:
        raise ConfigError(
            str(file), [Problem("the recipe", str(file), f"cannot be read: {error}")]
        ) from error


def validate(
    data: Any,
    source: str,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
    typed_in: Path | None = None,
) -> RunConfig:
    """Check a recipe that was read already.

    Args:
        data: what the YAML says; not changed.
        source: where it came from, for the message.
        overrides: as for :func:`load`.
        folder: that relative paths in `data` start from; None: the current one.
        typed_in: the same for those in `overrides`.

    Raises:
        ConfigError: as for :func:`load`.
    """
    config = _validated(RunConfig, data, source, overrides, folder, typed_in)
    _refuse(source, [*run_problems(config), *model_problems(config), *_file_problems(config)])
    return config


def validate_evaluation(data: Any, source: str) -> EvaluationRecipe:
    """Check the recipe of an evaluation alone, whose relative paths start from the current folder.

    Raises:
        ConfigError: as for :func:`load`.
    """
    config = _validated(EvaluationRecipe, data, source)
    _refuse(source, [*evaluation_problems(config), *model_problems(config), *_file_problems(config)])
    return config


def _validated(
    kind: type[Recipe],
    data: Any,
    source: str,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
    typed_in: Path | None = None,
) -> Recipe:
    if not isinstance(data, dict):
        advice = "has no keys. Write 'key: value' lines; name, policy, task and stages are needed"
        raise ConfigError(source, [Problem("the recipe", data, advice)])
    if "variants" in data and "recipe" in data:
        advice = f"is a suite of runs and no recipe. Carry it out with rlad compare {shlex.quote(source)}"
        raise ConfigError(source, [Problem("the recipe", source, advice)])
    problems: list[Problem] = []
    for override in overrides:
        try:
            data = assign(data, override, typed_in)
        except ValueError as error:
            problems.append(Problem("--set", override, str(error)))
    try:
        config = kind.model_validate(data, context={FOLDER: folder})
    except ValidationError as error:
        raise ConfigError(source, problems + problems_of(error, kind)) from None
    _refuse(source, problems)
    return config


def _refuse(source: str, problems: Sequence[Problem]) -> None:
    if problems:
        raise ConfigError(source, problems)


def _file_problems(config: EvaluationRecipe) -> Iterator[Problem]:
    for place, task in config.task_sections.items():
        here = () if config.cluster.is_joined else task.missing_files()
        for problem in (*here, *task.file_problems()):
            yield replace(problem, path=f"{place}.{problem.path}")


def _folder_of(file: Path) -> Path | None:
    """Where a recipe's relative paths start; one that ships with the project has none of its own."""
    return None if file.is_relative_to(SHIPPED) else file.absolute().parent


def dump(config: RunConfig) -> str:
    """Write a recipe with every default spelled out, as YAML; :func:`load` reads back the same run."""
    return dump_values(config.model_dump(mode="json"))


def is_recipe(text: str) -> bool:
    """Whether a text names a recipe: a YAML file, or one that ships with the project."""
    return text.endswith((".yaml", ".yml")) or os.path.isfile(_shipped(Path(text)))


def _shipped(name: Path) -> Path:
    return SHIPPED / "recipes" / f"{name}.yaml"


def _find(path: Path) -> Path:
    for file in (path, _shipped(path)):
        if os.path.isfile(file):
            return file
    names = ", ".join(sorted(recipe.stem for recipe in (SHIPPED / "recipes").glob("*.yaml"))) or "(none)"
    what = "is a folder without a recipe.yaml" if os.path.isdir(path) else "there is no such file"
    advice = f"{what}. Write the path of one, or a recipe's name: {names}"
    if os.path.isfile(inside := path / "recipe.yaml"):  # of `rlad init`, or of a run
        advice = f"is a folder. Write {inside}"
    raise ConfigError(str(path), [Problem("the recipe", str(path), advice)])


def assign(data: Any, override: str, typed_in: Path | None = None) -> Any:
    """A copy of ``data`` with one ``path=value`` assigned, as ``--set`` does it; the value is YAML.

    Args:
        typed_in: folder that a relative path in the value starts from; None: the current one.

    Raises:
        ValueError: no assignment, no YAML, or a path that leads nowhere; says what to write.
    """
    path, equals, text = override.partition("=")
    if not equals or not path.strip():
        raise ValueError("is no assignment. Write path=value, such as learner.lr=1e-5")
    try:
        value = typed(parse(text), typed_in)
    except yaml.YAMLError as error:
        raise ValueError(f"its value is no YAML ({str(error).splitlines()[0]}). Put it in quotes") from error
    return _with(data, path.strip().split("."), value, done=())


def assigned(data: Any, overrides: Sequence[str]) -> Any:
    """A copy of ``data`` with each assigned, see `assign`.

    Raises:
        ValueError: likewise; names the option and what was written.
    """
    for override in overrides:
        try:
            data = assign(data, override)
        except ValueError as error:
            raise ValueError(f"--set {override}: {error}") from error
    return data


def with_value(data: Any, path: str, value: Any) -> Any:
    """A copy of a recipe's values with another one at a path such as ``stages.0.steps``.

    Raises:
        ValueError: the path leads nowhere.
    """
    return _with(data, path.split("."), value, done=())


def _with(data: Any, steps: Sequence[str], value: Any, done: tuple[str, ...]) -> Any:
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    here = ".".join(done)
    if isinstance(data, list):
        if not step.isdecimal() or int(step) >= len(data):
            raise ValueError(
                f"{here} is a list of {len(data)}. Write a place from 0 to {len(data) - 1}, not '{step}'"
            )
        changed = list(data)
        changed[int(step)] = _with(data[int(step)], rest, value, (*done, step))
        return changed
    if data is not None and not isinstance(data, dict):
        raise ValueError(f"{here} is {data!r} and has no '{step}' in it. Write {here}=... instead")
    return {**(data or {}), step: _with((data or {}).get(step), rest, value, (*done, step))}
