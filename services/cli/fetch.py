"""The command `fetch`."""

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from services.cli.console import complain, out
from services.cli.extras import INSTALL


def fetch(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A hub id, a folder, or rlad:NAME.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder that will hold its files.")],
    revision: Annotated[
        str,
        typer.Option(help="A commit, branch or tag; by default the one that DIR has, else the newest."),
    ] = "",
) -> None:
    """Bring a model to a folder: every file checked, the revision pinned, what breaks off gone on with.

    A second call checks what is there, and brings anew what is damaged. DIR/rlad-fetch.json says which
    revision it is, and each file's checksum. HF_TOKEN, or the file that HF_TOKEN_PATH names, opens models for
    members; HF_ENDPOINT names a mirror.

    Services whose RLAD_MODELS is /models read Qwen/Qwen3-8B from /models/Qwen/Qwen3-8B, and with
    HF_HUB_OFFLINE=1 never ask the hub.

    Exit codes: 0 all of it is there, 1 it broke off (start it again), 2 there is no such model for you.

    Examples:

        rlad fetch Qwen/Qwen3-8B --to /models/Qwen/Qwen3-8B

        rlad fetch Qwen/Qwen3-8B --revision v1.0 --to /models/Qwen/Qwen3-8B

        rlad fetch rlad:kk-teacher --to /models/rlad/kk-teacher
    """
    if find_spec("huggingface_hub") is None:
        typer.echo(f"This command needs huggingface_hub, which is not installed here: {INSTALL}.", err=True)
        raise typer.Exit(2)
    from services.fetch import FetchError, NoSuchModelError, source_of
    from services.fetch import fetch as bring

    def say(line: str) -> None:
        out.print(line, soft_wrap=True)

    folder, clock = to.expanduser(), time.monotonic()
    above = (folder.absolute(), *folder.absolute().parents)
    nearest = next(each for each in above if os.path.exists(each))
    if not os.path.isdir(nearest):
        raise typer.BadParameter(f"{nearest} is a file. Write another folder", param_hint="--to")
    try:
        done = bring(source_of(model, folder), folder, revision or None, say)
    except NoSuchModelError as error:
        complain(error)
        raise typer.Exit(2) from error
    except FetchError as error:
        complain(error)
        raise typer.Exit(1) from error
    files, came = done.record.files, sum(file.size for file in done.came)
    size, seconds = sum(file.size for file in files), time.monotonic() - clock
    say(f"{folder} holds {model} at revision {done.record.revision}: {len(files)} files, {size:,} bytes")
    came -= done.resumed_bytes
    there = len(files) - len(done.came)
    say(f"{there} were there, {len(done.came)} came: {came:,} bytes in {seconds:.1f} s")
