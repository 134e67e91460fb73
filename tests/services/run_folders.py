"""A run's folder as a run leaves it."""

import json
from pathlib import Path

from rlad_core.config import load
from services.learner.checkpoint import STATE_FILE
from services.run import folder, lease


def of_five_steps(tmp_path: Path) -> Path:
    """Of a run that has done five steps, with checkpoints after two and four."""
    config = load("kk-tiny-trrd", [f"output.dir={tmp_path}", "name=old"])
    run_dir = tmp_path / "old"
    folder.begin(config, run_dir)
    (run_dir / lease.FOLDER).mkdir()
    (run_dir / "metrics.jsonl").write_text("".join(f'{{"step": {step}}}\n' for step in range(5)))
    for step in (2, 4):
        checkpoint = run_dir / f"checkpoint_{step}"
        checkpoint.mkdir()
        (checkpoint / STATE_FILE).write_text(json.dumps({"step": step, "frontier": None}))
        (checkpoint / "weights").write_text(str(step))
    return run_dir
