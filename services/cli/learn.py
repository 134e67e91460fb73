"""The command ``rlad learn``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from rlad_core.config import ConfigError, load
from services.cli.console import complain, err, out
from services.cli.extras import needs_services
from services.cli.runs import Overrides, Recipe


def learn(
    recipe: Recipe,
    experience: Annotated[
        list[Path],
        typer.Option(help="A recorded step (step-*.arrows), or a run's folder; may be there several times."),
    ],
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Train on recorded experience: no rollouts, no teacher, no verifier; one machine.

    A run records its experience with telemetry.keep_experience: all. The recipe's stages say under which
    objective it is trained on now, which may be another; one that needs new samples or values that were not
    recorded is refused.

    Exit codes: 0 finished, 1 failed, 2 refused before the learner was started.

    Examples:

        rlad learn kk-tiny-trrd --experience runs/kk-tiny-trrd --set name=again

        rlad learn kk-tiny-kdrl --experience runs/first/experience/step-000003.arrows --set stages.0.steps=1
    """
    try:
        config = load(recipe, overrides)
    except ConfigError as error:
        complain(error)
        raise typer.Exit(2) from error
    needs_services()
    from services.run.errors import RefusedError, RunError
    from services.run.learn import learn as carry_out

    def say(text: str) -> None:
        out.print(text, markup=False, soft_wrap=True)

    try:
        report = carry_out(config, [place.expanduser() for place in experience], say)
    except RefusedError as error:
        err.print(f"[red]refused[/red]: {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(2) from error
    except RunError as error:
        err.print(f"[red]failed[/red]: {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from error
    say(f"report  {report.html}")
    say(f"model   {Path(config.run_dir) / 'export'}")
