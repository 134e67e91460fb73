"""The command `evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rlad_core.config import ConfigError, load, validate_evaluation
from rlad_core.tasks import DEFAULT, SECTIONS, Asked, section_of
from services.cli.console import complain, out
from services.cli.extras import needs_services


def evaluate(
    model: Annotated[str, typer.Argument(help="A folder, a hub id, or rlad:NAME.")],
    task: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(SECTIONS)}, a class of your own (file.py:Name), or a recipe, for its tasks."
        ),
    ] = DEFAULT,
    people: Annotated[str, typer.Option(help="Sizes of prompts, for a task that has some, e.g. 2,3.")] = "",
    files: Annotated[
        list[str], typer.Option("--file", help="A data file, or several by a pattern; may be given again.")
    ] = [],  # noqa: B006 - typer reads it, nothing writes it
    file_format: Annotated[
        str, typer.Option("--format", help="Of the files, for a task that knows several.")
    ] = "",
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Prompts of each subset; by default as the task says, all of a file."),
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

        rlad evaluate my-student --task recipe.yaml
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
        sections = _sections(task, asked)
    except ConfigError as error:
        complain(error)
        raise typer.Exit(2) from error
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--task") from error
    values: dict[str, Any] = {
        "name": "evaluation",
        "seed": seed,
        "policy": {"model": model, "max_length": max_length},
        **({"task": sections[0]} if len(sections) == 1 else {"tasks": sections}),
        "rollout": {"max_response_length": max_response_length, "timeout_s": timeout_s},
        "evaluation": {"samples": k, "temperature": temperature, "top_p": top_p},
    }
    try:
        recipe = validate_evaluation(values, "the command line")
    except ConfigError as error:
        complain(error)
        raise typer.Exit(2) from error
    needs_services()
    from rlad_core.prompt_checks import PromptsRefusedError
    from services.evaluate.measure import accuracy_table, measure
    from services.prompts import refused

    try:
        out.print(accuracy_table(measure(recipe, out)))
    except PromptsRefusedError as error:
        complain(refused(error, recipe))
        raise typer.Exit(2) from error


def _sections(task: str, asked: Asked) -> list[dict[str, Any]]:
    """Sections of the tasks that are evaluated.

    Raises:
        ConfigError: a recipe that does not read.
        ValueError: no task of this name, or it cannot be asked for so.
    """
    if not task.endswith((".yaml", ".yml")):
        return [section_of(task, asked)]
    asked.refuse(f"of {task}", "people", "files", "layout", "count", "split")
    return [section.model_dump(mode="json") for section in load(Path(task)).task_sections.values()]
