"""The command ``rlad``. Exit codes: 0, 1 (failed, or stopped before the end), 2 (wrong usage or recipe)."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from rlad_core.config import ConfigError, RunConfig, assign, dump, load, validate_evaluation
from rlad_core.tasks import DEFAULT, SECTIONS, Asked, section_of
from services.cli import doctor as installation_doctor
from services.cli import init as beginning
from services.cli.extras import needs_services

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
_out = Console(highlight=False, emoji=False)
_err = Console(stderr=True, highlight=False, emoji=False)

Recipe = Annotated[
    Path, typer.Argument(help="A recipe: a YAML file, or the name of one that ships with rlad.")
]
Overrides = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the recipe, e.g. learner.lr=1e-5."),
]


def main() -> int:
    """Run the command line; returns the exit code."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        # Not standalone, so that faults come here; a `typer.Exit` then arrives as the code it carries.
        code = app(standalone_mode=False)
    except typer.Abort:
        return 1
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's usage errors
            error.show()
            return int(error.exit_code)
        if os.environ.get("RLAD_TRACEBACK"):
            raise
        _err.print(f"[red]failed[/red]: {escape(str(error))}", soft_wrap=True)
        _err.print("[dim](RLAD_TRACEBACK=1 shows where)[/dim]")
        return 1
    return code if isinstance(code, int) else 0


def _load(recipe: Path, overrides: list[str]) -> RunConfig:
    try:
        return load(recipe, overrides)
    except ConfigError as error:
        _err.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(2) from error


