"""Table, differences and figure of models that were asked for many responses to each problem."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from carried_out import BASE, answer, suite

from benchmarks import right_of_32
from benchmarks.right_of_32 import BEFORE, counted, models_of, plot_of
from services.compare.suite import Suite
from services.evaluate.store import AnswerStore

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "results" / "kk_tiny_tuned"


def test_what_the_page_says_of_the_kept_counts_comes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("suite.yaml", right_of_32.TABLE):
        shutil.copyfile(KEPT / name, tmp_path / name)
    monkeypatch.setattr(sys, "argv", ["right_of_32", str(tmp_path)])
    right_of_32.main()
    said = capsys.readouterr().out
    page = (ROOT / "docs" / "results.md").read_text().replace("**", "").replace("|  |", "| |")
    table = [line for line in said.splitlines() if line.startswith("| ")][1:]
    assert len(table) == 7
    for line in table:
        assert line.replace("|  |", "| |") in page
    assert "TRRD against before: +16.1 [+13.5, +18.8]" in said
    assert "16.1 points [13.5, 18.8]" in page
    assert (tmp_path / right_of_32.PLOT).read_bytes().startswith(b"\x89PNG")


def test_a_method_has_the_colour_that_it_has_in_the_report() -> None:
    kept = Suite.model_validate(yaml.safe_load((KEPT / "suite.yaml").read_text()))
    right = json.loads((KEPT / right_of_32.TABLE).read_text())["right"]
    plot = plot_of(list(models_of(kept, right)), 32)
    variants = [variant.label or name for name, variant in kept.variants.items()]
    numbers = {line.label: line.number for line in plot.lines}
    assert numbers.pop(BEFORE) == len(variants)
    assert "KDRL, annealed" in numbers
    assert all(variants[number] == label for label, number in numbers.items())


def test_responses_of_an_evaluation_are_counted_by_run(tmp_path: Path) -> None:
    asked = {"temperature": 0.6, "top_p": 0.95}
    right = {"rlad:kk-student": [0, 2], "out/runs/trrd-seed0/export": [4, 3]}
    for number, (label, counts) in enumerate(right.items()):
        with AnswerStore(tmp_path / str(number), {"label": label, **asked}, "judge") as store:
            store.add([answer(p, s, s < count) for p, count in enumerate(counts) for s in range(4)])
    found = counted(tmp_path)
    assert found == {
        **asked, "samples": 4, "problems": ["p0", "p1"], "right": {BEFORE: [0, 2], "trrd-seed0": [4, 3]},
    }  # fmt: skip
    before, trrd = models_of(suite(variants=BASE["variants"]), found["right"])
    assert np.allclose(before.solved(4, 4), [[0, 1]])
    assert np.allclose(trrd.solved(1, 4), [[1, 0.75]])
    settings = tmp_path / "1" / "settings.json"
    settings.write_text(settings.read_text().replace("0.6", "1.0"))
    with pytest.raises(ValueError, match="has no models that were asked the same"):
        counted(tmp_path)
