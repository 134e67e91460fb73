"""A TypeScript client made of the three OpenAPI documents compiles, and says what the services say."""

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PACKAGES = ("openapi-typescript@7", "openapi-fetch@0.17", "typescript@5")
PROGRAM = Path(__file__).with_name("typescript_client.ts")
STRICT = ("--noEmit", "--strict", "--target", "es2022", "--module", "nodenext")


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of its own, with the generator and the compiler."""
    if missing := [program for program in ("node", "npm") if shutil.which(program) is None]:
        pytest.skip(f"{' and '.join(missing)} is not installed")
    made = tmp_path_factory.mktemp("typescript")
    (made / "package.json").write_text(json.dumps({"name": "client", "private": True, "type": "module"}))
    installed = run(made, "npm", "install", "--no-audit", "--no-fund", *PACKAGES)
    if installed.returncode:
        pytest.skip(f"npm cannot install {', '.join(PACKAGES)}: {installed.stderr[-300:]}")
    return made


def test_a_generated_client_compiles(http: httpx.Client, folder: Path) -> None:
    for name in ("teacher", "rollout", "verifier"):
        document = http.get(f"/{name}/openapi.json").raise_for_status().text
        (folder / f"{name}.json").write_text(document)
        made = run(folder, "npx", "--no-install", "openapi-typescript", f"{name}.json", "-o", f"{name}.ts")
        assert made.returncode == 0, made.stdout + made.stderr
    (folder / "use.ts").write_text(PROGRAM.read_text())
    compiled = run(folder, "npx", "--no-install", "tsc", *STRICT, "use.ts")
    assert compiled.returncode == 0, compiled.stdout
    # The types are not so wide that anything fits.
    wrong = PROGRAM.read_text().replace("response_token_ids: [3]", 'response_token_ids: "three"')
    (folder / "wrong.ts").write_text(wrong)
    refused = run(folder, "npx", "--no-install", "tsc", *STRICT, "wrong.ts")
    assert "Type 'string' is not assignable to type 'number[]'" in refused.stdout