@app.command()
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
) -> None:
    """Carry out a run: services, training, evaluation, report.

    With RAY_ADDRESS or cluster.address it joins that Ray cluster; otherwise it starts one for itself.

    Ctrl-C or SIGTERM stops it after the step, with a checkpoint; Ctrl-C again at once.

    Exit codes: 0 finished, 1 failed or stopped before the end, 2 wrong usage or recipe.

    Examples:

        rlad run kk-tiny-trrd

        rlad run deploy/recipes/kk-tiny-trrd.yaml --set stages.0.steps=5 --set name=short

        rlad run runs/short/recipe.yaml --resume
    """
    config = _load(recipe, overrides)
    needs_services()
    # Ray, vLLM and torch take seconds to import; a wrong recipe is refused before that.
    from services.report.records import read_run
    from services.report.tables import evaluation_table, stage_time_table
    from services.run.run import RunError
    from services.run.run import run as carry_out
    from services.run.watch import Watcher

    try:
        watcher = Watcher(_out, config.total_steps)
        outcome = carry_out(config, resume=resume, restartable=restartable, watcher=watcher)
    except RunError as error:
        _err.print(f"[red]failed[/red]: {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as interrupt:
        _say_how_to_resume(config, "stopped at once, after the last checkpoint")
        raise typer.Exit(1) from interrupt
    record = read_run(outcome.run_dir)
    if not outcome.finished:
        _say_how_to_resume(config, f"stopped after {outcome.steps} of {config.total_steps} steps")
    _out.print(evaluation_table(record))
    _out.print(stage_time_table(record))
    _out.print(f"report  {outcome.report.html}", markup=False, soft_wrap=True)
    if not outcome.finished:
        raise typer.Exit(1)  # so that neither `&&` nor a scheduler takes the run for done
    _out.print(f"model   {outcome.run_dir / 'export'}", markup=False, soft_wrap=True)


def _say_how_to_resume(config: RunConfig, what: str) -> None:
    recipe = Path(config.run_dir, "recipe.yaml")
    _out.print(f"{what}. Continue with\n  rlad run {recipe} --resume", markup=False, soft_wrap=True)


@app.command()
def plan(
    recipe: Recipe,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Check a recipe and print what a run of it would be; starts nothing.

    Example:

        rlad plan kk-tiny-trrd --set rollout.group_size=16
    """
    config = _load(recipe, overrides)
    from services.run.plan import describe

    typer.echo(dump(config))  # as it is: a console would break long lines, and the YAML with them
    for table in describe(config):
        _out.print(table)


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="The run's folder, e.g. runs/kk-tiny-trrd.")],
) -> None:
    """Write report.html and the plots of a run, also of one that is still working.

    Example:

        rlad report runs/kk-tiny-trrd
    """
    from services.report.page import write_report
    from services.report.records import ReportError, read_run
    from services.report.tables import evaluation_table, stage_time_table

    try:
        paths = write_report(run_dir)
        record = read_run(run_dir)
    except ReportError as error:
        _err.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    _out.print(evaluation_table(record))
    _out.print(stage_time_table(record))
    _out.print(f"report  {paths.html}", markup=False, soft_wrap=True)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A folder, a hub id, or rlad:NAME.")],
    task: Annotated[
        str, typer.Option(help=f"{', '.join(SECTIONS)}, or a class of your own: file.py:Name.")
    ] = DEFAULT,
    people: Annotated[str, typer.Option(help="Sizes of puzzles, for a task that has some, e.g. 2,3.")] = "",
    files: Annotated[
        list[str], typer.Option("--file", help="A .parquet or .jsonl file; may be given again.")
    ] = [],  # noqa: B006 - typer reads it, nothing writes it
    file_format: Annotated[str, typer.Option("--format", help="Of the files: chat, gsm8k or math.")] = "",
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Prompts of each subset; by default 300 puzzles, all of a file."),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Responses per prompt, for Mean@k and Pass@k.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest token each time.")] = 0.6,
    top_p: Annotated[float, typer.Option(min=0.01, max=1, help="Share of the distribution.")] = 0.95,
    max_response_length: Annotated[int, typer.Option(min=1, help="Tokens of a response.")] = 400,
    max_length: Annotated[int, typer.Option(min=2, help="Tokens of prompt and response.")] = 512,
    split: Annotated[str, typer.Option(help="validation or test, for a task that has both.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of the sampling.")] = 0,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, help="Seconds for all of it.")] = 3600.0,
) -> None:
    """Measure a model's accuracy on held-out prompts, with 95% intervals.

    Examples:

        rlad evaluate rlad:kk-teacher

        rlad evaluate runs/kk-tiny-trrd/export --people 2,3,4 --k 4

        rlad evaluate my-student --task my_tasks.py:Riddles --count 100
    """
    sizes = [size.strip() for size in people.split(",")] if people else []
    if not all(size.isdecimal() for size in sizes):
        raise typer.BadParameter(f"{people!r} is no list of sizes; write e.g. 2,3", param_hint="--people")
    asked = Asked(
        people=[int(size) for size in sizes] or None,
        files=files,
        layout=file_format or None,
        count=count,
        split=split or None,
    )
    try:
        section = section_of(task, asked)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--task") from error
    values: dict[str, Any] = {
        "name": "evaluation",
        "seed": seed,
        "policy": {"model": model, "max_length": max_length},
        "task": section,
        "rollout": {"max_response_length": max_response_length, "timeout_s": timeout_s},
        "evaluation": {"samples": k, "temperature": temperature, "top_p": top_p},
    }
    try:
        recipe = validate_evaluation(values, "the command line")
    except ConfigError as error:
        _err.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(2) from error
    needs_services()
    from services.evaluate.measure import accuracy_table, measure

    _out.print(accuracy_table(measure(recipe)))


@app.command()
def serve(
    service: Annotated[str, typer.Argument(help="teacher, rollout, verifier, or all.")],
    model: Annotated[
        str, typer.Option(help="A folder, a hub id, or rlad:NAME, for teacher and rollout.")
    ] = "",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where HTTP is answered.")] = 8000,
    host: Annotated[str, typer.Option(help="Other than 127.0.0.1 needs tokens, see below.")] = "127.0.0.1",
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting, e.g. engine=vllm; with all, teacher.engine=vllm."
        ),
    ] = [],  # noqa: B006
    tasks: Annotated[
        list[str],
        typer.Option(
            "--task",
            help="verifier: judge a task of your own too, file.py:Class, or by a function, file.py:score; "
            "may be given again.",
        ),
    ] = [],  # noqa: B006
    start_timeout_s: Annotated[
        float, typer.Option("--start-timeout", min=1, help="Seconds until it must be up.")
    ] = 600.0,
) -> None:
    """Serve a teacher, rollouts or verification on this machine, until Ctrl-C or SIGTERM.

    Tokens that callers must send are taken from RLAD_API_TOKENS, or from the file RLAD_API_TOKENS_FILE names.

    Examples:

        rlad serve teacher --model rlad:kk-teacher

        rlad serve teacher --model Qwen/Qwen3-8B --set engine=vllm --set num_gpus=1 --set dtype=bfloat16

        rlad serve verifier --port 8001 --task my_tasks.py:Riddles

        rlad serve all --set teacher.model=rlad:kk-teacher --set rollout.model=rlad:kk-student
    """
    needs_services()
    from services.cli.service_settings import SERVICES, ServingError, read_settings, with_tasks
    from services.cli.serving import serve_until_stopped
    from services.serve.deployment import DeploymentError

    if service != "all" and service not in SERVICES:
        raise typer.BadParameter(f"{service!r} is unknown; write {', '.join(SERVICES)} or all")
    try:
        settings: dict[str, Any] = {}
        for override in overrides:
            settings = assign(settings, override)
        if tasks and service not in ("verifier", "all"):
            raise ServingError(f"--task: {service} judges nothing; leave it out")
        if tasks and service == "verifier":
            settings = with_tasks(settings, tasks)
        elif tasks:
            settings = {**settings, "verifier": with_tasks(settings.get("verifier", {}), tasks)}
        services = read_settings(service, settings, model or None)
    except (ServingError, ValueError) as error:
        _err.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(2) from error

    def say(text: str) -> None:
        _out.print(text, markup=False, soft_wrap=True)

    try:
        serve_until_stopped(services, host=host, port=port, start_timeout_s=start_timeout_s, say=say)
    except ServingError as error:
        _err.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(2) from error
    except DeploymentError as error:
        _err.print(f"[red]failed[/red]: {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from error


@app.command()
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
    try:
        written = beginning.write(folder, task)
    except beginning.InitError as error:
        _err.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(2) from error
    _out.print(f"{folder}: {', '.join(map(str, written))}. Go on with", markup=False, soft_wrap=True)
    for command in (f"cd {shlex.quote(str(folder))}", "rlad plan recipe.yaml", "rlad run recipe.yaml"):
        _out.print(f"  {command}", markup=False, soft_wrap=True)


@app.command()
def doctor() -> None:
    """Check the installation in a few seconds and say what to do about each fault.

    Example:

        rlad doctor
    """
    raise typer.Exit(installation_doctor.main())


if __name__ == "__main__":
    sys.exit(main())
