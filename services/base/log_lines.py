"""Log lines: one JSON object a line, in a run's file or on stderr."""

import json
import logging
import sys
from pathlib import Path
from typing import Any, BinaryIO

import structlog


class _Process:
    """Where this process writes."""

    def __init__(self) -> None:
        self.file: BinaryIO | None = None


_process = _Process()


def write(event: str, *, level: str, **fields: Any) -> None:
    """One structured line, with what `structlog.contextvars` holds (a request id).

    A line that cannot be written, as on a full disk, ends neither a request nor a step: stderr says so.
    """
    if not structlog.is_configured():
        configure_logging(None)
    try:
        getattr(structlog.get_logger(), level)(event, **fields)
    except OSError as error:
        print(f"the log cannot be written ({error}): {event} {fields}", file=sys.stderr)


def configure_logging(run_dir: Path | None, *, level: str = "INFO") -> None:
    """Write log lines as JSON objects, one a line, to ``run_dir/log.jsonl``, or to stderr where it is None.

    All processes of a run append to the same file; a line is one write to a file opened for appending, so
    that lines of different processes do not mix.

    Raises:
        OSError: the folder cannot be made, or the file not opened.
    """
    if _process.file is not None:
        _process.file.close()
        _process.file = None
    if run_dir is None:
        # Whatever stderr is when a line is written: one that was put aside for a while may be closed by then.
        def factory(*_: object) -> Any:
            return structlog.WriteLogger(sys.stderr)

    else:
        run_dir.mkdir(parents=True, exist_ok=True)
        _process.file = (run_dir / "log.jsonl").open("ab", buffering=0)
        factory = structlog.BytesLoggerFactory(_process.file)  # type: ignore[assignment]

    def render(_logger: Any, _method: str, event: structlog.typing.EventDict) -> str | bytes:
        # Half a character, of a file's odd name for instance, is escaped as JSON does it.
        line = json.dumps(event, default=str, ensure_ascii=False).encode(errors="backslashreplace")
        return line.decode() if run_dir is None else line

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=factory,
        cache_logger_on_first_use=False,
    )
