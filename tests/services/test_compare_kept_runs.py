"""Finished runs are those that the suite asks for now, or the comparison is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from carried_out import BASE, carry_out, suite
from rich.console import Console

from rlad_core.config import SHIPPED, ConfigError, parse
from services.compare import comparison as comparisons
from services.compare.carry_out import Outcome
from services.compare.comparison import Comparison
from services.compare.members import Member, members_of
from services.compare.suite import load_suite
from services.compare.taking import finished_runs, take
from services.run import own_code


def begun(tmp_path: Path, **changes: Any) -> tuple[Path, Comparison]:
    """A suite whose recipe lies beside it, with the runs of seed 0."""
    (tmp_path / "own.yaml").write_text((SHIPPED / "recipes" / "kk-tiny-trrd.yaml").read_text())
    values = {**BASE, "recipe": "own.yaml", "seeds": [0], **changes}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    comparison = Comparison(load_suite(tmp_path / "mine.yaml")[0], tmp_path / "out")
    for member in comparison.members:
        carry_out(member, 0.5)
    return tmp_path / "mine.yaml", comparison


def edited(file: Path, path: str, value: Any) -> None:
    """Change a recipe as a person does."""
    values = parse(file.read_text())
    assert isinstance(values, dict)
    section, name = path.split(".")
    values[section][name] = value
    file.write_text(yaml.safe_dump(values))


def again(file: Path) -> Comparison:
    return Comparison(load_suite(file)[0], file.parent / "out")


def refused(comparison: Comparison) -> str:
    with pytest.raises(ConfigError) as caught:
        comparison.check("mine.yaml")
    return str(caught.value)


def test_a_recipe_that_was_edited_is_not_averaged_with_what_it_was(tmp_path: Path) -> None:
    file, comparison = begun(tmp_path)
    again(file).check("mine.yaml")
    before = comparison.members[0].config().learner.lr
    edited(tmp_path / "own.yaml", "learner.lr", before * 3)
    file.write_text(file.read_text().replace("seeds:\n- 0", "seeds:\n- 0\n- 1"))
    said = refused(again(file))
    for name in ("trrd-seed0", "grpo-seed0"):
        assert f"{name}: learner.lr ({before}): is what the finished run has" in said
        assert str(tmp_path / "out" / "runs" / name) in said
    assert f"now it would be {before * 3}" in said
    assert "Write another --out, or remove" in said
    assert "seed1" not in said


def test_what_changes_no_result_may_change(tmp_path: Path) -> None:
    file, _ = begun(tmp_path)
    edited(tmp_path / "own.yaml", "learner.timeout_s", 1234.0)
    values = parse((tmp_path / "own.yaml").read_text())
    assert isinstance(values, dict)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**values, "cluster": {"object_store_gib": 3.0}}))
    again(file).check("mine.yaml")


def test_more_steps_are_another_experiment_for_a_run_that_is_over(tmp_path: Path) -> None:
    _, comparison = begun(tmp_path)
    member = comparison.members[0]
    more = suite(
        recipe=member.recipe, seeds=[0],
        set={"stages": [{"steps": 8, "objective": {"kind": "trrd"}}], "learner.warmup_steps": 0},
    )  # fmt: skip
    assert "trrd-seed0: stages.0.steps (4)" in refused(Comparison(more, tmp_path / "out"))


def test_a_variant_that_comes_back_with_other_settings_is_not_its_old_run(tmp_path: Path) -> None:
    carry_out(Comparison(suite(), tmp_path).members[1], 0.5)
    back = {**BASE["variants"], "grpo": {"set": {"stages.0.objective": {"kind": "opd"}}}}
    said = refused(Comparison(suite(variants=back), tmp_path))
    assert "grpo-seed0: stages.0.objective.kind ('grpo')" in said
    assert "now it would be 'opd'" in said


def test_tries_are_looked_at_too_and_chosen_settings_are_the_members_own(tmp_path: Path) -> None:
    variants = {"trrd": {"tune": {"learner.lr": [1e-4, 2e-4]}}, "grpo": BASE["variants"]["grpo"]}
    tuned = suite(variants=variants, tuning={"seed": 50, "set": {"task.evaluation.split": "validation"}})
    comparison = Comparison(tuned, tmp_path)
    for right, (_, member) in zip((0.2, 0.9), comparison.tries["trrd"], strict=True):
        carry_out(member, right)
    carry_out(comparison.members[0], 0.5)
    assert comparison.members[0].config().learner.lr == 2e-4
    comparison.check("mine.yaml")
    other = tuned.model_copy(update={"set": {**tuned.set, "learner.weight_decay": 0.5}})
    said = refused(Comparison(other, tmp_path))
    assert "trrd-try1: learner.weight_decay" in said
    assert "trrd-seed0: learner.weight_decay" in said


def with_tries(tmp_path: Path, **changes: Any) -> Comparison:
    variants = {"trrd": {"tune": {"learner.lr": [1e-4, 2e-4]}}, "grpo": BASE["variants"]["grpo"]}
    how = {"seed": 50, "set": {"task.evaluation.split": "validation"}}
    return Comparison(suite(variants=variants, tuning=how, **changes), tmp_path)


@pytest.mark.parametrize("way", ["missing", "unfinished"])
def test_a_try_that_is_carried_out_again_keeps_the_runs_that_it_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    comparison = with_tries(tmp_path)
    for right, member in zip((0.2, 0.9), comparison.all_tries, strict=True):
        carry_out(member, right)
    for member in comparison.members:
        carry_out(member, 0.5)
    worse, _ = comparison.all_tries
    if way == "missing":
        shutil.rmtree(worse.folder)
    else:
        file = worse.folder / "evaluation.jsonl"
        file.write_text(file.read_text().splitlines()[0] + "\n")
    comparison = with_tries(tmp_path)
    comparison.check("mine.yaml")
    assert [method.name for method in comparison.results({}).methods] == ["trrd", "grpo"]
    other = with_tries(tmp_path, set={**BASE["set"], "learner.weight_decay": 0.5})
    assert "trrd-seed0: learner.weight_decay" in refused(other)

    def again(members: list[Member], *_: Any) -> Outcome:
        assert worse.name in {member.name for member in members}  # what follows is not begun
        shutil.rmtree(worse.folder, ignore_errors=True)
        carry_out(worse, 0.95)
        return Outcome()

    monkeypatch.setattr(comparisons, "carry_out", again)
    with pytest.raises(ConfigError, match=r"trrd-seed0: learner\.lr \(0\.0002\).* now it would be 0\.0001"):
        comparison.carry_out(Console(quiet=True))
    assert "trrd-seed0: learner.lr" in refused(with_tries(tmp_path))


def test_a_run_of_none_of_the_settings_that_wait_is_another(tmp_path: Path) -> None:
    comparison = with_tries(tmp_path)
    carry_out(members_of(comparison.suite, tmp_path, {"trrd": {"learner.lr": 3e-4}})[0], 0.5)
    assert "trrd-seed0: learner.lr (0.0003)" in refused(comparison)


@pytest.mark.parametrize("name", ["recipe.yaml", "metrics.jsonl", "evaluation.jsonl"])
def test_a_run_that_cannot_be_read_is_in_no_report_and_keeps_no_other_out(tmp_path: Path, name: str) -> None:
    file, comparison = begun(tmp_path)
    broken, other = comparison.members
    place = broken.folder / name
    place.write_text(f"learner: {{lrr: 1}}\n{place.read_text()}")
    comparison = again(file)
    comparison.check("mine.yaml")
    results = comparison.results({})
    assert [method.name for method in results.methods] == [other.variant]
    assert list(results.missing) == [broken.name]
    assert str(place) in results.missing[broken.name]
    assert not comparison.members[0].is_settled()
    assert comparison.pack(tmp_path / "packed", "mine.yaml") == [other.name]


def test_a_run_that_cannot_be_read_is_not_taken_for_one_that_is_missing(tmp_path: Path) -> None:
    _, comparison = begun(tmp_path)
    theirs = Comparison(comparison.suite, tmp_path / "theirs")
    for member in theirs.members:
        carry_out(member, 0.5)
    file = comparison.members[0].folder / "metrics.jsonl"
    file.write_text("{\n" + file.read_text())
    assert take(comparison.members, finished_runs(theirs.folder)) == {}


def test_a_try_that_cannot_be_read_says_so_where_its_variant_waits(tmp_path: Path) -> None:
    variants = {"trrd": {"tune": {"learner.lr": [1e-4, 2e-4]}}, "grpo": BASE["variants"]["grpo"]}
    tuned = suite(variants=variants, tuning={"seed": 50, "set": {"task.evaluation.split": "validation"}})
    comparison = Comparison(tuned, tmp_path)
    for _, member in comparison.tries["trrd"]:
        carry_out(member, 0.5)
    file = comparison.tries["trrd"][1][1].folder / "metrics.jsonl"
    file.write_text("[1]\n" + file.read_text())
    comparison.check("mine.yaml")
    said = comparison.results({}).missing["trrd-seed0"]
    assert said.startswith(
        "its settings are not chosen yet, 1 of its 2 tries are not finished (trrd-try2: line 1"
    )


def test_an_unfinished_run_is_left_to_the_command_that_goes_on_with_it(tmp_path: Path) -> None:
    file, comparison = begun(tmp_path)
    for member in comparison.members:
        (member.folder / "evaluation.jsonl").write_text("")
    edited(tmp_path / "own.yaml", "learner.lr", 0.5)
    again(file).check("mine.yaml")


def with_its_code(member: Member) -> None:
    """As `rlad run` leaves the recipe: with copies of the code in the run's folder."""
    values = own_code.keep(member.config(), member.folder)
    (member.folder / "recipe.yaml").write_text(yaml.safe_dump(values))


