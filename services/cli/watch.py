"""The command `rlad watch`: a running run from another terminal."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from services.cli.console import complain, out


def watch(
    run_dir: Annotated[Path, typer.Argument(help="The run's folder, e.g. runs/kk-tiny-trrd.")],
) -> None:
    """Show a run from another terminal, on any machine that sees its folder; Ctrl-C ends the watching alone.

    First what there is already, then each step as it is recorded, until the run ends.

    Example:

        rlad watch runs/kk-tiny-trrd
    """
    from services.report.records import ReportError, read_run
    from services.run import replayed
    from services.run.divergence import has_diverged
    from services.run.following import Following, is_over
    from services.run.watch import Watcher

    run_dir = run_dir.expanduser()
    try:
        record = read_run(run_dir)
        total = record.recipe.total_steps if record.recipe else len(record.steps)
        with Watcher(out, total) as watcher:
            for news in Following(run_dir).news():
                watcher.show(news)
    except ReportError as error:
        complain(error)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        return  # the run goes on
    record = read_run(run_dir)
    if is_over(record):
        return
    done = f"{len(record.steps)} of {total} steps"
    recipe = shlex.quote(str(run_dir / "recipe.yaml"))
    if has_diverged(run_dir):
        said = (
            f"it diverged after {done}: its numbers were not finite, and with the same settings would be "
            f"again ({run_dir / 'failure.log'} says which). For a new run with other settings, from its last "
            f"checkpoint\n  rlad run {recipe} --fork NAME --set learner.lr=..."
        )
    else:
        replays = (run_dir / replayed.FILE).is_file()
        command = f"rlad learn {recipe} --experience ..." if replays else f"rlad run {recipe}"
        said = f"nobody works on it: {done}. Continue with\n  {command} --resume"
    out.print(said, soft_wrap=True)
