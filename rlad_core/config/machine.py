"""What a run needs of the machine that it is started on: room to write, free ports. Leaves nothing behind.

Also what cannot be seen from here, for whoever wants to know what was not checked.
"""

from __future__ import annotations

import math
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rlad_core.config.models import is_elsewhere, resolve_model
from rlad_core.config.run import RunConfig
from rlad_core.config.teachers import OwnTeacher, RemoteTeacher
from rlad_core.proxies import through
from rlad_core.sections.problems import Problem

_LEAST_BYTES = 64 * 2**20


def machine_problems(config: RunConfig) -> list[Problem]:
    """What this machine lacks for a run."""
    return [*_output(config), *_storage(config), *_ports(config), *_cpus(config)]


def unchecked(config: RunConfig) -> list[str]:
    """What a run needs and this machine does not have, a line each."""
    lines = []
    models = {"policy.model": config.policy.model}
    models |= {f"{place}.model": teacher.model for place, teacher in config.served_teachers.items()}
    for place, model in models.items():
        if is_elsewhere(config, model):
            lines.append(f"{place} {model}: is not here; the cluster may have it")
        elif not model.startswith("tiny:") and not Path(resolve_model(model)).is_dir():
            way = through(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
            lines.append(f"{place} {model}: is on the hub, and fetched when the run starts{way}")
    for place, teacher in config.teacher_sections.items():
        if isinstance(teacher, RemoteTeacher):
            lines.append(f"{place} {teacher.url}: is asked when the run starts{through(teacher.url)}")
        elif isinstance(teacher, OwnTeacher):
            lines.append(f"{place} {teacher.where}: is asked when the run starts")
    for place, task in config.task_sections.items():
        missing = task.missing_files() if config.cluster.is_joined else ()
        lines += [
            f"{place}.{each.path} {each.value}: is not here; the cluster may have it" for each in missing
        ]
    return lines


def _output(config: RunConfig) -> Iterator[Problem]:
    """Where checkpoints go elsewhere, the run's folder needs no room for them."""
    elsewhere, size = config.output.checkpoints, _checkpoint_bytes(config)
    yield from _room("output.dir", config.output.dir, config.run_dir, 0 if elsewhere else size)
    if elsewhere is not None and "://" not in elsewhere and not config.cluster.is_joined:
        yield from _room("output.checkpoints", elsewhere, f"{elsewhere}/{config.name}", size)


def _room(path: str, value: str, folder: str, checkpoint: int) -> Iterator[Problem]:
    """What of it is there is written to, in a file without a name.

    Args:
        path: of the setting in the recipe, value: what it has.
        folder: that will be written.
        checkpoint: bytes of one that goes there; 0: none does.
    """
    wanted = Path(folder).absolute()
    there = next(each for each in (wanted, *wanted.parents) if os.path.exists(each))
    if not there.is_dir():
        yield Problem(path, value, f"{there} is a file. Write a folder")
        return
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"\0" * 65536)
            probe.flush()
        free = shutil.disk_usage(there).free
    except OSError as error:
        why = f"{there} cannot be written to: {error.strerror or error}. Write another folder"
        yield Problem(path, value, why)
        return
    needed = max(_LEAST_BYTES, checkpoint)
    if free < needed:
        yield Problem(
            path,
            value,
            f"{there} has {free / 2**30:.2f} GiB left, and {'a checkpoint' if checkpoint else 'a record'} "
            f"takes {needed / 2**30:.2f}. Make room, or write another folder",
        )


def _storage(config: RunConfig) -> Iterator[Problem]:
    """Of an address of fsspec: what reads it may be a library that is not here."""
    if (address := config.output.checkpoints) is None or "://" not in address:
        return
    from fsspec import get_filesystem_class

    for part in address.split("::"):
        try:
            get_filesystem_class(part.partition("://")[0])
        except ImportError as error:
            yield Problem("output.checkpoints", address, f"{error}. Do so, or write a folder")
        except ValueError as error:
            why = f"{error}. Write an address that fsspec knows, or a folder"
            yield Problem("output.checkpoints", address, why)


def _checkpoint_bytes(config: RunConfig) -> int:
    """Weights in float32, both moments of what is trained, and an older policy that teaches, where they are
    here to be counted.
    """
    if config.policy.model.startswith("tiny:") or is_elsewhere(config, config.policy.model):
        return 0
    folder = Path(resolve_model(config.policy.model))
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 0
    # At least: half of the parameters' true size where they are stored in 16 bits; adapters are small.
    return stored if config.learner.lora is not None else (3 + (config.policy_teacher is not None)) * stored


def _cpus(config: RunConfig) -> Iterator[Problem]:
    """An embedded Ray with fewer would wait for the last replica until cluster.start_timeout_s is over."""
    there, reserved = config.cluster.num_cpus, config.reserved_cpus
    if there is not None and not config.cluster.is_joined and there < reserved:
        yield Problem(
            "cluster.num_cpus",
            there,
            f"the run's replicas and ranks reserve {reserved:g} (num_cpus of each; the verifier 1). Write "
            f"{math.ceil(reserved)} or more, or null",
        )


def _ports(config: RunConfig) -> Iterator[Problem]:
    port = config.telemetry.metrics_port
    if port is not None and not config.cluster.is_joined and (why := port_fault("127.0.0.1", port)):
        yield Problem("telemetry.metrics_port", port, f"{why}. Write another one, or null for a free one")


def port_fault(host: str, port: int) -> str | None:
    """Why nobody can listen there; None: one can."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        return f"port {port} of {host} cannot be had: {error.strerror or error}"
    return None