def test_copies_of_the_code_are_the_same_and_changed_code_is_not(tmp_path: Path) -> None:
    reward = tmp_path / "own.py"
    reward.write_text("def score(response, gold, row):\n    return 1.0\n")
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": name, "gold": 1}) + "\n")
    task = {
        "name": "prompts",
        "train": {"files": [{"path": str(tmp_path / "train.jsonl")}]},
        "evaluation": {"files": [{"path": str(tmp_path / "test.jsonl")}]},
        "reward": f"{reward}:score",
    }
    own = suite(set={**BASE["set"], "task": task}, seeds=[0])
    for member in Comparison(own, tmp_path / "out").members:
        carry_out(member, 0.5)
        with_its_code(member)
        assert str(reward) not in (member.folder / "recipe.yaml").read_text()
    Comparison(own, tmp_path / "out").check("mine.yaml")
    reward.write_text("def score(response, gold, row):\n    return 0.5\n")
    said = refused(Comparison(own, tmp_path / "out"))
    assert "trrd-seed0: code" in said
    assert "own.py has changed since the run began" in said
    origin = tmp_path / "out" / "runs" / "trrd-seed0" / "code" / "origin.json"
    origin.write_text('{"')  # as a full disk leaves it
    said = refused(Comparison(own, tmp_path / "out"))
    assert "its code/origin.json is broken: JSONDecodeError" in said
    assert f"remove {tmp_path / 'out' / 'runs' / 'trrd-seed0'}." in said
