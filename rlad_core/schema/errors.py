"""What a table that breaks its schema raises."""


class SchemaError(ValueError):
    """A table (or the bytes of one) breaks its schema; the message names schema, row and column.

    Attributes:
        problem: what is wrong, without where.
        schema: name of the schema that was wanted, None where no schema was in play.
        column: the column at fault, None where the whole table is.
        row: the first row at fault (from 0), None where it is not a matter of one row.
    """

    def __init__(
        self, problem: str, *, schema: str | None = None, column: str | None = None, row: int | None = None
    ) -> None:
        where = [schema] if schema else []
        where += [f"row {row}"] if row is not None else []
        where += [f"column {column!r}"] if column is not None else []
        super().__init__(f"{', '.join(where)}: {problem}" if where else problem)
        self.problem, self.schema, self.column, self.row = problem, schema, column, row
