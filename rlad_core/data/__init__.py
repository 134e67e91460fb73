"""Rows of data files, whatever their format, encoding and compression.

In: a path as a recipe has it: a file, a pattern such as ``train-*.parquet``, or a folder that the library
`datasets` saved. Out: a `Row` for each row, or a `Fault` where one cannot be read; `DataError` where a whole
file cannot. Called by: tasks that read files. Knows nothing of what the rows mean.

    paths     which files a path means
    endings   what a file is, by its name
    rows      the reader of each ending
    text      bytes -> text: compression, byte order marks, encodings
    documents JSON and CSV
    arrow     Parquet, Arrow, and folders of the library `datasets`
"""

from rlad_core.data.endings import ENDINGS, stem
from rlad_core.data.faults import DataError, Fault, Found, Row
from rlad_core.data.paths import files_of, is_there, name_of, path_fault
from rlad_core.data.rows import column_names, is_table, rows, table_batches

__all__ = [
    "ENDINGS",
    "DataError",
    "Fault",
    "Found",
    "Row",
    "column_names",
    "files_of",
    "is_table",
    "is_there",
    "name_of",
    "path_fault",
    "rows",
    "stem",
    "table_batches",
]
