"""The command ``rlad``. Exit codes: 0; 1 (failed, or stopped before the end); 2 (before an engine starts)."""

import importlib
import io
import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from services.base.failures import said
from services.base.interrupts import keep_interrupts
from services.cli.console import complain, complain_in_red, err

_COMMANDS = {
    **dict.fromkeys(("init", "plan", "run"), "runs"),
    **{name: name for name in ("learn", "watch", "compare")},
    "report": "runs",
    "ledger": "ledger",
    **{
        name: name
        for name in ("show", "evaluate", "generate", "serve", "score", "fetch", "k8s", "trace", "doctor")
    },
}
"""Command -> the module beside this one that has it."""


class _Command(TyperCommand):
    """Refuses an option that is given without a word: a script's variable that is not set. Taken for one that
    is left out, ``--fork "$NAME"`` would train from the beginning.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer has it."""
        # Completion reads what is half typed.
        given = {} if ctx.resilient_parsing else self.make_parser(ctx).parse_args(args=list(args))[0]
        for param in self.get_params(ctx):
            words = given.get(param.name)
            if param.param_type_name == "option" and (
                words == "" or (isinstance(words, list) and "" in words)
            ):
                advice = "Write a value" if param.required else "Write a value, or leave it out"
                raise typer.BadParameter(f"is empty. {advice}", ctx, param_hint=param.opts[0])
        return super().parse_args(ctx, args)


class _Commands(TyperGroup):
    """Imports the module of a command when it is asked for, and those of the others only to list them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        commands: dict[str, Any] = dict.fromkeys(_COMMANDS)
        self.commands = commands  # by which typer lists them, and guesses what was meant

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"services.cli.{_COMMANDS[cmd_name]}")
        alone = typer.Typer(rich_markup_mode="markdown", add_completion=False)
        alone.command(cmd_name, cls=_Command)(getattr(module, cmd_name))
        return typer.main.get_command(alone)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Distil a small reasoning model from a large one during reinforcement learning.

    Examples:

        rlad doctor

        rlad plan kk-tiny-trrd

        rlad run kk-tiny-trrd --set name=mine""",
)
_INTERRUPTED = 130
"""What typer makes of Ctrl-C, without a word; no command of ours ends so."""
# What libraries print at start says nothing to the user of this command.
_QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def run() -> int:
    """Run the command line; returns the exit code.

    Raises:
        KeyboardInterrupt: it was stopped, and the command itself has nothing to say to that.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As stderr does by itself: a character that its encoding has not fails no command, and no run at its
        # last word.
        sys.stdout.reconfigure(errors="backslashreplace")
    keep_interrupts()
    try:
        os.getcwd()
    except OSError:
        complain("the current folder is gone: it was removed or made anew. Go to one that is there (cd)")
        return 2
    try:
        # Not standalone, so that faults come here; a `typer.Exit` then arrives as the code it carries.
        code = app(standalone_mode=False)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's usage errors
            error.show()
            return int(error.exit_code)
        if os.environ.get("RLAD_TRACEBACK"):
            raise
        complain_in_red("failed", said(error))
        err.print("(RLAD_TRACEBACK=1 shows where)", style="dim")
        return 1
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"rlad {version('rlad')}")
        raise typer.Exit


@app.callback()
def _rlad(
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_tell_version, help="Show the version and exit."),
    ] = False,
) -> None: ...
