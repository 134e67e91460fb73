"""What is wrong with a table that was sent, told by its place in the request as of a JSON body."""

import pyarrow as pa

from rlad_core.client.errors import InvalidRequestError, RowError
from rlad_core.schema import SchemaError

_ID = "sequence_id"


def refusal(error: SchemaError, rows: str, table: pa.Table | None = None) -> InvalidRequestError:
    """Why a table that breaks its schema cannot be worked on.

    Args:
        rows: what its rows are called in JSON.
        table: it, where it was sent; a row at fault is named by its id too, if it has one.
    """
    if error.row is None:
        return InvalidRequestError(error.problem, error.column or "(body)")
    of_row = "" if table is None else named(table, error.row)
    return RowError(f"{of_row}{error.problem}", rows, error.row, error.column)


def named(table: pa.Table, row: int | None) -> str:
    """How an error begins that is about a row of a table with ids of sequences; empty where it is not."""
    if row is None or _ID not in table.column_names or (its := table.column(_ID)[row].as_py()) is None:
        return ""
    return f"sequence {str(its)[:100]!r}: "
