"""The command `serve`."""

import tempfile
import time
from typing import Annotated

import typer

from rlad_core.config.machine import port_fault
from rlad_core.sections.paths import expanded
from services.base.uncollected import uncollected
from services.cli.console import complain, complain_in_red, out
from services.cli.extras import needs_services

PORT_S = 5.0
"""Longest wait for a port that is in use: 1.8 s were seen after a service was killed."""


def serve(
    service: Annotated[str, typer.Argument(help="teacher, rollout, verifier, or all.")],
    model: Annotated[
        str, typer.Option(help="A folder, a hub id, or rlad:NAME, for teacher and rollout.")
    ] = "",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where HTTP is answered.")] = 8000,
    host: Annotated[str, typer.Option(help="Other than 127.0.0.1 needs tokens, see above.")] = "127.0.0.1",
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
    tls_cert: Annotated[
        str, typer.Option(metavar="FILE", help="Answer HTTPS with this certificate (PEM); with --tls-key.")
    ] = "",
    tls_key: Annotated[str, typer.Option(metavar="FILE", help="Its private key (PEM).")] = "",
    behind_proxy: Annotated[
        str,
        typer.Option(
            metavar="ADDRESSES",
            help="Reverse proxies whose X-Forwarded-For is believed, with commas between.",
        ),
    ] = "",
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Where Prometheus finds the metrics of all replicas; else a free one."
        ),
    ] = None,
    start_timeout_s: Annotated[
        float, typer.Option("--start-timeout", min=1, help="Seconds until it must be up.")
    ] = 600.0,
) -> None:
    """Serve a teacher, rollouts or verification on this machine, until Ctrl-C or SIGTERM.

    Tokens that callers must send are taken from RLAD_API_TOKENS, or from the file RLAD_API_TOKENS_FILE names.

    Examples:

        rlad serve teacher --model rlad:kk-teacher

        rlad serve teacher --model Qwen/Qwen3-8B --set engine=vllm --set num_gpus=1 --set dtype=bfloat16

        rlad serve teacher --model rlad:kk-teacher --tls-cert cert.pem --tls-key key.pem

        rlad serve verifier --port 8001 --task my_tasks.py:Riddles

        rlad serve all

        rlad serve all --set teacher.model=rlad:kk-teacher --set rollout.model=rlad:kk-student
    """
    needs_services()
    with uncollected():
        from services.cli.service_settings import (
            SERVICES,
            ServingError,
            assigned_to,
            read_settings,
            with_models,
            with_tasks,
        )
        from services.cli.serving import serve_until_stopped
        from services.serve.deployment import Tls
        from services.serve.starting import DeploymentError

    if service != "all" and service not in SERVICES:
        raise typer.BadParameter(f"{service!r} is unknown; write {', '.join(SERVICES)} or all")
    if bool(tls_cert) != bool(tls_key):
        raise typer.BadParameter("--tls-cert and --tls-key belong together; give both")
    try:
        settings = assigned_to(service, overrides)
        if tasks and service not in ("verifier", "all"):
            raise ServingError(f"--task: {service} judges nothing; leave it out")
        if tasks and service == "verifier":
            settings = with_tasks(settings, tasks)
        elif tasks:
            settings = {**settings, "verifier": with_tasks(settings.get("verifier", {}), tasks)}
        if service == "all" and not model:
            settings, named = with_models(settings)
            if named:
                out.print(f"no model is named for {' and '.join(named)}: the tiny ones that ship are served")
        services = read_settings(service, settings, model or None)
    except (ServingError, ValueError) as error:
        complain(error)
        raise typer.Exit(2) from error

    if why := _port_fault(host, port):
        complain(f"--port: {why}. Write another one")
        raise typer.Exit(2)

    def say(text: str) -> None:
        out.print(text, soft_wrap=True)

    # A shell leaves the ~ of --tls-key=~/key.pem as it is.
    tls = Tls(str(expanded(tls_cert)), str(expanded(tls_key))) if tls_cert else None
    try:
        serve_until_stopped(
            services, host=host, port=port, start_timeout_s=start_timeout_s, say=say,
            tls=tls, behind=behind_proxy, metrics_port=metrics_port,
        )  # fmt: skip
    except ServingError as error:
        complain(error)
        raise typer.Exit(2) from error
    except DeploymentError as error:
        complain_in_red("failed", error)
        if error.whole:
            say(f"the whole of it is in {_kept(error.whole)}")
        raise typer.Exit(1) from error


def _port_fault(host: str, port: int) -> str | None:
    """Why nobody can listen there. A service that was killed is started again at once by whatever watches it,
    and what it leaves of processes has the port for a moment more.
    """
    until = time.monotonic() + PORT_S
    while (why := port_fault(host, port)) and time.monotonic() < until:
        time.sleep(0.25)
    return why


def _kept(whole: str) -> str:
    """A file with the whole of a failure."""
    with tempfile.NamedTemporaryFile("w", prefix="rlad-serve-", suffix=".log", delete=False) as log:
        log.write(whole)
    return log.name
