"""The command `score`."""

import asyncio
import math
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.asking_options import refuse_odd_url
from services.cli.console import complain, err, out
from services.cli.extras import needs_services

if TYPE_CHECKING:
    from services.score.asking import Wanted
    from services.score.looking import Looked
    from services.score.scoring import Source

_SPARE_CPUS = 2


def score(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Parquet, JSON lines, Arrow, CSV; also compressed, or a pattern such as 'a-*.parquet'.",
        ),
    ],
    url: Annotated[
        str, typer.Option("--url", "--teacher", metavar="URL", help="A teacher service, rlad serve teacher.")
    ] = "",
    model: Annotated[
        str, typer.Option(help="In place of it, a folder, a hub id, or rlad:NAME; it is served meanwhile.")
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="OUT",
            help="Written to: .parquet, .arrow or .jsonl; by default FILE's name with .scored, beside it.",
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(min=0, help="Also the k likeliest tokens at each place.")] = 0,
    entropy: Annotated[
        bool, typer.Option("--entropy", help="Also the entropy at each place, in nats.")
    ] = False,
    prompt: Annotated[
        str,
        typer.Option(
            metavar="COLUMN",
            help="With prompts; by default prompt_token_ids, messages or prompt, as fits the response.",
        ),
    ] = "",
    response: Annotated[
        str,
        typer.Option(
            metavar="COLUMN",
            help="With responses; by default response_token_ids, response, completion, or the last message.",
        ),
    ] = "",
    skip_refused: Annotated[
        bool,
        typer.Option(
            "--skip-refused",
            help="Rows that the teacher refuses, such as too long ones, get nulls and end nothing.",
        ),
    ] = False,
    column_prefix: Annotated[
        str,
        typer.Option(
            metavar="PREFIX",
            help="Before the names of columns that are added, where the file has such columns already.",
        ),
    ] = "",
    token_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="Environment variable with the token for the URL.")
    ] = "",
    token_file: Annotated[str, typer.Option(metavar="FILE", help="File with the token for the URL.")] = "",
    encoding: Annotated[str, typer.Option(help="Of FILE's text, where it is not UTF-8.")] = "",
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="KEY=VALUE", help="With --model, a setting of the teacher, e.g. engine=vllm."
        ),
    ] = [],  # noqa: B006
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds for one request of up to 65,536 tokens.")
    ] = 600.0,
    start_timeout_s: Annotated[
        float, typer.Option("--start-timeout", min=1, help="Seconds until a model must be up.")
    ] = 600.0,
) -> None:
    """Score a file's responses with a teacher: its rows as they are, and the log-prob of each response token.

    Columns that are added: teacher_logprobs; with --entropy entropy; with --top-k top_token_ids and
    top_logprobs; response_token_ids where the response was text. What is finished is kept in OUT.parts until
    OUT is there: the same command goes on where it was stopped or killed, and asks for nothing twice.

    Exit codes: 0 written; 1 failed, stopped before the end, or all rows were refused; 2 wrong usage, or
    something is missing.

    Examples:

        rlad score responses.parquet --url http://teacher:8000

        rlad score chats.jsonl --model rlad:kk-teacher --out scored.parquet --top-k 5 --entropy

        rlad score answers.csv --teacher https://teacher --token-env TOKEN --prompt question --response answer

        rlad score responses.arrow --model Qwen/Qwen3-8B --set num_gpus=1 --set dtype=bfloat16
    """
    from rlad_core.client.bearer import token_from
    from rlad_core.client.made_with import MixedError
    from rlad_core.data import DataError
    from rlad_core.sections.paths import expanded
    from services.score.asked import AskedError
    from services.score.asking import RefusedRowError, Wanted
    from services.score.parts import PartsError
    from services.score.scoring import UntoldError

    if bool(url) == bool(model):
        raise typer.BadParameter("write --url URL of a teacher, or --model MODEL; one of the two")
    if overrides and not model:
        raise typer.BadParameter("a running teacher has its settings; --set goes with --model")
    if url:
        refuse_odd_url("--url", url)
    try:
        token = token_from(token_env or None, str(expanded(token_file)) if token_file else None)
        wanted = Wanted(top_k, entropy, skip_refused)
        # A shell leaves the ~ of a pattern in quotes, and of --token-file=~/token, as it is.
        file = str(expanded(file))
        source, written, told, looked = _read(file, encoding, prompt, response, folder, wanted, column_prefix)
    except (AskedError, DataError, ValueError) as error:
        complain(error)
        raise typer.Exit(2) from error
    command = ["rlad", *sys.argv[1:]]
    again = f"Go on with the same command:\n  {shlex.join(command)}"
    try:
        with _teacher(url, model, overrides, top_k, start_timeout_s) as teacher:
            refused, first = _score(teacher, token, source, wanted, written, told, looked, timeout_s)
    except (PartsError, UntoldError) as error:
        complain(error)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        err.print(f"stopped. {again}", soft_wrap=True)
        raise typer.Exit(1) from None
    except Exception as error:
        if isinstance(error, typer.Exit):
            raise
        from services.base.failures import said

        if isinstance(error, RefusedRowError):
            again = f"Skip what is refused:\n  {shlex.join([*command, '--skip-refused'])}"
        if isinstance(error, MixedError):
            again = (
                "Once the former teacher is served again, the same command goes on. To score all with "
                "another one, write another --out"
            )
        err.print(f"failed: {said(error)}", soft_wrap=True)
        err.print(f"What was scored until then is kept. {again}", soft_wrap=True)
        raise typer.Exit(1) from error
    if refused:
        out.print(f"{refused} of {looked.rows} rows were refused by the teacher and have nulls")
    out.print(f"written  {written}", soft_wrap=True)
    if refused == looked.rows:
        complain(f"failed: there is no score in it, since all rows were refused. {first}".rstrip())
        raise typer.Exit(1)


