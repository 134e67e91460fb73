"""What the command's words are printed on."""

from typing import Any

from rich.console import Console
from rich.table import Table


class _Whole(Console):
    """Cuts no word of a table that is too long for its column: the rest of it goes into the next line."""

    def print(self, *objects: Any, **settings: Any) -> None:
        for table in objects:
            for column in table.columns if isinstance(table, Table) else ():
                column.overflow = "fold"
        super().print(*objects, **settings)


# Without emoji: a place such as file.py:x: is no picture.
out = _Whole(highlight=False, emoji=False)
err = _Whole(stderr=True, highlight=False, emoji=False)


def complain(error: object) -> None:
    """A refusal, as it is."""
    err.print(str(error), markup=False, soft_wrap=True)
