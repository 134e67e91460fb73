"""The command ``rlad``. Exit codes: 0; 1 (failed, or stopped before the end); 2 (before an engine starts)."""

import os
import sys

import typer
from rich.markup import escape

from services.base.failures import said
from services.cli import doctor as installation_doctor
from services.cli.compare import compare
from services.cli.console import err
from services.cli.evaluate import evaluate
from services.cli.runs import init, plan, report, run
from services.cli.serve import serve
from services.cli.show import show

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Distil a small reasoning model from a large one during reinforcement learning.

    Examples:

        rlad doctor

        rlad plan kk-tiny-trrd

        rlad run kk-tiny-trrd --set name=mine""",
)
# What libraries print at start says nothing to the user of this command.
_QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def main() -> int:
    """Run the command line; returns the exit code."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        # Not standalone, so that faults come here; a `typer.Exit` then arrives as the code it carries.
        code = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        return 1
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's usage errors
            error.show()
            return int(error.exit_code)
        if os.environ.get("RLAD_TRACEBACK"):
            raise
        err.print(f"[red]failed[/red]: {escape(said(error))}", soft_wrap=True)
        err.print("[dim](RLAD_TRACEBACK=1 shows where)[/dim]")
        return 1
    return code if isinstance(code, int) else 0


def doctor() -> None:
    """Check the installation in a few seconds and say what to do about each fault.

    Example:

        rlad doctor
    """
    raise typer.Exit(installation_doctor.main())


for _command in (init, plan, run, compare, report, show, evaluate, serve, doctor):
    app.command()(_command)


if __name__ == "__main__":
    sys.exit(main())
