"""The commands about runs: `init`, `plan`, `run`, `report`."""

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rlad_core.config import ConfigError, RunConfig, dump
from rlad_core.config.machine import machine_problems, unchecked
from rlad_core.config.remarks import run_remarks
from rlad_core.config.yaml_text import one_line
from rlad_core.sizing.gpus import GPUS
from services.cli import init as beginning
from services.cli.console import complain, complain_in_red, out
from services.cli.extras import needs_extras, needs_services
from services.cli.own_recipe import load_to_run, source_of_fork

Recipe = Annotated[
    Path, typer.Argument(help="A recipe: a YAML file, or the name of one that ships with rlad.")
]
Overrides = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the recipe, e.g. learner.lr=1e-5."),
]


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="NAME", help="A folder that is new or empty; the run is called like it.")
    ],
    task: Annotated[
        str, typer.Option(help=f"What to begin with: {', '.join(beginning.starters())}.")
    ] = beginning.DEFAULT,
) -> None:
    """Write a folder to begin with: a commented recipe, a file with code, ten rows of data. It runs as it is.

    Examples:

        rlad init my-run

        rlad init my-run --task prompts
    """
    folder = folder.expanduser()
    try:
        written = beginning.write(folder, task)
    except beginning.InitError as error:
        complain(error)
        raise typer.Exit(2) from error
    out.print(f"{folder}: {', '.join(map(str, written))}. Go on with", soft_wrap=True)
    place = f"./{folder}" if str(folder).startswith("-") else str(folder)  # which cd takes for options
    for command in (f"cd {shlex.quote(place)}", "rlad plan recipe.yaml", "rlad run recipe.yaml"):
        out.print(f"  {command}", soft_wrap=True)


def plan(
    recipe: Recipe,
    overrides: Overrides = [],  # noqa: B006
    data: Annotated[
        bool,
        typer.Option(
            "--data",
            help="Also read and tokenize all prompts and compare tokenizers, as a run does at first.",
        ),
    ] = False,
    gpu: Annotated[str, typer.Option(help=f"What roles on GPUs would run on: {', '.join(GPUS)}.")] = "H100",
) -> None:
    """Check a recipe and print what a run of it would be; starts nothing.

    Examples:

        rlad plan kk-tiny-trrd --set rollout.group_size=16

        rlad plan kk-tiny-trrd --data

        rlad plan qwen3-0.6b-kk-trrd --gpu H200
    """
    if gpu not in GPUS:
        raise typer.BadParameter(f"{gpu!r} is not known. Write one of {', '.join(GPUS)}", param_hint="--gpu")
    config = _load(recipe, overrides)
    _refuse_machine(recipe, config)
    from services.run.plan import describe
    from services.run.plan_sizes import sizes, slow_evaluation, unknown

    typer.echo(dump(config))  # as it is: a console would break long lines, and the YAML with them
    tables, too_large = sizes(config, GPUS[gpu])
    for table in (*describe(config), *tables):
        out.print(table)
    for model in unknown(config):
        out.print(f"Not estimated, since its size is not known here: {model}", soft_wrap=True)
    slow = slow_evaluation(config, GPUS[gpu])
    for remark in (*([] if slow is None else [slow]), *run_remarks(config)):
        out.print(remark, soft_wrap=True)
    if lines := unchecked(config):
        out.print("Not checked, since it is not on this machine:")
    for line in lines:
        out.print(f"  {line}", soft_wrap=True)
    if too_large:
        complain(ConfigError(str(recipe), too_large))
        raise typer.Exit(2)
    if data:
        _check_data(config)


