"""Which files a path of a recipe means."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from rlad_core.data.endings import ENDINGS, ending, stem
from rlad_core.data.faults import DataError

_SHARD = re.compile(r"[-_.]?\d+-of-\d+$")


def files_of(path: str) -> list[Path]:
    """The files of a path, in the order of their names.

    Raises:
        DataError: there is none, or it is a folder that holds no dataset.
    """
    place = Path(path)
    if os.path.isdir(place):
        from rlad_core.data.arrow import shards

        return shards(place)
    found = [path] if os.path.isfile(path) else sorted(_matches(path))
    files = [Path(each) for each in found if os.path.isfile(each)]
    if not files:
        raise DataError(f"{path}: there is no such file")
    return files


def is_there(path: str) -> bool:
    """Whether this machine has something of that name, or of that pattern."""
    return os.path.exists(path) or next(_matches(path), None) is not None


def _matches(path: str) -> Iterator[str]:
    """What a pattern finds, in folders that are called as they stand before it: ``/my [1]/*.csv``."""
    if "\0" in path:  # which no name has, and glob raises at
        return iter(())
    place = Path(path)
    folder = next((each for each in place.parents if os.path.isdir(each)), Path())
    rest = str(place.relative_to(folder))
    return glob.iglob(os.path.join(glob.escape(str(folder)), rest), recursive=True)


def path_fault(path: str) -> str | None:
    """What is wrong with a path of data, for its author; None: nothing, as far as its files' names tell."""
    try:
        files = files_of(path)
    except DataError as error:
        return "there is no such file. Write the path of one" if "no such file" in str(error) else str(error)
    wrong = [file for file in files if not ending(file)]
    if not wrong:
        return None
    said = "is no data file" if files == [Path(path)] else f"{wrong[0].name} is no data file"
    return f"{said}. Write one that ends in {', '.join(ENDINGS)}, perhaps with .gz or .zst behind it"


def name_of(path: str) -> str:
    """What prompts of a path are reported under: its last part, without endings and a pattern's wildcards."""
    place = Path(path)
    name = _SHARD.sub("", stem(place))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")
    return name or (name_of(str(place.parent)) if place.parent != place else "data")
