"""A run's folder before the run works in it: new, in the way, resumed with changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from run_folders import of_five_steps
from storage_faults import readable, unreadable

from rlad_core.config import RunConfig, dump, load
from rlad_core.config.resume import changes
from services.learner.checkpoint import STATE_FILE
from services.learner.learning_rate import learning_rate
from services.report.records import read_run
from services.report.taking_back import keep_before
from services.run import folder
from services.run.errors import RefusedError
from services.run.preparing import Fork, prepared


@pytest.fixture
def run_dir(shipped_models: None, tmp_path: Path) -> Path:
    """See `of_five_steps`."""
    return of_five_steps(tmp_path)


def again(run_dir: Path, *overrides: str, name: str = "old") -> folder.Prepared:
    return folder.resume(load(run_dir / "recipe.yaml", [f"name={name}", *overrides]), run_dir)


def test_what_may_change_is_taken_and_noted(run_dir: Path) -> None:
    config, remarks = again(run_dir, "learner.workers=2", "stages.0.steps=99")
    assert (config.learner.workers, config.total_steps) == (2, 99)
    assert remarks == [
        "changed from step 4 on:\n  - stages.0.steps: 60 -> 99\n  - learner.workers: 1 -> 2",
    ]
    [noted] = (run_dir / "changes.jsonl").read_text().splitlines()
    assert json.loads(noted)["changes"][1] == {"path": "learner.workers", "old": 1, "new": 2}
    assert load(run_dir / "recipe.yaml") == config
    assert again(run_dir)[1] == []


def test_changes_are_noted_once_behind_whatever_a_kill_or_a_full_disk_left(run_dir: Path) -> None:
    before = (run_dir / "recipe.yaml").read_text()
    again(run_dir, "learner.workers=2")
    noted = run_dir / "changes.jsonl"
    (run_dir / "recipe.yaml").write_text(before)  # a kill came between the two
    again(run_dir, "learner.workers=2")
    assert len(noted.read_text().splitlines()) == 1
    noted.write_text(noted.read_text() + '{"at": "2026-')
    again(run_dir, "learner.workers=3")
    assert [json.loads(line)["changes"][0]["new"] for line in noted.read_text().splitlines()] == [2, 3]


def test_what_may_not_is_refused_and_nothing_written(run_dir: Path) -> None:
    before = (run_dir / "recipe.yaml").read_text()
    with pytest.raises(RefusedError, match=r"learner\.lr: 0\.0004 -> 1e-05[^\0]*--fork NAME"):
        again(run_dir, "learner.lr=1e-5", "learner.workers=2")
    assert (run_dir / "recipe.yaml").read_text() == before
    assert not (run_dir / "changes.jsonl").exists()


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_rate_that_has_begun_to_fall_and_rises_again_is_told(schedule: str) -> None:
    stages = "stages=[{steps: 5, objective: {kind: grpo}}, {steps: 5, objective: {kind: trrd}}]"
    shared = [stages, "learner.warmup_steps=2", f"learner.schedule={schedule}"]
    before, first, second = (
        load("kk-tiny-trrd", [*shared, *more]) for more in ([], ["stages.0.steps=8"], ["stages.1.steps=8"])
    )
    for done in range(1, 11):
        rates = [[learning_rate(config, step) for step in range(done)] for config in (before, first, second)]
        for place, now in enumerate((first, second)):
            over = place == 0 and done > 5
            [change] = changes(before, now, done)
            assert bool(change.refused) == over, (done, place)
            # Told where a rate that was used would have been another.
            assert bool(change.effect) == (not over and rates[place + 1] != rates[0]), (done, place)
    [change] = changes(before, first, done=4)
    assert str(change).startswith("stages.0.steps: 5 -> 8 (the learning rate, which fell over 5 steps by ")


def test_a_run_does_not_begin_anew_because_its_checkpoints_are_looked_for_elsewhere(
    run_dir: Path, tmp_path: Path
) -> None:
    elsewhere = f"output.checkpoints={tmp_path}/kept"
    with pytest.raises(RefusedError, match=rf"has no checkpoint of the run, and {run_dir} has. Bring them"):
        again(run_dir, elsewhere)
    assert "checkpoints: null" in (run_dir / "recipe.yaml").read_text()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "old").symlink_to(run_dir)
    assert "changed from step 4 on:\n  - output.checkpoints: null -> " in again(run_dir, elsewhere)[1][0]


def test_a_folder_for_checkpoints_is_the_same_for_all_processes_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learner's ranks have current folders of their own, which go with them."""
    monkeypatch.chdir(tmp_path)
    config = load("kk-tiny-trrd", ["output.checkpoints=kept/"])
    assert config.output.checkpoints == f"{tmp_path}/kept"
    monkeypatch.chdir("/")
    assert RunConfig.model_validate(config.model_dump(mode="json")).output == config.output
    for address in ("s3://bucket/runs/", "simplecache::memory://a"):
        assert load("kk-tiny-trrd", [f"output.checkpoints={address}"]).output.checkpoints == address


def test_a_stage_that_a_rule_ended_is_known_from_the_checkpoint(run_dir: Path) -> None:
    two = "[{steps: 20, objective: {kind: trrd}, until: {tokens: 9}}, {steps: 20, objective: {kind: trrd}}]"
    fresh = load("kk-tiny-trrd", [f"output.dir={run_dir.parent}", "name=old", f"stages={two}"])
    (run_dir / "recipe.yaml").write_text(dump(fresh))
    state = {"step": 4, "frontier": {"stages": {"early_ends": [[0, 3]]}}}
    (run_dir / "checkpoint_4" / STATE_FILE).write_text(json.dumps(state))
    with pytest.raises(RefusedError, match=r"stages.0.steps: 20 -> 30 \(its rule \(until\) ended the stage"):
        again(run_dir, "stages.0.steps=30")
    assert again(run_dir, "stages.1.steps=30")[0].total_steps == 50


