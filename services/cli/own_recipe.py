"""Recipes that are carried out; a run's own one, runs/NAME/recipe.yaml, leads to the folder it lies in."""

from collections.abc import Sequence
from pathlib import Path

from rlad_core.config import ConfigError, RunConfig
from rlad_core.config.loading import RecipeFile, read
from rlad_core.config.yaml_text import one_line
from rlad_core.sections.problems import Problem
from services.run import lease


def load_to_run(recipe: Path, overrides: Sequence[str], goes_on: bool = False) -> RunConfig:
    """The recipe as `rlad_core.config.load` has it; a run's own one writes beside the run's folder.

    A run's recipe says where its folder was when the run began, which may have been relative to another
    folder, on another machine, or under another mount. ``--set output.dir=...`` still decides.

    Args:
        goes_on: with what the run has done, and not from the beginning.

    Raises:
        ConfigError: as for `rlad_core.config.load`; also one that goes on in a folder with another name than
            the run's, which would be the run in the folder of that name.
    """
    file = read(recipe)
    config = file.config(overrides)
    if goes_on and _is_of_run(file) and not _has_its_name(file):
        folder, name = file.file.resolve().parent, file.values.get("name")
        advice = (
            f"its run is called {name}, and {folder} is not. Give the folder that name, elsewhere if it is "
            "taken there"
        )
        raise ConfigError(str(recipe), [Problem("the recipe", str(recipe), advice)])
    runs = _runs_of(file)
    if runs is None or runs == Path(config.output.dir).resolve():
        return config
    return file.config([f"output.dir={one_line(str(runs))}", *overrides])


def source_of_fork(recipe: Path, config: RunConfig) -> Path:
    """The folder of the run that a fork of this recipe goes on from. A run's own recipe leads to it whatever
    ``--set`` says of output.dir, which is where the fork goes.
    """
    runs = _runs_of(read(recipe))
    return Path(config.run_dir).absolute() if runs is None else runs / config.name


def _runs_of(file: RecipeFile) -> Path | None:
    """The folder that has the run's folder; None: the recipe is no run's own."""
    return file.file.resolve().parent.parent if _is_of_run(file) and _has_its_name(file) else None


def _is_of_run(file: RecipeFile) -> bool:
    return (file.file.resolve().parent / lease.FOLDER).is_dir()


def _has_its_name(file: RecipeFile) -> bool:
    return bool(file.file.resolve().parent.name == file.values.get("name"))
