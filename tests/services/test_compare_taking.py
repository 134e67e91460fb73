"""A comparison takes the runs of another one that are its own too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from carried_out import BASE, carry_out, suite
from rlad_command import Said

from services.cli.console import out
from services.compare.comparison import Comparison
from services.compare.suite import load_suite
from services.compare.taking import finished_runs, take
from services.report.records import ReportError


@pytest.mark.parametrize("packed", [False, True], ids=["whole", "packed"])
def test_alpha_takes_what_kk_tiny_has(packed: bool, tmp_path: Path) -> None:
    theirs = Comparison(load_suite("kk_tiny")[0].untuned, tmp_path / "theirs")
    right = {"grpo": 0.3, "trrd": 0.7, "opd": 0.5}
    for member in theirs.members:
        if member.variant in right and member.seed == 1:
            carry_out(member, right[member.variant])
    source = theirs.folder
    if packed:
        source = tmp_path / "packed"
        theirs.pack(source, "kk_tiny")
    ours = Comparison(load_suite("alpha")[0].untuned, tmp_path / "ours")
    assert take(ours.members, finished_runs(source)) == {
        "alpha_0.5-seed1": "trrd-seed1",
        "alpha_1-seed1": "grpo-seed1",
    }
    ours.check("alpha")
    taken = {member.name: member for member in ours.members if member.is_finished()}
    assert set(taken) == {"alpha_0.5-seed1", "alpha_1-seed1"}
    for name, member in taken.items():
        record = member.record()
        assert record is not None
        assert record.recipe is not None
        assert record.recipe.name == name
    assert len(ours.results({}).missing) == len(ours.members) - 2


def test_kk_more_takes_what_its_methods_are_compared_with(tmp_path: Path) -> None:
    theirs = Comparison(load_suite("kk_tiny")[0].untuned, tmp_path / "theirs")
    shared = ("grpo", "opd", "trrd")
    for member in theirs.members:
        if member.seed == 2 and member.variant in (*shared, "kdrl"):
            carry_out(member, 0.5)
    ours = Comparison(load_suite("kk_more")[0], tmp_path / "ours")
    names = [f"{variant}-seed2" for variant in shared]
    assert take(ours.members, finished_runs(theirs.folder)) == dict(zip(names, names, strict=True))


def test_only_what_is_the_same_and_finished_and_missing_is_taken(tmp_path: Path) -> None:
    theirs = Comparison(suite(), tmp_path / "theirs")
    trrd0, grpo0, trrd1, _ = theirs.members
    carry_out(trrd0, 0.9)
    carry_out(grpo0, 0.9)
    carry_out(trrd1, 0.9, steps=2)  # not finished
    variants = {
        "trrd": BASE["variants"]["trrd"],
        "faster": {"set": {"learner.lr": 1e-2}},
        "the-other": {"set": {"stages.0.objective": {"kind": "grpo"}}},
    }
    ours = Comparison(suite(variants=variants, seeds=[0, 1, 2]), tmp_path / "ours")
    carry_out(ours.members[0], 0.1)
    before = (ours.members[0].folder / "evaluation.jsonl").read_bytes()
    assert take(ours.members, finished_runs(theirs.folder)) == {"the-other-seed0": "grpo-seed0"}
    assert (ours.members[0].folder / "evaluation.jsonl").read_bytes() == before
    assert take(ours.members, finished_runs(theirs.folder)) == {}


def test_tries_are_taken_and_choose(tmp_path: Path) -> None:
    tuned = {"trrd": {"tune": {"learner.lr": [1e-4, 2e-4]}}}
    tuning = {"seed": 50, "set": {"task.evaluation.split": "validation"}}
    theirs = Comparison(suite(variants=tuned, tuning=tuning, seeds=[0]), tmp_path / "theirs")
    for right, (_, member) in zip((0.2, 0.9), theirs.tries["trrd"], strict=True):
        carry_out(member, right)
    carry_out(theirs.members[0], 0.8)
    renamed = {"mine": {"tune": {"learner.lr": [1e-4, 2e-4]}}}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**BASE, "variants": renamed, "tuning": tuning, "seeds": [0]}))
    ours = Comparison(load_suite(file)[0], tmp_path / "ours")
    taken = ours.take(theirs.folder, out)
    assert taken == {"mine-try1": "trrd-try1", "mine-try2": "trrd-try2", "mine-seed0": "trrd-seed0"}
    assert ours.members[0].config().learner.lr == 2e-4
    assert not ours.results({}).missing
    tried = json.loads((ours.folder / "tuning.json").read_text())
    assert len(tried["mine"]) == 2


def test_a_run_waits_for_the_tries_that_choose_its_settings(tmp_path: Path) -> None:
    """Until then it would be one with settings that may not be chosen."""
    theirs = Comparison(suite(variants={"trrd": {}}, seeds=[0]), tmp_path / "theirs")
    carry_out(theirs.members[0], 0.8)
    rate = theirs.members[0].config().learner.lr
    tuned = {"trrd": {"tune": {"learner.lr": [rate, 2 * rate]}}, "untuned": {}}
    tuning = {"seed": 50, "set": {"task.evaluation.split": "validation"}}
    ours = Comparison(suite(variants=tuned, tuning=tuning, seeds=[0]), tmp_path / "ours")
    assert ours.take(theirs.folder, out) == {"untuned-seed0": "trrd-seed0"}
    assert "not chosen yet" in ours.results({}).missing["trrd-seed0"]
    for right, (_, member) in zip((0.9, 0.2), ours.tries["trrd"], strict=True):
        carry_out(member, right)
    assert ours.take(theirs.folder, out) == {"trrd-seed0": "trrd-seed0"}
    assert not ours.results({}).missing


def test_the_command_says_what_it_took(tmp_path: Path, rlad: Callable[..., Said]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**BASE, "seeds": [0]}))
    theirs = Comparison(load_suite(file)[0], tmp_path / "theirs")
    for member in theirs.members:
        carry_out(member, 0.5)
    renamed = {"again": BASE["variants"]["trrd"], "grpo": BASE["variants"]["grpo"]}
    file.write_text(yaml.safe_dump({**BASE, "seeds": [0], "variants": renamed}))
    command = ("compare", str(file), "--out", str(tmp_path / "ours"), "--report", "--from")
    said = rlad(*command, str(theirs.folder))
    assert said.code == 0, said.err
    assert f"took  again-seed0 (trrd-seed0 there), grpo-seed0 from {theirs.folder}" in said.out
    assert (tmp_path / "ours" / "report.html").is_file()
    assert (
        f"{theirs.folder} has no finished run that is missing here" in rlad(*command, str(theirs.folder)).out
    )
    refused = rlad(
        "compare", str(file), "--out", str(tmp_path / "other"), "--from", str(tmp_path / "nowhere")
    )
    assert refused.code == 2
    assert f"{tmp_path / 'nowhere'} has no finished run to take" in refused.err
    assert not (tmp_path / "other").exists()


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="has no finished run to take"):
        finished_runs(tmp_path)