def run(
    recipe: Recipe,
    overrides: Overrides = [],  # noqa: B006 - typer reads it, nothing writes it
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    restartable: Annotated[
        bool,
        typer.Option(
            "--restartable",
            help="--resume where the run was begun before: for schedulers, which start a command again.",
        ),
    ] = False,
    fork: Annotated[
        str,
        typer.Option(
            "--fork",
            metavar="NAME",
            help="Begin a new run of that name from a checkpoint of the recipe's; all settings may differ.",
        ),
    ] = "",
    from_step: Annotated[
        int | None,
        typer.Option("--from-step", min=1, help="With --fork: after so many steps; by default the last."),
    ] = None,
) -> None:
    """Carry out a run: services, training, evaluation, report.

    With RAY_ADDRESS or cluster.address it joins that Ray cluster; otherwise it starts one for itself.

    Ctrl-C or SIGTERM stops it after the step, with a checkpoint; Ctrl-C again at once.

    --resume takes what changes no result from recipe and --set (workers, micro-batches, time limits, more
    steps, longer limits), and refuses what would make it another experiment: that is for --fork.

    Exit codes: 0 finished, 1 failed or stopped before the end, 2 refused before an engine was started.

    Examples:

        rlad run kk-tiny-trrd

        rlad run deploy/recipes/kk-tiny-trrd.yaml --set stages.0.steps=5 --set name=short

        rlad run runs/short/recipe.yaml --resume

        rlad run runs/short/recipe.yaml --resume --set stages.0.steps=10

        rlad run runs/short/recipe.yaml --fork gentler --set learner.lr=1e-5
    """
    if fork and (resume or restartable):
        raise typer.BadParameter(
            "begins a new run. Leave --resume and --restartable out", param_hint="--fork"
        )
    if from_step and not fork:
        raise typer.BadParameter("says where --fork begins. Write --fork NAME too", param_hint="--from-step")
    try:
        config = _load(recipe, overrides, goes_on=resume or restartable or bool(fork))
        source = source_of_fork(recipe, config) if fork else None
        if fork:
            config = _load(recipe, [*overrides, f"name={one_line(fork)}"])
    except typer.Exit:
        if resume:
            complain(
                "A run keeps its recipe and code; go on with them: rlad run runs/NAME/recipe.yaml --resume"
            )
        raise
    _refuse_machine(recipe, config)
    needs_services()
    needs_extras(config)
    # Ray, vLLM and torch take seconds to import; a wrong recipe is refused before that.
    from rlad_core.prompt_checks import PromptsRefusedError
    from services.prompts import refused
    from services.report.records import read_run
    from services.report.tables import evaluation_table, stage_time_table
    from services.run.errors import RefusedError, RunError
    from services.run.preparing import Fork
    from services.run.run import run as carry_out
    from services.run.watch import Watcher

    try:
        watcher = Watcher(out, config.total_steps)
        begun = None if source is None else Fork(source, from_step)
        outcome = carry_out(config, resume=resume, restartable=restartable, fork=begun, watcher=watcher)
    except PromptsRefusedError as error:
        complain(refused(error, config))
        raise typer.Exit(2) from error
    except RefusedError as error:
        complain_in_red("refused", error)
        raise typer.Exit(2) from error
    except RunError as error:
        complain_in_red("failed", error)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as interrupt:
        _say_how_to_resume(config, "stopped at once, after the last checkpoint")
        raise typer.Exit(1) from interrupt
    record = read_run(outcome.run_dir)
    if not outcome.finished:
        _say_how_to_resume(config, f"stopped after {outcome.steps} of {config.total_steps} steps")
    out.print(evaluation_table(record))
    out.print(stage_time_table(record))
    if outcome.report is not None:
        out.print(f"report  {outcome.report.html}", soft_wrap=True)
    if not outcome.finished:
        raise typer.Exit(1)  # so that neither `&&` nor a scheduler takes the run for done
    out.print(f"model   {outcome.run_dir / 'export'}", soft_wrap=True)


def report(
    run_dir: Annotated[Path, typer.Argument(help="The run's folder, e.g. runs/kk-tiny-trrd.")],
) -> None:
    """Write report.html and the plots of a run, also of one that is still working; or of an evaluation.

    Examples:

        rlad report runs/kk-tiny-trrd

        rlad report evaluations/kk-teacher-1a2b3c4d
    """
    from rlad_core.schema import SchemaError  # with it pyarrow, which `rlad plan` does without
    from services.report.answers_page import is_evaluation, write_answers_page
    from services.report.page import write_report
    from services.report.records import ReportError, read_run
    from services.report.tables import change_table, evaluation_table, stage_time_table

    run_dir = run_dir.expanduser()
    try:
        if is_evaluation(run_dir):
            out.print(f"report  {write_answers_page(run_dir)}", soft_wrap=True)
            return
        paths = write_report(run_dir)
        record = read_run(run_dir)
    except (ReportError, SchemaError, ValueError) as error:
        complain(error)
        raise typer.Exit(2) from error
    out.print(evaluation_table(record))
    try:
        if change := change_table(record):
            out.print(change)
    except (SchemaError, ValueError) as error:
        complain(f"the change on the same problems is left out: {error}")
    out.print(stage_time_table(record))
    out.print(f"report  {paths.html}", soft_wrap=True)


def _check_data(config: RunConfig) -> None:
    """Check the prompts, and teachers whose folders are here, and say what was found."""
    needs_services()
    from rlad_core.prompt_checks import PromptsRefusedError
    from services.clients.teachers import MismatchError, compare_here
    from services.prompts import check_here, files_elsewhere, policy_folder, refused, tell, write_beside

    if missing := files_elsewhere(config):
        out.print(f"not checked, for the cluster may have them: {', '.join(missing)}", soft_wrap=True)
        return
    try:
        with policy_folder(config) as folder:
            checked = check_here(config, folder, out)
            compare_here(config, folder)
    except MismatchError as error:
        complain(error)
        raise typer.Exit(2) from error
    except PromptsRefusedError as error:
        complain(refused(error, config))
        raise typer.Exit(2) from error
    say = partial(out.print, soft_wrap=True)
    tell(checked, say, write_beside(checked.dropped, config))


def _load(recipe: Path, overrides: list[str], goes_on: bool = False) -> RunConfig:
    try:
        return load_to_run(recipe, overrides, goes_on)
    except ConfigError as error:
        complain(error)
        raise typer.Exit(2) from error


def _refuse_machine(recipe: Path, config: RunConfig) -> None:
    """Say what this machine lacks for the run."""
    if problems := machine_problems(config):
        complain(ConfigError(str(recipe), problems))
        raise typer.Exit(2)


def _say_how_to_resume(config: RunConfig, what: str) -> None:
    recipe = shlex.quote(str(Path(config.run_dir, "recipe.yaml")))
    out.print(f"{what}. Continue with\n  rlad run {recipe} --resume", soft_wrap=True)
