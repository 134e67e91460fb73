"""The command ``rlad learn``."""

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rlad_core.config import ConfigError, RunConfig
from services.cli.console import complain, complain_in_red, out
from services.cli.extras import needs_extras, needs_services
from services.cli.own_recipe import load_to_run
from services.cli.runs import Overrides, Recipe

say = partial(out.print, soft_wrap=True)


def learn(
    recipe: Recipe,
    experience: Annotated[
        list[Path],
        typer.Option(help="A recorded step (step-*.arrows), or a run's folder; may be there several times."),
    ],
    overrides: Overrides = [],  # noqa: B006
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    restartable: Annotated[
        bool,
        typer.Option("--restartable", help="--resume where it was begun before: for schedulers."),
    ] = False,
) -> None:
    """Train on recorded experience: no rollouts, no served teacher, no verifier; one machine.

    A run records its experience with telemetry.keep_experience: all. The recipe's stages say under which
    objective it is trained on now, which may be another; one that needs new samples or values that were not
    recorded is refused.

    Ctrl-C or SIGTERM stops it after the step, with a checkpoint; Ctrl-C again at once.

    Exit codes: 0 finished, 1 failed or stopped before the end, 2 refused before the learner was started.

    Examples:

        rlad learn kk-tiny-trrd --experience runs/kk-tiny-trrd --set name=again

        rlad learn kk-tiny-kdrl --experience runs/first/experience/step-000003.arrows --set stages.0.steps=1

        rlad learn runs/again/recipe.yaml --experience runs/kk-tiny-trrd --resume --set stages.0.steps=90
    """
    try:
        config = load_to_run(recipe, overrides, goes_on=resume or restartable)
    except ConfigError as error:
        complain(error)
        raise typer.Exit(2) from error
    needs_services()
    needs_extras(config)
    from services.run.errors import RefusedError, RunError
    from services.run.learn import learn as carry_out
    from services.run.watch import Watcher

    try:
        outcome = carry_out(
            config,
            [place.expanduser() for place in experience],
            resume=resume,
            restartable=restartable,
            watcher=Watcher(out, config.total_steps),
        )
    except RefusedError as error:
        complain_in_red("refused", error)
        raise typer.Exit(2) from error
    except RunError as error:
        complain_in_red("failed", error)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as interrupt:
        _say_how_to_resume(config, experience, "stopped at once, after the last checkpoint")
        raise typer.Exit(1) from interrupt
    if not outcome.finished:
        _say_how_to_resume(config, experience, f"stopped after {outcome.steps} of {config.total_steps} steps")
    if outcome.report is not None:
        say(f"report  {outcome.report.html}")
    if not outcome.finished:
        raise typer.Exit(1)
    say(f"model   {outcome.run_dir / 'export'}")


def _say_how_to_resume(config: RunConfig, experience: list[Path], what: str) -> None:
    given = shlex.join(part for place in experience for part in ("--experience", str(place)))
    recipe = shlex.quote(str(Path(config.run_dir, "recipe.yaml")))
    say(f"{what}. Continue with\n  rlad learn {recipe} {given} --resume")
