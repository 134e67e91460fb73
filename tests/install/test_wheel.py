"""What a wheel holds, and that its recipes are found when it is all there is."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from environments import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = ("rlad_core", "services")


def test_the_wheel_holds_every_module_recipe_and_model(wheel: Path) -> None:
    expected = {str(path.relative_to(ROOT)) for folder in SOURCES for path in (ROOT / folder).rglob("*.py")}
    for folder in ("recipes", "models"):
        files = (path for path in (ROOT / "deploy" / folder).rglob("*") if path.is_file())
        expected |= {f"services/deploy/{path.relative_to(ROOT / 'deploy')}" for path in files}
    for folder in ("run", "models"):  # of which `rlad k8s` makes manifests
        expected |= {
            f"services/k8s/{folder}/{f.name}" for f in (ROOT / "k8s" / "base" / folder).glob("*.yaml")
        }
    expected |= {"rlad_core/py.typed", "services/py.typed", "services/constraints.txt"}
    held = set(zipfile.ZipFile(wheel).namelist())
    assert expected <= held, (
        f"missing in the wheel: {sorted(expected - held)}; has each package an __init__.py?"
    )
    strangers = {name.split("/")[0] for name in held} - {*SOURCES, f"rlad-{PROJECT['version']}.dist-info"}
    assert not strangers


def test_the_wheel_holds_every_other_file_of_the_packages(wheel: Path) -> None:
    """Templates, schemas and what a task brings for a user to copy."""
    held = set(zipfile.ZipFile(wheel).namelist())
    there = (path for folder in SOURCES for path in (ROOT / folder).rglob("*") if path.is_file())
    expected = {str(path.relative_to(ROOT)) for path in there if "__pycache__" not in path.parts}
    assert expected <= held, f"missing in the wheel: {sorted(expected - held)}; name them in package-data"


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
