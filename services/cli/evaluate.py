"""The command `evaluate`."""

import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rlad_core.config import ConfigError
from rlad_core.suites import SUITES
from rlad_core.tasks import DEFAULT, SECTIONS, Asked
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
from services.cli.console import complain, err, out
from services.cli.extras import needs_services

_OUT = "evaluations"


def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Folders, hub ids, rlad:NAME, or URLs of rollout services; several are compared.",
        ),
    ] = None,
    endpoint: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="An OpenAI-compatible endpoint: URL/chat/completions; /v1 where it has no path.",
        ),
    ] = "",
    names: Annotated[
        list[str],
        typer.Option("--model", metavar="NAME", help="A model of the endpoint; may be given again."),
    ] = [],  # noqa: B006 - typer reads it, nothing writes it
    key_env: KeyEnv = "",
    task: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(SECTIONS)}, a class of your own (file.py:Name), or a recipe, for its tasks."
        ),
    ] = "",
    people: Annotated[str, typer.Option(help="Sizes of prompts, for a task that has some, e.g. 2,3.")] = "",
    files: Annotated[
        list[str], typer.Option("--file", help="A data file of the task; may be given again.")
    ] = [],  # noqa: B006
    file_format: Annotated[
        str, typer.Option("--format", help="Of the files, for a task that knows several.")
    ] = "",
    suite: Annotated[
        str, typer.Option(metavar="NAMES", help=f"Benchmarks instead of a task: {','.join(SUITES)}.")
    ] = "",
    data: Annotated[Path, typer.Option(help="Folder with the benchmarks' files, as downloaded.")] = Path(),
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Prompts of each subset; by default as the task says, all of a file."),
    ] = None,
    split: Annotated[str, typer.Option(help="validation or test, for a task that has both.")] = "",
    k: Annotated[int, typer.Option("--k", min=1, help="Responses per prompt, for Mean@k and Pass@k.")] = 1,
    pass_k: Annotated[str, typer.Option(help="The k of Pass@k, e.g. 1,8; by default 2, 4, ... k.")] = "",
    temperature: Temperature = 0.6,
    top_p: TopP = 0.95,
    max_length: MaxLength = None,
    max_response_length: MaxResponseLength = None,
    seed: Seed = 0,
    gpus: Gpus = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="Of a model; by default as many as the GPUs allow.")
    ] = None,
    tensor_parallel: TensorParallel = 1,
    dtype: Annotated[str, typer.Option(help="auto (as saved), float32, bfloat16.")] = "auto",
    overrides: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Of the engine, e.g. kv_cache_memory_gib=4."),
    ] = [],  # noqa: B006
    concurrency: Concurrency = 32,
    timeout_s: Timeout = 3600.0,
    start_timeout_s: StartTimeout = 600.0,
    folder: Annotated[
        Path | None, typer.Option("--out", help=f"Where responses are kept; by default {_OUT}/ here.")
    ] = None,
) -> None:
    """Measure the accuracy of models on held-out prompts, with intervals, and compare them.

    Every response is kept with its verdict. The same command goes on where it was stopped, and asks for no
    response twice: also with more samples, more prompts, or one more model.

    Exit codes: 0 measured, 1 failed or stopped before the end, 2 wrong usage, or something is missing.

    Examples:

        rlad evaluate rlad:kk-student rlad:kk-teacher --people 2 --count 100

        rlad evaluate runs/kk-tiny-trrd/export --people 2,3,4 --k 4

        rlad evaluate my-student --suite aime24,amc23,math500 --data data --k 16 --max-length 16384

        rlad evaluate http://127.0.0.1:8000 --task recipe.yaml

        rlad evaluate --endpoint https://example.com/v1 --model NAME --key-env KEY --suite gsm8k --data data

        rlad evaluate my-student --task my_tasks.py:Riddles --count 100
    """
    # Here, for the other commands' sake: it loads what reads data.
    from services.cli.evaluation_questions import Asking, read_questions

    suites = [name.strip() for name in suite.split(",") if name.strip()]
    if suite and not suites:
        raise typer.BadParameter(f"{suite!r} names none; write e.g. aime24,math500", param_hint="--suite")
    asking = Asking(
        task=task or ("" if suite else DEFAULT),
        suites=suites,
        data=data,
        asked=Asked(
            people=_numbers(people, "--people", "sizes; write e.g. 2,3") or None,
            files=files,
            layout=file_format or None,
            count=count,
            split=split or None,
        ),
        models=tuple(models or ()),
        endpoint=endpoint,
        names=tuple(names),
        samples=k,
        temperature=temperature,
        top_p=top_p,
        max_length=max_length,
        max_response_length=max_response_length,
        seed=seed,
        engine=tuple(overrides),
    )
    ks = tuple(_numbers(pass_k, "--pass-k", "numbers; write e.g. 1,8"))
    if wrong := [each for each in ks if not 1 <= each <= k]:
        raise typer.BadParameter(f"{wrong[0]} is not within 1..{k} (--k)", param_hint="--pass-k")
    if dtype not in ("auto", "float32", "bfloat16"):
        raise typer.BadParameter(f"{dtype!r}; write auto, float32 or bfloat16", param_hint="--dtype")
    asking.check_usage(
        gpus=gpus,
        replicas=replicas,
        tensor_parallel=None if tensor_parallel == 1 else tensor_parallel,
        dtype=None if dtype == "auto" else dtype,
    )
    try:
        read = read_questions(asking)
    except (ConfigError, ValueError, OSError) as error:
        complain(error)
        raise typer.Exit(2) from error
    needs_services()
    from services.cli.evaluation_plan import plan_of
    from services.evaluate.plan import Devices

    try:
        plan = plan_of(
            asking,
            read,
            out=Path(_OUT),
            dtype=dtype,
            devices=Devices(gpus, replicas, tensor_parallel),
            key_env=key_env or None,
            concurrency=concurrency,
            timeout_s=timeout_s,
            start_timeout_s=start_timeout_s,
            ks=ks,
        )
    except (ConfigError, ValueError) as error:
        complain(error)
        raise typer.Exit(2) from error
    for remark in read.remarks:
        out.print(remark, style="dim", soft_wrap=True)
    _measure(replace(plan, out=_writable(folder)))


