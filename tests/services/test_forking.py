"""A run that is forked: what its folder has, what a kill leaves, which commands go on with it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from run_folders import of_five_steps

from rlad_core.config import load
from services.experience.visits import Visit
from services.learner.checkpoint import FORKED, STATE_FILE
from services.report.ledger import LEDGER, Ledger
from services.report.records import read_run
from services.run import folder, forking
from services.run.errors import RefusedError
from services.run.following import is_over


@pytest.fixture
def run_dir(shipped_models: None, tmp_path: Path) -> Path:
    """See `of_five_steps`."""
    return of_five_steps(tmp_path)


def test_a_checkpoint_that_goes_while_it_is_copied_makes_no_fork(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copytree = shutil.copytree

    def too_late(source: Path, target: Path, **kwargs: Any) -> None:
        (source / STATE_FILE).unlink()  # as a run at work does first
        copytree(source, target, **kwargs)

    monkeypatch.setattr(shutil, "copytree", too_late)
    new = run_dir.with_name("new")
    with pytest.raises(RefusedError, match="after 4 steps was taken away while it was copied"):
        forking.fork(load(run_dir / "recipe.yaml", ["name=new"]), new, run_dir, None)
    assert not (new / FORKED).exists()


@pytest.mark.parametrize(("asked", "step"), [(None, 4), (2, 2)])
def test_a_fork_has_the_checkpoint_and_the_record_up_to_it(
    run_dir: Path, asked: int | None, step: int
) -> None:
    config = load(
        run_dir / "recipe.yaml",
        ["name=new", "learner.lr=1e-5", "rollout.group_size=4", "stages.0.steps=5", "learner.warmup_steps=0"],
    )
    (run_dir / "evaluation.jsonl").write_text(
        '{"step": 5, "when": "after", "subset": "a", "total": 1, "accuracy": 1.0, "low": 0.0, "high": 1.0}\n'
    )
    ledger = Ledger(run_dir)
    for each in range(5):
        ledger.step(each, [Visit(each, 8, f"p{each}#0", f"p{each}", "knights_knaves", "trained")])
    ledger.close()
    new = run_dir.with_name("new")
    forked, [remark] = forking.fork(config, new, run_dir, asked)
    assert forked == config == load(new / "recipe.yaml")
    assert f"goes on from {run_dir} after {step} steps" in remark
    assert "learner.lr: 0.0004 -> 1e-05" in remark
    assert (new / FORKED / "weights").read_text() == str(step)
    record = read_run(new)
    assert [row["step"] for row in record.steps] == list(range(step))
    # Nobody takes it for one that is over, or that has got as far as to lose something.
    assert not is_over(record)
    assert not folder.begun(new, config)
    with closing(sqlite3.connect(new / LEDGER)) as file:
        assert file.execute("SELECT step FROM visits").fetchall() == [(each,) for each in range(step)]
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 5
    assert json.loads((new / "changes.jsonl").read_text())["forked"] == str(run_dir)
    (new / FORKED / "weights").unlink()
    assert (run_dir / f"checkpoint_{step}" / "weights").is_file()


def test_a_fork_is_gone_on_with_and_does_not_begin_with_nothing(run_dir: Path) -> None:
    new = run_dir.with_name("new")
    config = load(run_dir / "recipe.yaml", ["name=new"])
    forking.fork(config, new, run_dir, None)
    assert folder.goes_on(new, config)
    with pytest.raises(RefusedError, match=r"exists already\. Continue that run with --resume"):
        folder.begin(config, new)
    assert (new / FORKED / "weights").read_text() == "4"
    forking.fork(config, new, run_dir, 2)  # a start that failed, given again
    assert (new / FORKED / "weights").read_text() == "2"


class Killed(BaseException): ...


def killed_at(number: int, patched: pytest.MonkeyPatch) -> None:
    """The process ends at that call, of all that change files."""
    left = [number]

    def until_killed(function: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                raise Killed
            return function(*args, **kwargs)

        return called

    changing = {
        shutil: ("copytree", "copy2"),
        os: ("link", "rename"),
        Path: ("write_bytes", "replace", "mkdir", "open"),
    }
    for where, names in changing.items():
        for name in names:
            patched.setattr(where, name, until_killed(getattr(where, name)))


def test_a_kill_while_a_run_is_forked_leaves_none_to_go_on_with(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would begin with nothing, or without its record."""
    (run_dir / "groups.jsonl").write_text('{"step": 4}\n')
    (run_dir / "evaluation.jsonl").write_text('{"step": 4, "when": "after"}\n')
    Ledger(run_dir).close()
    for number in count(1):
        new = run_dir.with_name(f"new-{number}")
        config = load(run_dir / "recipe.yaml", [f"name={new.name}"])
        try:
            with monkeypatch.context() as patched:
                killed_at(number, patched)
                forking.fork(config, new, run_dir, None)
            break
        except Killed:
            assert not (new / "recipe.yaml").exists()
            with pytest.raises(RefusedError, match="there is no run to resume"):
                folder.check(new, resume=True)
        forking.fork(config, new, run_dir, None)
        assert [row["step"] for row in read_run(new).steps] == list(range(4))
        assert (new / FORKED / "weights").read_text() == "4"
        assert (new / LEDGER).is_file()
    assert number > 10


def test_what_a_run_at_work_is_just_writing_is_not_forked(run_dir: Path) -> None:
    (run_dir / "experience").mkdir()
    for name in ("step-000001.arrows", ".step-000002.arrows.3f9a1c02.unfinished"):
        (run_dir / "experience" / name).write_text("some")
    (run_dir / "checkpoint_4" / ".metadata").write_text("of the weights")
    new = run_dir.with_name("new")
    forking.fork(load(run_dir / "recipe.yaml", ["name=new"]), new, run_dir, None)
    assert [each.name for each in (new / "experience").iterdir()] == ["step-000001.arrows"]
    assert (new / FORKED / ".metadata").is_file()


@pytest.mark.parametrize(
    ("overrides", "step", "says"),
    [
        ((), 3, "there are: after 2, 4 steps"),
        (("policy.model=tiny:teacher",), None, r"policy\.model: 'tiny:student' -> 'tiny:teacher'"),
        (("stages.0.steps=4", "learner.warmup_steps=0"), None, "Write more steps"),
        (("learner.lora={rank: 4}",), None, r"(?s)weights that are trained.*learner\.lora"),
    ],
)
def test_a_fork_that_cannot_be(
    run_dir: Path, overrides: tuple[str, ...], step: int | None, says: str
) -> None:
    if step is None and overrides[0].startswith("policy"):
        text = (run_dir / "recipe.yaml").read_text()
        model = text.split("policy:\n  model: ")[1].splitlines()[0]
        (run_dir / "recipe.yaml").write_text(
            text.replace(f"  model: {model}\n  init: pretrained", "  model: tiny:student\n  init: random")
        )
        overrides = (*overrides, "policy.init=random")
    config = load(run_dir / "recipe.yaml", ["name=new", *overrides])
    with pytest.raises(RefusedError, match=says):
        forking.fork(config, run_dir.with_name("new"), run_dir, step)
    assert not run_dir.with_name("new").exists()
