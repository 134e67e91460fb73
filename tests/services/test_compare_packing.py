"""Finished runs as small files: they say the same, come together from several machines, and go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from carried_out import BASE, carry_out, suite
from rlad_command import Said

from rlad_core.config import ConfigError
from services.compare.comparison import Comparison
from services.compare.tables import machine_table


def told(comparison: Comparison) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(json.dumps(machine_table(comparison.results({}), {})))
    return table


def test_packed_runs_say_what_whole_ones_say(tmp_path: Path) -> None:
    whole, to = Comparison(suite(), tmp_path / "whole"), tmp_path / "packed"
    for number, member in enumerate(whole.members):
        carry_out(member, 0.3 + 0.1 * number, samples=4)
    carry_out(Comparison(suite(seeds=[2]), tmp_path / "whole").members[0], 0.5, steps=2)
    assert whole.pack(to, "mine.yaml") == [member.name for member in whole.members]
    packed = Comparison(suite(), to)
    packed.check("mine.yaml")
    assert told(packed) == told(whole)
    assert all(member.is_finished() for member in packed.members)
    assert {file.name for file in to.rglob("*") if file.is_file()} == {
        "suite.yaml", "recipe.yaml", "metrics.jsonl", "evaluation.jsonl", "verdicts.parquet",
    }  # fmt: skip
    assert str(tmp_path) not in "".join(file.read_text() for file in to.rglob("*.yaml"))


def test_runs_of_two_machines_come_together_and_what_is_packed_can_be_packed(tmp_path: Path) -> None:
    to, again = tmp_path / "packed", tmp_path / "again"
    for seed in (0, 1):
        one = Comparison(suite(seeds=[seed]), tmp_path / f"machine{seed}")
        for member in one.members:
            carry_out(member, 0.5)
        one.pack(to, "mine.yaml")
    both = Comparison(suite(), to)
    assert not both.results({}).missing
    assert both.pack(again, "mine.yaml") == [member.name for member in both.members]
    assert told(Comparison(suite(), again)) == told(both)
    # More seeds: the runs that are there count as finished.
    more = Comparison(suite(seeds=[0, 1, 2]), again)
    more.check("mine.yaml")
    assert set(more.results({}).missing) == {"trrd-seed2", "grpo-seed2"}


def test_tries_are_packed_too_and_choose_the_same(tmp_path: Path) -> None:
    variants = {"trrd": {"tune": {"learner.lr": [1e-4, 2e-4]}}, "grpo": BASE["variants"]["grpo"]}
    tuned = suite(variants=variants, tuning={"seed": 50, "set": {"task.evaluation.split": "validation"}})
    whole = Comparison(tuned, tmp_path / "whole")
    for right, (_, member) in zip((0.2, 0.9), whole._tries["trrd"], strict=True):
        carry_out(member, right)
    carry_out(whole.members[0], 0.5)
    whole.pack(tmp_path / "packed", "mine.yaml")
    packed = Comparison(tuned, tmp_path / "packed")
    packed.check("mine.yaml")
    assert packed.members[0].config().learner.lr == 2e-4
    tried = json.loads((tmp_path / "packed" / "tuning.json").read_text())
    assert [each["settings"] for each in tried["trrd"]] == [{"learner.lr": 1e-4}, {"learner.lr": 2e-4}]


def test_another_suites_folder_takes_none(tmp_path: Path) -> None:
    first = Comparison(suite(seeds=[0]), tmp_path / "first")
    carry_out(first.members[0], 0.5)
    first.pack(tmp_path / "packed", "mine.yaml")
    other = Comparison(suite(set={"learner.warmup_steps": 0}), tmp_path / "other")
    with pytest.raises(ConfigError, match="is another than that of the runs there"):
        other.pack(tmp_path / "packed", "mine.yaml")


def test_the_command_packs_and_goes_on_from_a_copy(rlad: Callable[..., Said], tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**BASE, "seeds": [0]}, sort_keys=False))
    said = rlad("compare", str(file), "--out", str(tmp_path / "out"), "--pack", str(tmp_path / "packed"))
    assert said.code == 2
    assert "nothing to pack" in said.err
    for member in Comparison(suite(seeds=[0]), tmp_path / "out").members:
        carry_out(member, 0.5)
    said = rlad("compare", str(file), "--out", str(tmp_path / "out"), "--pack", str(tmp_path / "out"))
    assert said.code == 2
    assert "has the runs themselves" in said.err
    said = rlad("compare", str(file), "--out", str(tmp_path / "out"), "--pack", str(tmp_path / "packed"))
    assert said.code == 0, said.err
    assert "packed  trrd-seed0, grpo-seed0" in said.out
    (tmp_path / "packed" / "runs" / "grpo-seed0" / "verdicts.parquet").write_bytes(b"PAR1")
    broken = rlad("compare", str(file), "--out", str(tmp_path / "packed"), "--report")
    assert broken.code == 1
    assert "verdicts.parquet: " in broken.err
    assert "Traceback" not in broken.err
    rlad("compare", str(file), "--out", str(tmp_path / "out"), "--pack", str(tmp_path / "packed"))
    shutil.move(tmp_path / "packed", tmp_path / "elsewhere")
    said = rlad("compare", str(file), "--out", str(tmp_path / "elsewhere"), "--report")
    assert said.code == 0, said.err
    assert (tmp_path / "elsewhere" / "report.html").is_file()
