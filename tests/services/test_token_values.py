"""A new value per token is a line in the schema's declarations, an engine that makes it and an objective that
reads it: shown in a copy of the source in which nothing but that line is new.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINES = """\
    TokenValue("rollout_likeliest", pa.int32(), TOKEN_ID, per="k per response token", source="rollout"),
    TokenValue("teacher_entropy", pa.float32(), ENTROPY, per="response token", source="teacher"),
"""
END_OF_TABLE = ')\n"""In the order of their columns."""'


def test_two_more_lines_go_from_the_engines_to_the_objective(tmp_path: Path) -> None:
    for package in ("rlad_core", "services"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    declarations = tmp_path / "rlad_core" / "schema" / "declarations.py"
    before, end, after = declarations.read_text().partition(END_OF_TABLE)
    assert end, "the table has another end; correct END_OF_TABLE"
    declarations.write_text(before + LINES + end + after)
    script = shutil.copy(Path(__file__).parent / "new_token_values.py", tmp_path)
    # The script's folder comes first on the path, so that both packages are those of the copy.
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all values arrived"
