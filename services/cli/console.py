"""What the command's words are printed on."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


class _Whole(Console):
    """Cuts no word of a table that is too long for its column: the rest of it goes into the next line."""

    def print(self, *objects: Any, **settings: Any) -> None:
        for table in objects:
            for column in table.columns if isinstance(table, Table) else ():
                column.overflow = "fold"
        super().print(*objects, **settings)


# What a person has named may have brackets, in a table too, and a place such as file.py:x: is no picture.
out = _Whole(highlight=False, markup=False, emoji=False)
err = _Whole(stderr=True, highlight=False, markup=False, emoji=False)


def complain(error: object) -> None:
    """A refusal, as it is."""
    err.print(str(error), soft_wrap=True)


def complain_in_red(what: str, error: object) -> None:
    """The same behind a word."""
    err.print(Text.assemble((what, "red"), f": {error}"), soft_wrap=True)
