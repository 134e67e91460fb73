"""A file looked at before anything is asked: its columns, and all of its rows."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

from rlad_core.data import Fault, Row, column_names, rows
from services.score.asked import AskedError
from services.score.scoring import ENCODING, MOST_FAULTS, Source

_FIRST = 20


def names_of(path: str, encoding: str | None) -> list[str]:
    """The columns of a path's first file; where rows have keys instead, those of the first rows.

    Raises:
        AskedError: there are no rows, or the first ones cannot be read, or there is no such encoding.
        DataError: the file cannot be read.
    """
    if encoding is not None:
        try:
            io.TextIOWrapper(io.BytesIO(), encoding)
        except LookupError as error:
            raise AskedError(f"--encoding {encoding}: there is no such encoding of text") from error
    if names := column_names(path, encoding, ENCODING):
        return names
    # A first file without columns may be an empty one of several.
    faults: list[str] = []
    for number, found in enumerate(rows(path, encoding=encoding, setting=ENCODING, verbatim=True)):
        if isinstance(found, Fault):
            faults.append(f"{found.where}: {found.reason}")
        else:
            names += [name for name in found.values if name not in names]
        if len(faults) == MOST_FAULTS or number == _FIRST:
            break
    else:
        if not names and not faults:
            raise AskedError(f"{path} has no rows")
    if faults:
        raise AskedError("\n".join(faults))
    return names


@dataclass
class Looked:
    """What a file's rows are, all of them.

    Args:
        rows: how many.
        has_text: whether there are responses that are not token ids.
        has_chats: whether there are prompts that a chat template makes text of.
        columns: of each where it comes first.
    """

    rows: int
    has_text: bool
    has_chats: bool
    columns: dict[str, str]

    def refuse_taken(self, told: Iterable[str]) -> None:
        """Refuse columns of the file that would be written over.

        Raises:
            AskedError: names the column, and where it comes first.
        """
        for name in told:
            if name in self.columns:
                raise AskedError(
                    f"{self.columns[name]}: has a column {name} already, which would be added; have another "
                    "name added: --column-prefix PREFIX"
                )


def look(source: Source, skip_refused: bool) -> Looked:
    """Read it to its end.

    Args:
        skip_refused: whether rows that no teacher can take are to be skipped later.

    Raises:
        AskedError: rows cannot be read or hold nothing to score, or there are none; names the first ones.
        DataError: the file cannot be read.
    """
    found = Looked(0, has_text=False, has_chats=False, columns={})

    def note(row: Row) -> None:
        for name in row.values:
            if name not in found.columns:
                found.columns[name] = row.where

    unfit: list[str] = []
    for part in source.parts(note):
        found.rows += len(part)
        found.has_text = found.has_text or not all(each.is_tokens for each in part)
        found.has_chats = found.has_chats or any(each.is_chat for each in part)
        unfit += [f"{each.where}: {each.unfit}" for each in part if each.unfit]
        if len(unfit) >= MOST_FAULTS and not skip_refused:
            break
    if unfit and not skip_refused:
        raise AskedError("\n".join([*unfit[:MOST_FAULTS], "With --skip-refused such rows get nulls"]))
    if not found.rows:
        raise AskedError(f"{source.path} has no rows")
    return found
