"""The runs of a suite: their recipes, folders and order.

FOLDER/suite.yaml                  the suite as it is carried out
FOLDER/runs/VARIANT-seed0/         a run's own folder
FOLDER/tuning/VARIANT-try1/        a try of a variant's settings
FOLDER/logs/VARIANT-seed0.log      what the run printed
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlad_core.config import ConfigError, RunConfig
from rlad_core.config.yaml_text import one_line
from services.compare.read_once import Recipe, record_of
from services.compare.suite import Settings, Suite
from services.compare.verdicts import are_kept
from services.report.records import RunRecord
from services.run.divergence import has_diverged
from services.run.following import is_over

RUNS, TUNING, LOGS = "runs", "tuning", "logs"


@dataclass(frozen=True)
class Member:
    """One run of the comparison.

    Attributes:
        variant: whose.
        seed: of the run.
        name: of its folder.
        where: the folder in which its folder is.
        base: the recipe that all variants share.
        settings: what it changes of the recipe.
    """

    variant: str
    seed: int
    name: str
    where: Path
    base: Recipe
    settings: Settings

    @property
    def recipe(self) -> str:
        """File or shipped name of what it changes."""
        return self.base.name

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.where / self.name

    @property
    def overrides(self) -> list[str]:
        """For ``--set``, with paths relative to the suite."""
        own = {"name": self.name, "seed": self.seed, "output.dir": str(self.where)}
        return [f"{path}={one_line(value)}" for path, value in {**self.settings, **own}.items()]

    @property
    def overrides_anywhere(self) -> list[str]:
        """The same for a process in any folder: paths as the recipe has them once it is read.

        Raises:
            ConfigError: it is wrong.
        """
        read = self.config().model_dump(mode="json")
        anywhere = {path: _as_read(value, _at(read, path)) for path, value in self.settings.items()}
        return replace(self, settings=anywhere).overrides

    def config(self) -> RunConfig:
        """The recipe as it will be carried out.

        Raises:
            ConfigError: it is wrong; says of which run.
        """
        try:
            return self.base.config(self.overrides)
        except ConfigError as error:
            raise ConfigError(f"{self.recipe}, as {self.name}", error.problems) from None

    def record(self) -> RunRecord | None:
        """What the run wrote so far; None before it was begun, and where that cannot be read."""
        return record_of(self.folder).read

    def fault(self) -> str | None:
        """Why it cannot be read what the run wrote; None: it can, or there is nothing yet."""
        return record_of(self.folder).fault

    def is_begun(self) -> bool:
        """Whether there is something of it, be it broken."""
        return self.record() is not None or self.fault() is not None

    def is_over(self) -> bool:
        """Whether every step is recorded, and the evaluation behind the last."""
        record = self.record()
        return record is not None and is_over(record)

    def is_finished(self) -> bool:
        """Whether the run is over, and the verdicts of its last evaluation are there to compare it by."""
        return self.is_over() and are_kept(self.folder)

    def diverged_after(self) -> int | None:
        """Steps after which the run ended because its numbers were not finite; None: it did not."""
        if not has_diverged(self.folder) or (record := self.record()) is None or self.is_over():
            return None
        return len(record.steps)

    def is_settled(self) -> bool:
        """Whether nothing is left to carry out: it is finished, or has diverged, as it would again."""
        return self.is_finished() or self.diverged_after() is not None


def members_of(
    suite: Suite, folder: Path, chosen: Mapping[str, Settings], base: Recipe | None = None
) -> list[Member]:
    """The runs of the report, seed by seed, so that an unfinished suite has whole seeds of all variants.

    Args:
        folder: of the comparison.
        chosen: what the tuning found, by variant.
        base: the suite's recipe, where it was read already.
    """
    base = base or Recipe(suite.recipe, suite.folder)
    return [
        Member(
            name,
            seed,
            f"{name}-seed{seed}",
            folder / RUNS,
            base,
            _together(suite.set, variant.set, chosen.get(name, {})),
        )
        for seed in suite.seeds
        for name, variant in suite.variants.items()
    ]


def tries_of(
    suite: Suite, folder: Path, base: Recipe | None = None
) -> dict[str, list[tuple[Settings, Member]]]:
    """The tries of each variant that has settings to choose, with what each tries; see `members_of`."""
    base = base or Recipe(suite.recipe, suite.folder)
    if suite.tuning is None:
        return {}
    return {
        name: [
            (
                tried,
                Member(
                    name,
                    suite.tuning.seed,
                    f"{name}-try{number}",
                    folder / TUNING,
                    base,
                    _together(suite.set, variant.set, suite.tuning.set, tried),
                ),
            )
            for number, tried in enumerate(variant.tries, start=1)
        ]
        for name, variant in suite.variants.items()
        if variant.tune
    }


def _together(*settings: Settings) -> Settings:
    """All of them, each after those before it: a section that one writes keeps a field of it that a later one
    changes, and a field that one changes goes with the section that a later one writes anew.
    """
    found: Settings = {}
    for later, value in (each for one in settings for each in one.items()):
        found = {path: kept for path, kept in found.items() if not f"{path}.".startswith(f"{later}.")}
        found[later] = value
    return found


def _at(values: Any, path: str) -> Any:
    """What a recipe's values have at a path of ``--set``."""
    for step in path.split("."):
        values = values[int(step) if isinstance(values, list) else step]
    return values


def _as_read(written: Any, read: Any) -> Any:
    """What was written with each text as it was read: a relative path is absolute there."""
    if isinstance(written, dict) and isinstance(read, dict):
        return {key: _as_read(value, read.get(key, value)) for key, value in written.items()}
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        return [_as_read(one, other) for one, other in zip(written, read, strict=True)]
    return read if isinstance(written, str) else written
