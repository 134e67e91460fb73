"""The command `rlad generate`: data to train on, from a teacher's accepted responses."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlad_core.config import ConfigError
from rlad_core.data import files_of
from rlad_core.tasks import Asked, Prompt
from rlad_core.tasks.files import FileTaskSection
from services.cli.asking_options import (
    Concurrency,
    Gpus,
    KeyEnv,
    MaxLength,
    MaxResponseLength,
    Seed,
    StartTimeout,
    Temperature,
    TensorParallel,
    Timeout,
    TopP,
)
from services.cli.console import complain, out
from services.cli.extras import needs_services

if TYPE_CHECKING:
    from services.cli.evaluation_questions import Read


def generate(
    recipe: Annotated[Path, typer.Argument(help="A recipe, for the prompts that it trains on.")],
    teacher: Annotated[
        str,
        typer.Argument(metavar="[TEACHER]", help="A folder, hub id, rlad:NAME, or a rollout service's URL."),
    ] = "",
    endpoint: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="An OpenAI-compatible endpoint instead: URL/chat/completions; /v1 where it has no path.",
        ),
    ] = "",
    name: Annotated[str, typer.Option("--model", metavar="NAME", help="The model of the endpoint.")] = "",
    key_env: KeyEnv = "",
    tries: Annotated[int, typer.Option(min=1, help="Responses to each prompt.")] = 1,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Accepted ones that are kept of a prompt; by default all.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Only so many prompts of each subset; by default all.")
    ] = None,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    max_length: MaxLength = None,
    max_response_length: MaxResponseLength = None,
    seed: Seed = 0,
    gpus: Gpus = None,
    tensor_parallel: TensorParallel = 1,
    concurrency: Concurrency = 32,
    timeout_s: Timeout = 3600.0,
    start_timeout_s: StartTimeout = 600.0,
    file: Annotated[Path, typer.Option("--out", help="The Parquet file.")] = Path("generated.parquet"),
) -> None:
    """Have a teacher answer a recipe's training prompts, and keep as chats what the verifier accepts.

    Each text of a prompt is kept once, and none that was cut off. All responses stay in a folder beside the
    file, so the same command goes on where it was stopped, and with more tries asks for those alone. `rlad
    show` reads them.

    The file has a chat a row as other trainers read it too (messages, or prompt and completion), and the
    columns that a stage of worked solutions trains on here: prompt, answer, solution.

    Exit codes: 0 written, 1 failed or stopped before the end, 2 wrong usage, or something is missing.

    Examples:

        rlad generate kk-tiny-sft rlad:kk-teacher --tries 4 --keep 1 --out teacher.parquet

        rlad generate recipe.yaml --endpoint https://example.com/v1 --model NAME --key-env KEY --tries 8
    """
    from services.cli.evaluation_questions import Asking, read_questions

    asking = Asking(
        task=str(recipe),
        suites=[],
        data=Path(),
        asked=Asked(),
        models=(teacher,) if teacher else (),
        endpoint=endpoint,
        names=(name,) if name else (),
        samples=tries,
        temperature=temperature,
        top_p=top_p,
        max_length=max_length,
        max_response_length=max_response_length,
        seed=seed,
        engine=(),
        part="training",
    )
    asking.check_usage(gpus=gpus, tensor_parallel=None if tensor_parallel == 1 else tensor_parallel)
    if bool(teacher) == bool(endpoint):
        raise typer.BadParameter("write a teacher or --endpoint, one of the two", param_hint="TEACHER")
    file = file.expanduser()
    if not file.absolute().parent.is_dir():
        complain(f"--out {file}: there is no folder {file.absolute().parent}")
        raise typer.Exit(2)
    if file.is_dir():
        complain(f"--out {file} is a folder. Write a file, such as {file / 'teacher.parquet'}")
        raise typer.Exit(2)
    if file.suffix != ".parquet":
        complain(f"--out {file}: Parquet is written. Write {file.with_suffix('.parquet')}")
        raise typer.Exit(2)
    try:
        read = read_questions(asking)
    except (ConfigError, ValueError, OSError) as error:
        complain(error)
        raise typer.Exit(2) from error
    if any(file.exists() and file.samefile(each) for each in _data_of(read)):
        complain(f"--out {file}: the recipe's own prompts are read from it. Write another file")
        raise typer.Exit(2)
    if count is not None:
        read = replace(read, prompts=_first_of_each(read.prompts, count))
    needs_services()
    from services.cli.evaluate import measured
    from services.cli.evaluation_plan import plan_of
    from services.evaluate.demonstrations import harvest, write
    from services.evaluate.plan import Devices

    try:
        plan = plan_of(
            asking,
            read,
            out=file.with_name(f"{file.name}.responses"),
            dtype="auto",
            devices=Devices(gpus, None, tensor_parallel),
            key_env=key_env or None,
            concurrency=concurrency,
            timeout_s=timeout_s,
            start_timeout_s=start_timeout_s,
            ks=(),
        )
    except (ConfigError, ValueError) as error:
        complain(error)
        raise typer.Exit(2) from error
    [answered] = measured(plan)
    table, found = harvest(
        answered.answers, {prompt.prompt_id: prompt for prompt in read.prompts}, answered.label, keep
    )
    write(table, file)
    cut_off = f" {found.cut_off} more were right and cut off, and are left out." if found.cut_off else ""
    out.print(
        f"{found.accepted} of {found.responses} responses were accepted, {found.doubled} of them repeat "
        f"another word by word; {found.kept} are kept.{cut_off} "
        f"{found.without} of {found.prompts} prompts have none.",
        soft_wrap=True,
    )
    out.print(f"chats      {file}\nresponses  {answered.folder}", soft_wrap=True)


def _data_of(read: "Read") -> Iterator[Path]:
    """Data files that the recipe reads, to train on or held out."""
    for section in read.recipe.task_sections.values():
        if isinstance(section, FileTaskSection):
            for each in (*section.files("train"), *section.files("evaluation")):
                yield from files_of(each.path)


def _first_of_each(prompts: list[Prompt], count: int) -> list[Prompt]:
    seen: dict[str, int] = {}
    found = []
    for prompt in prompts:
        seen[prompt.subset] = seen.get(prompt.subset, 0) + 1
        if seen[prompt.subset] <= count:
            found.append(prompt)
    return found
