"""Rooms import downwards only, and what only asks or starts does not load what computes."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_rooms_import_downwards_and_in_no_circle() -> None:
    """The contracts of pyproject.toml; each says what it is for."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_every_room_says_what_comes_in_and_out_and_who_may_call_it() -> None:
    rooms = [folder for folder in (ROOT / "services").iterdir() if (folder / "__init__.py").is_file()]
    assert len(rooms) > 10
    for room in rooms:
        said = (room / "__init__.py").read_text()
        assert all(part in said for part in ("In:", "Out:")), room


def test_every_room_names_the_rooms_that_call_it() -> None:
    called: dict[str, set[str]] = defaultdict(set)
    for path in (ROOT / "services").rglob("*.py"):
        caller = path.relative_to(ROOT / "services").with_suffix("").parts[0]
        for room in rooms_imported(ast.parse(path.read_text())) - {caller}:
            called[room].add(caller)
    for room in sorted(path.parent for path in (ROOT / "services").glob("*/__init__.py")):
        said = re.findall(r"Called by: ([^.]*)\.", (room / "__init__.py").read_text())
        assert len(said) == 1, f"{room.name} says once who calls it: 'Called by: room, room.'"
        if said != ["every room above"]:  # the contracts of pyproject.toml hold that
            assert set(said[0].split(", ")) == called[room.name], room.name


def rooms_imported(module: ast.Module) -> set[str]:
    """The folders of `services` that a file imports from, at its top or anywhere in it."""
    names: list[str] = []
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{each.name}" for each in node.names]
    return {name.split(".")[1] for name in names if name.startswith("services.")}


def test_beside_the_rooms_there_is_only_the_package_itself() -> None:
    files = {path.name for path in (ROOT / "services").glob("*.py")}
    assert files == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("name", ["math", "knights_knaves"])
def test_no_module_outside_a_task_names_it(name: str) -> None:
    for folder in ("rlad_core", "services"):
        for module in (ROOT / folder).rglob("*.py"):
            if module.is_relative_to(ROOT / "rlad_core" / "tasks" / name):
                continue
            text = module.read_text()
            named = [f'"{name}"', f"'{name}'", f"tasks.{name}", f"task {name}"]
            assert not [each for each in named if each in text], module


def loaded_by(imports: str, names: set[str]) -> list[str]:
    """Which of `names` a fresh interpreter loads; this one may have loaded them for other tests."""
    program = f"import importlib, sys\n{imports}\nprint(*sorted({names!r} & set(sys.modules)))\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def modules_of(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.rglob("*.py")):
        if "starter" not in path.parts:
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def test_importing_all_of_core_loads_no_service_library() -> None:
    imports = f"for name in {modules_of(ROOT / 'rlad_core')!r}: importlib.import_module(name)"
    assert loaded_by(imports, {"ray", "vllm", "fastapi", "services"}) == []


def test_what_only_starts_services_does_not_load_their_engines() -> None:
    """It would take longer than all else before the first sign of life."""
    imports = "import services.run.training, services.cli.serving, services.evaluate.measure"
    assert loaded_by(imports, {"vllm", "transformers", "torch.distributed.fsdp"}) == []


def test_a_run_starts_ray_before_it_loads_what_trains() -> None:
    """Serve, Ray Train and torch take seconds to import, in which Ray's processes start."""
    assert loaded_by("import services.run.run", {"ray.serve", "ray.train", "torch", "vllm"}) == []


def test_a_recipe_is_planned_and_a_teacher_asked_without_what_computes() -> None:
    heavy = {"torch", "ray", "vllm", "transformers", "fastapi", "scipy"}
    core = "rlad_core.client, rlad_core.schema, rlad_core.config"
    imports = f"import {core}, services.cli.app, services.run.plan"
    assert loaded_by(imports, heavy) == []


def test_planning_loads_what_it_prints_and_nothing_else() -> None:
    """It answers in 0.4 s, most of which goes into checking the recipe: more imports would be felt."""
    plan = (
        "import contextlib, io\nfrom services.cli.main import main\n"
        "sys.argv = ['rlad', 'plan', 'kk-tiny-trrd']\n"
        "with contextlib.redirect_stdout(io.StringIO()) as printed:\n    assert main() == 0\n"
        "assert 'Starts on' in printed.getvalue()"
    )
    later = {"numpy", "pyarrow", "torch", "ray", "httpx", "asyncio", "packaging", "psutil", "jinja2"}
    others = {"services.cli.evaluate", "services.cli.serve", "services.cli.show", "services.cli.doctor"}
    assert loaded_by(plan, later | others) == []
