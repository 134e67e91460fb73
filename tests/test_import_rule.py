"""rlad_core is the method: it imports neither ray, vllm nor fastapi, not even through something else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "rlad_core"
FORBIDDEN = {"ray", "vllm", "fastapi", "services"}
MODULES = sorted(CORE.rglob("*.py"))


def imported_names(source: str) -> set[str]:
    """Top-level names of everything a module imports, wherever in the file it does."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def dotted(module: Path) -> str:
    parts = module.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("module", MODULES, ids=dotted)
def test_core_names_no_service_library(module: Path) -> None:
    found = imported_names(module.read_text()) & FORBIDDEN
    assert not found, f"{dotted(module)} imports {sorted(found)}; what needs those belongs into services/"


def test_the_walk_sees_imports_at_any_depth() -> None:
    source = "def f():\n    import ray.train\n    from vllm import LLM\nfrom . import fastapi\n"
    assert imported_names(source) == {"ray", "vllm"}


def loaded_by(imports: str, names: set[str]) -> list[str]:
    """Which of `names` a fresh interpreter loads; this one may have loaded them for other tests."""
    program = f"import importlib, sys\n{imports}\nprint(*sorted({names!r} & set(sys.modules)))\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_all_of_core_loads_no_service_library() -> None:
    imports = f"for name in {[dotted(module) for module in MODULES]!r}: importlib.import_module(name)"
    assert loaded_by(imports, FORBIDDEN) == []


def test_what_only_starts_services_does_not_load_their_engines() -> None:
    """It would take longer than all else before the first sign of life."""
    imports = "import services.run, services.serving, services.evaluate"
    assert loaded_by(imports, {"vllm", "transformers", "torch.distributed.fsdp"}) == []
