"""The tries of a suite are judged on none of the problems of its report, whatever these are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from carried_out import BASE, suite

from rlad_core.config import ConfigError
from services.compare.comparison import Comparison

SAID = r"tuning\.set .*has the tries judged on the report's own held-out problems "
VARIANTS = {"trrd": {"tune": {"learner.lr": [1e-4, 2e-4]}}}


def check(tmp_path: Path, changes: dict[str, Any], tuning: dict[str, Any]) -> None:
    wanted = suite(variants=VARIANTS, set={**BASE["set"], **changes}, tuning={"seed": 50, "set": tuning})
    Comparison(wanted, tmp_path / "out").check("suite.yaml")


@pytest.mark.parametrize(
    "tries",
    [
        {"people": [4, 3, 2]},
        {"people": [3]},
        {"people": [3, 5], "count": 7},
        {"people": [4], "perturbations": ["flip_role"]},
    ],
)
def test_puzzles_of_the_report_are_known_by_how_they_are_asked_for(
    tmp_path: Path, tries: dict[str, Any]
) -> None:
    reported = {"task.evaluation": {"people": [2, 3, 4], "count": 50}}
    with pytest.raises(ConfigError, match=SAID):
        check(tmp_path, reported, {"task.evaluation": {"count": 50, **tries}})
    for others in ({"split": "validation"}, {"seed": 1}, {"people": [5], "perturbations": []}):
        check(tmp_path, reported, {"task.evaluation": {"count": 50, **tries, **others}})


def file(folder: Path, name: str, *asked: str) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    rows = [json.dumps({"prompt": each, "gold": "1"}) for each in asked]
    (folder / name).write_text("\n".join(rows) + "\n")
    return {"path": str(folder / name)}


def test_problems_of_files_are_known_by_what_they_ask(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def score(response, gold, row):\n    return 1.0\n")
    one, two = file(tmp_path, "one.jsonl", "1+1?", "1+2?"), file(tmp_path, "two.jsonl", "2+1?")
    task = {
        "name": "prompts",
        "reward": f"{tmp_path / 'own.py'}:score",
        "train": {"files": [file(tmp_path, "train.jsonl", "3+1?")]},
        "evaluation": {"files": [one, two]},
    }
    for tries in (
        [one],
        [two, one],
        [{**one, "name": "another"}],
        [file(tmp_path / "copies", "copy.jsonl", "1+1?", "1+2?")],
        [file(tmp_path / "copies", "some.jsonl", "9+9?", " 2+1? ")],
    ):
        with pytest.raises(ConfigError, match=SAID + r"\(\S+\.jsonl, line \d\)"):
            check(tmp_path, {"task": task}, {"task.evaluation.files": tries})
    check(tmp_path, {"task": task}, {"task.evaluation.files": [file(tmp_path, "three.jsonl", "9+9?")]})


def test_files_that_a_cluster_has_are_known_by_their_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    files = [{"path": f"/nowhere/{name}.jsonl"} for name in ("one", "two", "three")]
    task = {"name": "math", "train": {"files": files[2:]}, "evaluation": {"files": files[:2]}}
    with pytest.raises(ConfigError, match=SAID):
        check(tmp_path, {"task": task}, {"task.evaluation.files": [{**files[1], "name": "other"}]})
    check(tmp_path, {"task": task}, {"task.evaluation.files": files[2:]})


def test_a_file_that_cannot_be_read_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def score(response, gold, row):\n    return 1.0\n")
    one, broken = file(tmp_path, "one.jsonl", "1+1?"), file(tmp_path, "broken.jsonl", "1+1?")
    task = {
        "name": "prompts",
        "reward": f"{tmp_path / 'own.py'}:score",
        "train": {"files": [one]},
        "evaluation": {"files": [{**one, "count": 5}]},
    }
    with pytest.raises(ConfigError, match=r"tuning\.set .*cannot be told apart .*one.*5"):
        check(tmp_path, {"task": task}, {"task.evaluation.files": [broken]})
