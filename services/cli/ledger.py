"""The command `ledger`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from services.cli.console import complain, out

if TYPE_CHECKING:
    from services.report.ledger_answers import Answers

_SHOWN = 20


def ledger(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, such as runs/NAME.")],
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Also exit with 1 where a prompt of an epoch was not trained on."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Say whether every prompt was trained on exactly once, which were dropped, and how old tokens were.

    Exit code 1: a visit is lost or doubled, or the ledger and the last checkpoint do not agree. What was
    dropped, and what an unfinished epoch still lacks, is told; with --strict it counts too.

    Examples:

        rlad ledger runs/kk-tiny-trrd

        rlad ledger runs/kk-tiny-trrd --strict --json
    """
    from services.report.ledger_answers import LedgerError, ask
    from services.report.records import ReportError, refuse_missing
    from services.run.errors import RefusedError
    from services.run.folder import last_checkpoint

    run_dir = run_dir.expanduser()
    try:
        refuse_missing(run_dir)
        answers = ask(run_dir, last_checkpoint(run_dir))
    except (LedgerError, RefusedError, ReportError) as error:
        complain(error)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(answers.as_json(), indent=2))
    else:
        _show(answers)
    right = answers.is_strictly_exact if strict else answers.is_exact
    raise typer.Exit(0 if right else 1)


def _show(answers: "Answers") -> None:
    verdict = "yes" if answers.is_exact else "NO"
    out.print(f"Every visit trained on exactly once, or dropped for a reason: {verdict}")
    at = "no checkpoint yet" if answers.checkpoint is None else f"last checkpoint after {answers.checkpoint}"
    out.print(f"{answers.steps} steps, {answers.starts} starts, {at}")
    for name, positions in (("lost", answers.lost), ("doubled", answers.doubled)):
        if positions:
            out.print(f"{name}: positions {_few(positions)}")
    epochs = Table("epoch", "prompts", "trained", "dropped", "not yet", "twice", title="Epochs")
    for epoch in answers.epochs:
        left = epoch.prompts - epoch.trained - epoch.dropped
        cells = (epoch.number, epoch.prompts, epoch.trained, epoch.dropped, left, _few(epoch.twice) or "-")
        epochs.add_row(*map(str, cells))
    out.print(epochs)
    ages = Table("versions behind", "trained tokens", title="Age of tokens")
    for age, tokens in sorted(answers.ages.items()):
        ages.add_row(str(age), str(tokens))
    if answers.stale_masked:
        ages.add_row("too old to count", f"({answers.stale_masked})")
    out.print(ages)
    if answers.dropped:
        dropped = Table("step", "visit", "why", title=f"Dropped: {len(answers.dropped)}")
        for each in answers.dropped[:_SHOWN]:
            dropped.add_row(str(each.step), each.group_id, each.why)
        out.print(dropped)
        if len(answers.dropped) > _SHOWN:
            out.print(f"... and {len(answers.dropped) - _SHOWN} more (--json has all)")


def _few(names: Sequence[object]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(str, names[:_SHOWN])) + more
