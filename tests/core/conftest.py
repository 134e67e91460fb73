"""What the tests of recipes share."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# The test folders are no packages (pytest imports each file by itself); what they share lies beside them.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a model folder."""

    def make(name: str = "model", weights: bool = True, **settings: Any) -> Path:
        path = tmp_path / name
        path.mkdir(parents=True)
        (path / "config.json").write_text(json.dumps(settings))
        (path / "tokenizer.json").touch()
        (path / "tokenizer.json").touch()
        if weights:
            (path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
        return path

    return make
