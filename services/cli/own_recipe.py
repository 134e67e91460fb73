"""Recipes that are carried out; a run's own one, runs/NAME/recipe.yaml, leads to the folder it lies in."""

from collections.abc import Sequence
from pathlib import Path

from rlad_core.config import RunConfig
from rlad_core.config.loading import RecipeFile, read
from rlad_core.config.yaml_text import one_line
from services.run import lease


def load_to_run(recipe: Path, overrides: Sequence[str]) -> RunConfig:
    """The recipe as `rlad_core.config.load` has it; a run's own one writes beside the run's folder.

    A run's recipe says where its folder was when the run began, which may have been relative to another
    folder, on another machine, or under another mount. ``--set output.dir=...`` still decides.

    Raises:
        ConfigError: as for `rlad_core.config.load`.
    """
    file = read(recipe)
    config = file.config(overrides)
    runs = _runs_of(file)
    if runs is None or runs == Path(config.output.dir).resolve():
        return config
    return file.config([f"output.dir={one_line(str(runs))}", *overrides])


def _runs_of(file: RecipeFile) -> Path | None:
    """The folder that has the run's folder; None: the recipe is no run's own."""
    folder = file.file.resolve().parent
    is_runs = folder.name == file.values.get("name") and (folder / lease.FOLDER).is_dir()
    return folder.parent if is_runs else None
