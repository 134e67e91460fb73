"""The dashboards against the types of Grafana's own package on npm, which is fetched for it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from grafana_types import PACKAGES, program, with_unions

from deploy.grafana.__main__ import DASHBOARDS, ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
FOLDER = ROOT / "deploy" / "grafana" / "dashboards"
COMPILE = ("node_modules/.bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "node")


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Grafana's types and a compiler."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm, which is not installed here")
    folder = tmp_path_factory.mktemp("types")
    install = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--ignore-scripts", *PACKAGES]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    with_unions(folder)
    return folder


def compiled(folder: Path, text: str) -> str:
    """What the compiler says; nothing where all is well."""
    (folder / "board.ts").write_text(text)
    done = subprocess.run(
        [*COMPILE, "board.ts"], cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("uid", [board.uid for board in DASHBOARDS])
def test_grafana_s_types_take_it(types: Path, uid: str) -> None:
    assert compiled(types, program(json.loads((FOLDER / f"{uid}.json").read_text()))) == ""


def test_a_wrong_field_is_noticed(types: Path) -> None:
    board = json.loads((FOLDER / "rlad-training-run.json").read_text())
    panel = next(panel for panel in board["panels"] if panel["type"] == "heatmap")
    panel["options"]["cellGapp"] = 1
    panel["fieldConfig"]["defaults"]["units"] = "s"
    said = compiled(types, program(board))
    assert "cellGapp" in said
    assert "units" in said
