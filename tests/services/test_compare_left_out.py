"""A report says what is not in it, and of what its numbers are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from carried_out import BASE, carry_out, suite, written
from rlad_command import Said

from services.compare.comparison import Comparison
from services.compare.members import Member, members_of
from services.compare.page import write
from services.compare.plots import plots_of
from services.compare.results import results_of
from services.compare.tables import interval_words

OF_RESPONSES = {"training_reward", "entropy", "kl_to_teacher", "response_length"}
TAUGHT = {"stages.0.objective": {"kind": "sft", "source": "teacher"}, "teacher.engine": "vllm"}


def with_stages(member: Member, *labels: str) -> None:
    """Write into its record which stage each step lies in."""
    file = member.folder / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    told = [json.dumps({**row, "stage": label}) for row, label in zip(rows, labels, strict=True)]
    file.write_text("\n".join(told) + "\n")


@pytest.mark.parametrize("source", ["teacher", "trace"])
def test_responses_of_others_are_in_no_curve_of_the_policys(tmp_path: Path, source: str) -> None:
    solved: dict[str, Any] = TAUGHT if source == "teacher" else {
        "stages.0.objective": {"kind": "sft"}, "rollout.prompts_per_step": 256, "rollout.group_size": 1,
    }  # fmt: skip
    wanted = suite(seeds=[0], variants={"sft": {"label": "SFT", "set": solved}, "trrd": {}})
    sft, trrd = members_of(wanted, tmp_path, {})
    for member in (sft, trrd):
        carry_out(member, 0.5)
        with_stages(member, *[member.config().stages[0].label] * 4)
    results = results_of(wanted, [sft, trrd], {})
    plots = {plot.name: plot for plot in plots_of(results)}
    for name in OF_RESPONSES:
        assert [line.label for line in plots[name].lines] == ["trrd"]
        assert plots[name].remark == "Without SFT, whose runs have no such numbers."
    assert [line.label for line in plots["held_out"].lines] == ["SFT", "trrd"]
    write(results, tmp_path)
    curves = json.loads((tmp_path / "results.json").read_text())["curves"]
    assert set(curves["SFT"]) == {"seeds", "held_out", "held_out_reward"}
    assert "reward_mean" in curves["trrd"]


def test_a_method_that_begins_with_others_responses_is_drawn_from_its_own_on(tmp_path: Path) -> None:
    sft = {"steps": 2, "name": "warm-up", "objective": {"kind": "sft", "source": "teacher"}}
    stages = [sft, {"steps": 2, "objective": {"kind": "trrd"}}]
    settings = {"stages": stages, "learner.warmup_steps": 0, "teacher.engine": "vllm"}
    wanted = suite(seeds=[0], set=settings, variants={"trrd": {}})
    [member] = members_of(wanted, tmp_path, {})
    carry_out(member, 0.5)
    with_stages(member, "warm-up", "warm-up", "trrd", "trrd")
    [method] = results_of(wanted, [member], {}).methods
    np.testing.assert_array_equal(method.training("reward_mean")[1], [[np.nan, np.nan, 3, 4]])
    [plot] = [each for each in plots_of(results_of(wanted, [member], {})) if each.name == "training_reward"]
    assert plot.lines[0].x.tolist() == [3, 4]


def test_a_pair_without_a_common_seed_is_named(tmp_path: Path, rlad: Callable[..., Said]) -> None:
    opd = {"set": {"stages.0.objective": {"kind": "opd"}}}
    values = {**BASE, "variants": {**BASE["variants"], "opd": opd}}
    file, out = written(tmp_path, values), tmp_path / "out"
    for member in Comparison(suite(variants=values["variants"]), out).members:
        if (member.variant, member.seed) in (("trrd", 0), ("grpo", 1), ("opd", 0)):
            carry_out(member, 0.5)
    said = rlad("compare", str(file), "--out", str(out), "--report")
    assert said.code == 0, said.err
    wanted = "Not compared, no seed in common: grpo and opd; grpo and TRRD."
    assert wanted in said.out
    assert f"<li>{wanted}</li>" in (out / "report.html").read_text()
    table = json.loads((out / "results.json").read_text())
    assert table["not_compared"] == [
        {"first": first, "second": second, "why": "no seed in common"}
        for first, second in (("grpo", "opd"), ("grpo", "TRRD"))
    ]
    assert [(pair["first"], pair["second"]) for pair in table["differences"]] == [("opd", "TRRD")]


def test_an_interval_of_one_seed_is_over_problems_alone(tmp_path: Path) -> None:
    wanted = suite()
    members = members_of(wanted, tmp_path, {})
    said = [
        "over problems",
        "over problems",
        "over problems and seeds, of a method with one seed over problems",
    ]
    for member, words in zip(members, [*said, "over problems and seeds"], strict=True):
        carry_out(member, 0.5)
        results = results_of(wanted, members, {})
        assert interval_words(results) == words
        assert f"Percent [95% interval {words}];" in write(results, tmp_path).read_text()


@pytest.mark.parametrize("way", ["no row", "no file"])
def test_a_run_whose_last_evaluation_is_missing_says_so(tmp_path: Path, way: str) -> None:
    wanted = suite(seeds=[0])
    members = members_of(wanted, tmp_path, {})
    for member in members:
        carry_out(member, 0.5)
    file = members[0].folder / "evaluation.jsonl"
    if way == "no row":
        file.write_text(file.read_text().splitlines()[0] + "\n")
    else:
        file.unlink()
    missing = results_of(wanted, members, {}).missing
    assert missing == {"trrd-seed0": "the evaluation after its last step is not done"}
