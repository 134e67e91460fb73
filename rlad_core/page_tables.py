"""Tables of the pages that are written from declarations (`metric_document`, `config.recipe_document`)."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown.

    Args:
        head: names of the columns, of which there is at least one.
        rows: cells of each row, as many as there are names; a ``|`` in one is a character of it.
    """
    cells = (head, ["---"] * len(head), *rows)
    return [f"| {' | '.join(each.replace('|', chr(92) + '|') for each in row)} |" for row in cells]
