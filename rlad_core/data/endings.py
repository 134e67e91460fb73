"""What a file is, by the ending of its name."""

from __future__ import annotations

from pathlib import Path

_COMPRESSED = (".gz", ".zst", ".zstd")
ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather")
"""Of files that can be read; each may have `.gz` or `.zst` behind it."""


def ending(path: Path) -> str:
    """The ending that says what a file is, without that of its compression; one of `ENDINGS` or none."""
    plain = uncompressed(path.name).lower()
    return next((each for each in ENDINGS if plain.endswith(each)), "")


def uncompressed(name: str) -> str:
    """A file's name without the ending of its compression."""
    return next((name[: -len(each)] for each in _COMPRESSED if name.lower().endswith(each)), name)


def stem(path: Path) -> str:
    """A file's name without its ending, and without that of its compression."""
    plain = uncompressed(path.name)
    return plain[: len(plain) - len(ending(path))]