def _read(
    file: str, encoding: str, prompt: str, response: str, folder: Path | None, wanted: "Wanted", prefix: str
) -> tuple["Source", Path, dict[str, str], "Looked"]:
    """The file, where the output goes, the columns that are added, and its rows; before anything starts."""
    from rlad_core.data import files_of
    from services.score.asked import AskedError, Columns
    from services.score.looking import look, names_of
    from services.score.scoring import Source
    from services.score.writing import FORMATS, columns_told, default_out, refuse_unwritable

    source = Source(file, Columns.of(names_of(file, encoding or None), prompt, response), encoding or None)
    if folder is None and not Path(file).is_file():
        raise AskedError(f"{file} is more than one file; write where the output goes: --out NAME.parquet")
    written = (folder or default_out(file)).expanduser()
    if not written.name.lower().endswith(FORMATS):
        raise AskedError(f"--out {written} ends in none of {', '.join(FORMATS)}")
    if not written.absolute().parent.is_dir():
        raise AskedError(f"--out {written}: there is no folder {written.parent}")
    if written.is_dir():
        raise AskedError(f"--out {written} is a folder; write the name of a file")
    if written.exists() and any(written.samefile(each) for each in files_of(file)):
        raise AskedError(f"--out {written} is the file itself, or one of its files; write another one")
    looked = look(source, wanted.skip_refused)
    told = columns_told(looked.has_text, wanted.top_k, wanted.entropy, prefix)
    looked.refuse_taken(told)
    refuse_unwritable(file, source.encoding, written)
    return source, written, told, looked


@contextmanager
def _teacher(url: str, model: str, overrides: list[str], top_k: int, start_timeout_s: float) -> Iterator[str]:
    """The URL of a teacher: the one that is given, or one of a model that is served inside the block."""
    if url:
        yield url
        return
    needs_services()
    from rlad_core.client.forms import TeacherLimits
    from rlad_core.config import assigned
    from services.base.stopping import keep_interrupting
    from services.cli.service_settings import SERVICES, ServingError, read_settings
    from services.serve.cluster import embedded_ray
    from services.serve.deployment import deployed
    from services.serve.http.auth import TOKENS, TOKENS_FILE

    try:
        more = top_k > TeacherLimits().max_top_k
        begun: dict[str, Any] = {"limits": {"max_top_k": top_k}} if more else {}
        settings: dict[str, Any] = assigned(begun, overrides)
        args = read_settings("teacher", settings, model)["teacher"]
    except (ServingError, ValueError) as error:
        complain(error)
        raise typer.Exit(2) from error
    # On the loopback, and for this command alone: those of a service that lives on are not ours to ask for.
    for variable in (TOKENS, TOKENS_FILE):
        os.environ.pop(variable, None)
    out.print(f"starting Ray and a teacher of {model}", soft_wrap=True)
    app = SERVICES["teacher"].build(args)
    cpus = _SPARE_CPUS + math.ceil(args.num_cpus * args.num_replicas)
    with (
        embedded_ray(num_cpus=cpus, object_store_gib=0.5, go_on="The same command goes on."),
        deployed(
            {"teacher": app}, timeout_s=start_timeout_s, setting="--start-timeout", routes={"teacher": "/"},
            take_down=False, say=lambda text: out.print(text, soft_wrap=True),
        ) as served,
    ):  # fmt: skip
        keep_interrupting()  # Ray took SIGTERM for itself when it started
        yield served


def _score(
    url: str,
    token: str | None,
    source: "Source",
    wanted: "Wanted",
    written: Path,
    told: dict[str, str],
    looked: "Looked",
    timeout_s: float,
) -> tuple[int, str]:
    """Score and write; returns how many rows were refused, and the first of this time with its reason."""
    from rlad_core.client import AsyncTeacherClient
    from services.base.stopping import sigterm_interrupts
    from services.score.asking import Asking
    from services.score.parts import Parts
    from services.score.progress import ScoreProgress
    from services.score.scoring import asked_of, refuse_untold, score_parts
    from services.score.writing import write

    async def all_parts() -> tuple[Parts, int, int, str]:
        async with AsyncTeacherClient(
            url,
            token=token,
            call_timeout_s=timeout_s,
            timeout_s=2 * timeout_s,
            say=lambda text: complain(text),
        ) as client:
            teacher = await client.info()
            refuse_untold(wanted, looked.has_chats, teacher)
            parts = Parts(written, asked_of(source, wanted, teacher))
            alone.enter_context(parts.held())
            count = refused = 0

            def on_part(rows: int, tokens: int, lacking: int) -> None:
                nonlocal count, refused
                count, refused = count + 1, refused + lacking
                progress.told(rows, tokens)

            asking = Asking(client, teacher, wanted)
            with ScoreProgress(out, looked.rows) as progress:
                await score_parts(source, parts, asking, on_part)
            return parts, count, refused, asking.first_refused

    with ExitStack() as alone:
        with sigterm_interrupts():
            parts, count, refused, first = asyncio.run(all_parts())
        write(source.path, source.encoding, parts, count, written, told)
        parts.remove()
    return refused, first