def _measure(plan: Any) -> None:
    """Carry it out, and say what came of it."""
    from rlad_core.evaluation import paired_rows, rows_of, verdicts_of
    from services.evaluate.tables import accuracy_tables
    from services.report.tables import paired_table

    found = measured(plan)
    for table in accuracy_tables({each.label: rows_of(each.answers, plan.ks) for each in found}):
        out.print(table)
    first, *others = found
    if others:
        verdicts = verdicts_of(first.answers)
        for each in others:
            pairs = paired_rows(verdicts, verdicts_of(each.answers))
            out.print(paired_table(pairs, f"{each.label} against {first.label}"))
    for each in found:
        out.print(f"responses  {each.folder}", soft_wrap=True)
    out.print(f"read them with\n  rlad show {shlex.quote(str(first.folder))} --wrong", soft_wrap=True)


def measured(plan: Any) -> Any:
    """Carry it out; what stands in the way ends the command, with a word on how to go on.

    Raises:
        typer.Exit: with 2 where nothing was started, else 1.
    """
    from services.evaluate.measure import PlanError, Stopped, measure
    from services.evaluate.session import IncompleteError
    from services.evaluate.store import StoreError
    from services.serve.starting import DeploymentError

    again = f"Go on with the same command:\n  {shlex.join(['rlad', *sys.argv[1:]])}"
    try:
        return measure(plan, out)
    except (PlanError, StoreError) as error:
        complain(error)
        raise typer.Exit(2) from error
    except Stopped as stop:
        out.print(f"stopped: {stop}. {again}", soft_wrap=True)
        raise typer.Exit(1) from stop
    except (IncompleteError, DeploymentError, OSError) as error:  # TimeoutError is one of the latter
        err.print(f"failed: {error}", soft_wrap=True)
        err.print(f"What was done until then is kept in {plan.out}. {again}", soft_wrap=True)
        raise typer.Exit(1) from error


def _numbers(text: str, option: str, wanted: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"{text!r} is no list of {wanted}", param_hint=option)
    return [int(part) for part in parts]


def _writable(folder: Path | None) -> Path:
    """Where responses are kept; a folder that was asked for and cannot be written to is refused."""
    wanted = (folder or Path(_OUT)).expanduser()
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return wanted
    except OSError as error:
        if folder is not None:
            complain(f"--out {folder} cannot be written to: {error.strerror}")
            raise typer.Exit(2) from error
        kept_in = Path(tempfile.mkdtemp(prefix="rlad-evaluations-"))
        err.print(
            f"{wanted} cannot be written to, so responses are kept in {kept_in}; --out chooses",
            soft_wrap=True,
        )
        return kept_in
