"""From a run's folder to a page with plots and to tables for the terminal.

The folder may be that of a finished run, of one that is still going, or of one that was killed. Whatever is
missing is left out and said, never guessed.
"""

from services.report.page import ReportPaths, write_report
from services.report.records import ReportError, RunRecord, read_run
from services.report.tables import evaluation_table, stage_time_table

__all__ = [
    "ReportError",
    "ReportPaths",
    "RunRecord",
    "evaluation_table",
    "read_run",
    "stage_time_table",
    "write_report",
]