def test_a_run_that_has_begun_is_in_the_way(run_dir: Path) -> None:
    assert folder.begun(run_dir)
    with pytest.raises(RefusedError, match="exists already"):
        folder.begin(load(run_dir / "recipe.yaml"), run_dir)


def test_checkpoints_of_a_run_that_is_gone_are_in_the_way(run_dir: Path, tmp_path: Path) -> None:
    config = load(run_dir / "recipe.yaml", ["name=new", f"output.checkpoints={tmp_path}/kept"])
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "new").symlink_to(run_dir)
    with pytest.raises(
        RefusedError, match=rf"^{tmp_path}/kept/new \(output.checkpoints\) has checkpoints of"
    ):
        folder.begin(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_start_that_failed_before_its_first_step_is_not(run_dir: Path) -> None:
    for checkpoint in run_dir.glob("checkpoint_*"):
        (checkpoint / STATE_FILE).unlink()
    (run_dir / "metrics.jsonl").write_text("")
    (run_dir / "failure.log").write_text("no")
    (run_dir / "notes.txt").write_text("mine")
    assert not folder.begun(run_dir)
    folder.check(run_dir, resume=False)
    config = load(run_dir / "recipe.yaml", ["learner.lr=1e-5"])
    assert folder.begin(config, run_dir) == (config, [])
    assert not (run_dir / "failure.log").exists()
    assert (run_dir / "notes.txt").read_text() == "mine"


def without_checkpoints(run_dir: Path) -> Path:
    """The file of its metrics, which are all that tells that it was begun."""
    for checkpoint in run_dir.glob("checkpoint_*"):
        shutil.rmtree(checkpoint)
    return run_dir / "metrics.jsonl"


@pytest.mark.parametrize("broken", ['{"step": 0', '{"step": 0}}\n{"step": 1}}\n', "[0]\n", "\0\0\0"])
def test_a_record_that_is_broken_was_begun_all_the_same(run_dir: Path, broken: str) -> None:
    metrics = without_checkpoints(run_dir)
    metrics.write_text(broken)
    config = load(run_dir / "recipe.yaml")
    assert folder.begun(run_dir, config)
    with pytest.raises(RefusedError, match="exists already"):
        folder.begin(config, run_dir)
    assert metrics.read_text() == broken


@pytest.mark.parametrize("name", ["metrics.jsonl", "groups.jsonl", "evaluation.jsonl"])
def test_a_record_that_is_broken_is_refused_before_the_run_goes_on(run_dir: Path, name: str) -> None:
    (run_dir / name).write_text('{"step": 0\n{"step": 1}\n')
    with pytest.raises(RefusedError, match=rf"^line 1 of {run_dir / name} is broken"):
        again(run_dir, "learner.workers=2")
    assert not (run_dir / "changes.jsonl").exists()


def test_what_cannot_be_read_is_neither_begun_nor_new(run_dir: Path) -> None:
    config = load(run_dir / "recipe.yaml")
    state = run_dir / "checkpoint_4" / STATE_FILE
    content = unreadable(state)
    for look in (
        lambda: folder.begun(run_dir, config),
        lambda: folder.begin(config, run_dir),
        lambda: folder.last_checkpoint(run_dir),
        lambda: again(run_dir),
    ):
        with pytest.raises(RefusedError, match=rf"{state.parent} cannot be read \(OSError: "):
            look()
    readable(state, content)
    metrics = without_checkpoints(run_dir)
    unreadable(metrics)
    with pytest.raises(RefusedError, match=rf"{metrics} cannot be read: Input/output error"):
        folder.begin(config, run_dir)


def test_what_cannot_be_read_while_a_folder_is_made_ready_is_not_told_as_a_write(run_dir: Path) -> None:
    new = run_dir.with_name("new")
    config = load(run_dir / "recipe.yaml", ["name=new"])
    unreadable(run_dir / "groups.jsonl")
    with pytest.raises(RefusedError) as refused:
        prepared(config, new, resume=False, fork=Fork(run_dir))
    assert str(refused.value).startswith(f"{new} cannot be made ready for the run: ")
    assert str(refused.value).endswith(": Input/output error")


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("mine")
    with pytest.raises(RefusedError, match="exists already"):
        folder.check(tmp_path, resume=False)
    with pytest.raises(RefusedError, match="there is no run to resume"):
        folder.check(tmp_path / "none", resume=True)


def test_more_steps_keep_what_was_measured_at_the_end(run_dir: Path) -> None:
    row = {"subset": "a", "total": 1, "accuracy": 1.0, "low": 0.0, "high": 1.0}
    told = [{**row, "step": step, "when": when} for step, when in ((0, "before"), (4, "after"))]
    file = run_dir / "evaluation.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in told))
    answers = run_dir / "evaluations"
    answers.mkdir()
    (answers / "000004-after.parquet").write_text("its responses")
    assert "stages.0.steps: 60 -> 99" in again(run_dir, "stages.0.steps=99")[1][0]
    keep_before(run_dir, 4)  # as the run does when it begins
    assert [(each["when"], each["step"]) for each in read_run(run_dir).evaluations] == [
        ("before", 0),
        ("step", 4),
    ]
    assert [each.name for each in answers.iterdir()] == ["000004-step.parquet"]
    file.write_text('{broken\n{"step": 4, "when": "after"}\n')
    with pytest.raises(RefusedError, match=r"line 1 of .*evaluation\.jsonl is broken"):
        again(run_dir)
