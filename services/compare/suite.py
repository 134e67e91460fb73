"""A suite: which runs are compared. One YAML file.

name: mine
recipe: kk-tiny-trrd            # a file, or a recipe that ships; what all variants share
set: {stages.0.steps: 40}       # fields of it that all variants change
seeds: [0, 1, 2]
variants:
  trrd: {}
  grpo: {set: {stages.0.objective: {kind: grpo}}}
  kdrl:
    set: {stages.0.objective: {kind: kdrl}}
    tune: {learner.lr: [2.0e-4, 4.0e-4, 8.0e-4]}   # tried first, on the tuning's own problems
tuning: {seed: 100, set: {task.evaluation.split: validation}}

Paths in it, of the recipe and in what is set and tried, are relative to the file.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, NonNegativeInt, PrivateAttr, ValidationError

from rlad_core.config import SHIPPED, ConfigError, parse
from rlad_core.sections.base import NAME_PATTERN, Section
from rlad_core.sections.findings import problems_of
from rlad_core.sections.paths import expanded
from rlad_core.sections.problems import Problem

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
"""It becomes a part of a run's name."""
Settings = dict[str, Any]
"""Path of a field, as ``--set`` names it -> its value."""
UNTUNED = "-untuned"
"""What the name of a suite ends with that is carried out without its tries."""
_OF_EACH_RUN = ("name", "seed", "output.dir", "cluster.services")
"""Fields that a comparison writes for each of its runs."""


class Variant(Section):
    """One method of the comparison."""

    label: str | None = Field(default=None, description="What it is called in the report; its name without.")
    set: Settings = Field(default_factory=dict, description="Fields of the recipe that it changes.")
    tune: dict[str, list[Any]] = Field(
        default_factory=dict, description="Fields and the values to try; all combinations, the best is taken."
    )

    @property
    def tries(self) -> list[Settings]:
        """Each combination of what is to be tried; one without settings where nothing is."""
        return [dict(zip(self.tune, values, strict=True)) for values in product(*self.tune.values())]


class Tuning(Section):
    """How settings of `Variant.tune` are chosen: by the accuracy at the end of a run with another seed."""

    seed: NonNegativeInt = Field(default=100, description="Of the tries; none of the suite's seeds.")
    set: Settings = Field(
        default_factory=dict,
        description="Fields that the tries change, above all the held-out problems: not those of the report.",
    )


class Suite(Section):
    """What is compared."""

    name: Name
    recipe: str = Field(description="What all variants share: a file, or the name of a recipe that ships.")
    set: Settings = Field(default_factory=dict, description="Fields of the recipe that all variants change.")
    seeds: list[NonNegativeInt] = Field(min_length=1, description="Each variant is run with each of them.")
    variants: dict[Name, Variant] = Field(min_length=1)
    tuning: Tuning | None = None
    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """Where it was read; None: nowhere."""
        return self._file

    @property
    def folder(self) -> Path | None:
        """That relative paths in its settings start from; None: the current one."""
        return None if self._file is None else self._file.parent

    @property
    def untuned(self) -> Suite:
        """The same with nothing to try: every variant has the settings that stand here."""
        variants = {name: each.model_copy(update={"tune": {}}) for name, each in self.variants.items()}
        return self.model_copy(update={"name": f"{self.name}{UNTUNED}", "variants": variants, "tuning": None})


def load_suite(path: str | Path) -> tuple[Suite, Path]:
    """Read a suite, and say which file it was.

    Args:
        path: a YAML file, or the name of a suite that ships (``kk_tiny``).

    Raises:
        ConfigError: the file or a field of it is wrong; lists all that is.
    """
    file = _find(expanded(str(path)))
    try:
        values = parse(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ConfigError(
                str(file), [Problem("the suite", values, "has no keys. Write name, recipe, ...")]
            )
        if "stages" in values and "variants" not in values:
            said = (
                f"is a recipe and no suite of runs. Carry it out with rlad run {shlex.quote(str(file))}, or "
                "write a suite that names it (docs/compare.md)"
            )
            raise ConfigError(str(file), [Problem("the suite", str(file), said)])
        suite = Suite.model_validate(values)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(str(file), [Problem("the suite", str(file), f"cannot be read: {error}")]) from error
    except ValidationError as error:
        raise ConfigError(str(file), problems_of(error, Suite)) from None
    if found := _problems(suite):
        raise ConfigError(str(file), found)
    beside = file.absolute().parent / expanded(suite.recipe)
    if beside.is_file():
        suite = suite.model_copy(update={"recipe": str(beside)})
    suite._file = file.absolute()
    return suite, file


def _problems(suite: Suite) -> list[Problem]:
    found = []
    if len(set(suite.seeds)) < len(suite.seeds):
        found.append(Problem("seeds", suite.seeds, "name one twice. Write each seed once"))
    called: dict[str, str] = {}
    for name, variant in suite.variants.items():
        if (other := called.setdefault(variant.label or name, name)) != name:
            said = f"is what {other} is called in the report too. Give each variant a label of its own"
            found.append(Problem(f"variants.{name}.label", variant.label or name, said))
    tuned = [name for name, variant in suite.variants.items() if variant.tune]
    if tuned and suite.tuning is None:
        found.append(
            Problem(
                "tuning",
                None,
                f"{', '.join(tuned)} has settings to try. Write tuning: {{seed: 100, set: ...}}",
            )
        )
    if suite.tuning and suite.tuning.seed in suite.seeds:
        found.append(
            Problem("tuning.seed", suite.tuning.seed, "is one of the seeds of the report. Write another")
        )
    empty = [
        f"variants.{v}.tune.{k}" for v, each in suite.variants.items() for k in each.tune if not each.tune[k]
    ]
    found += [Problem(path, [], "has no value to try. Write some, or leave it out") for path in empty]
    advice = "is written for each run by the comparison, so it has no effect here. Leave it out"
    return found + [
        Problem(f"{place}.{path}", value, advice)
        for place, settings in _places(suite)
        for path, value in settings.items()
        if path in _OF_EACH_RUN
    ]


def _places(suite: Suite) -> Iterator[tuple[str, Settings]]:
    """Where a suite changes fields."""
    yield "set", suite.set
    for name, variant in suite.variants.items():
        yield f"variants.{name}.set", variant.set
        yield f"variants.{name}.tune", dict(variant.tune)
    if suite.tuning is not None:
        yield "tuning.set", suite.tuning.set


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    shipped = SHIPPED / "suites"
    if (shipped / f"{path}.yaml").is_file():
        return shipped / f"{path}.yaml"
    names = ", ".join(sorted(suite.stem for suite in shipped.glob("*.yaml")))
    advice = f"there is no such file. Write the path of one, or a suite's name: {names}"
    raise ConfigError(str(path), [Problem("the suite", str(path), advice)])
