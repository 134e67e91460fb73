"""Finds a suite's files in a folder that somebody downloaded to, in any of the usual ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rlad_core.data.endings import ENDINGS, ending
from rlad_core.tasks.suite import Suite

_ON_THE_HUB = (".parquet", ".jsonl")
"""Of data; other files of a data set describe it."""


def find(suite: Suite, data: Path) -> list[Path]:
    """The suite's files, sorted; none where there is none.

    Looked at, in this order: a file with the suite's name in `data` or in a folder there, whatever ending of
    data files it has (``aime24.parquet``); a folder with its name, which is where `Suite.command` puts it;
    folders called like the data set, with its owner (``HuggingFaceH4/aime_2024``) or without; the hub's own
    cache (``datasets--HuggingFaceH4--aime_2024``); and what else the suite's files are called.
    """
    for pattern in (f"{suite.name}.*", f"*/{suite.name}.*"):
        if found := _data_files(data, pattern, ENDINGS):
            return found
    for folder in _folders(suite, data):
        for pattern in suite.files:
            if found := _data_files(folder, pattern):
                return found
    for pattern in suite.loose:
        if found := _data_files(data, pattern):
            return found
    return []


def _folders(suite: Suite, data: Path) -> Iterator[Path]:
    yield data / suite.name
    for repository in suite.repositories:
        owner, _, name = repository.partition("/")
        yield data / owner / name
        yield data / name
        for snapshots in (data / f"datasets--{owner}--{name}", data / "hub" / f"datasets--{owner}--{name}"):
            # What was fetched last counts, as in the hub's own cache.
            by_time = sorted(snapshots.glob("snapshots/*"), key=lambda folder: folder.stat().st_mtime)
            yield from reversed(by_time)


def _data_files(folder: Path, pattern: str, endings: tuple[str, ...] = _ON_THE_HUB) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.glob(pattern)
        # `hf download --local-dir` keeps its own notes in .cache.
        if ending(path) in endings and path.is_file() and ".cache" not in path.relative_to(folder).parts
    )
