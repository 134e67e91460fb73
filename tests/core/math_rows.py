"""Rows as the field's files have them, and files with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SOLUTION = "Half of 10 is <<10/2=5>>5.\nTwice that and 32 is 42."
GSM8K = {"question": "What is it?", "answer": f"{SOLUTION}\n#### 42"}
MATH = {"problem": "What is it?", "solution": r"First $\frac12$, so $\boxed{\frac{1}{2}}$.", "level": "1"}


def chat(truth: Any, content: str = "What is it?") -> dict[str, Any]:
    return {"prompt": [{"role": "user", "content": content}], "reward_model": {"ground_truth": truth}}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
