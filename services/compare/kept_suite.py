"""The suite of the runs that a folder has, and whether another one may go on with them."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from rlad_core.config import ConfigError, parse
from rlad_core.sections.findings import problems_of
from rlad_core.sections.problems import Problem
from services.compare.suite import UNTUNED, Suite

SUITE = "suite.yaml"


def kept_suite(folder: Path) -> Suite | None:
    """The suite of the runs that are there.

    Args:
        folder: of a comparison.

    Raises:
        ConfigError: it cannot be read.
    """
    file = folder / SUITE
    if not file.is_file():
        return None
    try:
        return Suite.model_validate(parse(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        found = problems_of(error, Suite)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        found = [Problem("the suite", str(file), f"cannot be read: {error}")]
    way_out = f"Write another --out; or remove {file}, and the runs there are compared one by one"
    raise ConfigError(str(file), [*found, Problem("the runs there", str(folder), way_out)])


def refuse_another(ours: Suite, folder: Path, source: str) -> None:
    """Check that the runs there are of this suite: more seeds and variants do not make it another.

    Args:
        folder: of a comparison.
        source: of the suite, for the error.

    Raises:
        ConfigError: they are of another one, or it cannot be read which.
    """
    if not (kept := kept_suite(folder)) or not (changed := _changed(kept, ours)):
        return
    # What is written otherwise may come to the same for a run, which is compared by what it comes to.
    way_out = f"Write another --out; with --from {folder} it takes those that are the same"
    if changed == "tuning" and kept.tuning is None:
        way_out = "They were not tuned: write --untuned, or another --out"
    elif changed == "name":
        way_out = f"They are {kept.name}'s. Write another --out"
    said = f"is another than that of the runs there. {way_out}"
    raise ConfigError(source, [Problem(changed, str(folder), said)])


def _changed(kept: Suite, ours: Suite) -> str | None:
    """What would make the runs there those of another suite."""
    if _name_of(kept) != _name_of(ours):
        return "name"
    # The folder of both may be another one by now; what the recipe says is compared run by run.
    if Path(kept.recipe).name != Path(ours.recipe).name:
        return "recipe"
    for key in ("set", "tuning"):
        if getattr(kept, key) != getattr(ours, key):
            return key
    if not kept.variants.keys() & ours.variants.keys():
        return "variants"
    for name, variant in kept.variants.items():
        theirs = ours.variants.get(name)
        if theirs is not None and (theirs.set, theirs.tune) != (variant.set, variant.tune):
            return f"variants.{name}"
    return None


def _name_of(suite: Suite) -> str:
    """Also of the suite that it is without its tries: what may be other then is compared by itself."""
    return suite.name.removesuffix(UNTUNED)
