"""The command `trace`."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.console import complain, out


def trace(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder, e.g. runs/kk-tiny-trrd.")],
    step: Annotated[int, typer.Argument(min=0, metavar="STEP", help="Counted from 0, as in metrics.jsonl.")],
    group: Annotated[
        str, typer.Option(metavar="ID", help="Only this prompt's group, and what the whole step has.")
    ] = "",
    file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="By default RUN/traces/step-STEP.html.")
    ] = None,
) -> None:
    """Draw a step as a timeline in one HTML file: who worked when, in which process, and on which prompt.

    The spans are OpenTelemetry's. Where OTEL_EXPORTER_OTLP_ENDPOINT was set the run sent them there, and
    has none.

    Examples:

        rlad trace runs/kk-tiny-trrd 3

        rlad trace runs/kk-tiny-trrd 3 --out step.html
    """
    from services.report.records import ReportError, refuse_missing
    from services.report.trace_page import write_trace_page
    from services.report.traces import FOLDER, of_group, of_step, read_spans

    run_dir = run_dir.expanduser()
    try:
        refuse_missing(run_dir)
        spans = of_step(read_spans(run_dir), step)
        shown = of_group(spans, group) if group else spans
    except ReportError as error:
        complain(error)
        raise typer.Exit(2) from error
    title = f"{run_dir.name}, step {step}: {spans[0].seconds:.2f} s" + (f", group {group}" if group else "")
    place = file.expanduser() if file else run_dir / FOLDER / f"step-{step}.html"
    try:
        write_trace_page(shown, title, place)
    except OSError as error:
        complain(f"{place} cannot be written ({error.strerror}). Write --out FILE")
        raise typer.Exit(2) from error
    processes = len({span.process for span in shown})
    out.print(f"{len(shown)} spans of {processes} processes", soft_wrap=True)
    slowest = sorted((s for s in shown if s.name == "rollout"), key=lambda s: -s.seconds)[:1]
    for each in slowest:
        parent = next((s for s in shown if s.span_id == each.parent_id), None)
        whose = f", group {parent.facts['group']}" if parent is not None and "group" in parent.facts else ""
        out.print(f"the longest rollout took {each.seconds:.2f} s{whose}", soft_wrap=True)
    out.print(f"timeline  {place}", soft_wrap=True)
