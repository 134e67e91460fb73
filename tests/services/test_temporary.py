"""Where a replica's temporary files go."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from services.serve.temporary import FOLDER, session_folder, use_session_folder


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "/tmp")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")


def test_this_process_and_those_that_it_starts_use_the_sessions_folder() -> None:
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as session:
        use_session_folder(Path(session))
        there = subprocess.run(
            [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert tempfile.gettempdir() == there.stdout.strip() == f"{session}/{FOLDER}"
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"].startswith("/tmp/torchinductor_")


def test_paths_that_are_too_long_for_sockets_are_not_used(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    use_session_folder(long)
    use_session_folder(None)
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == "/tmp"
    assert list(long.iterdir()) == []


def test_without_ray_there_is_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray._private.worker._global_node", None)
    assert session_folder() is None
