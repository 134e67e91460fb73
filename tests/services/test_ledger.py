"""A run's ledger: whole steps whatever is killed, cut at the checkpoint, and what it answers."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.app import app
from services.experience.visits import Visit
from services.report.ledger import LEDGER, Ledger, copy
from services.report.ledger_answers import Epoch, LedgerError, ask

PROMPTS = 5


def visit(position: int, **more: Any) -> Visit:
    """Of a run with PROMPTS prompts, each epoch in the same order."""
    prompt = f"p{position % PROMPTS}"
    made = Visit(position, PROMPTS, f"{prompt}#{position // PROMPTS}", prompt, "math", "trained", responses=2)
    return replace(made, **more)


def written(folder: Path, steps: dict[int, list[Visit]]) -> Path:
    ledger = Ledger(folder)
    ledger.begin(0)
    for step, visits in steps.items():
        ledger.step(step, visits)
    ledger.close()
    return folder


def checkpoint(folder: Path, step: int, next_position: int, alive: list[int]) -> dict[str, Any]:
    """As the learner leaves it."""
    state = {"step": step, "frontier": {"next_position": next_position, "alive": alive}}
    (folder / f"checkpoint_{step:06d}").mkdir(parents=True)
    (folder / f"checkpoint_{step:06d}" / "rlad-state.json").write_text(json.dumps(state))
    return state


@pytest.mark.parametrize("name", ["50% of #1", "is it?mode=rwc", "my [1] prüf"])
def test_a_ledger_is_read_whatever_its_folder_is_called(tmp_path: Path, name: str) -> None:
    (folder := tmp_path / name).mkdir()
    assert ask(written(folder, {0: [visit(0)]}), None).steps == 1
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_run_in_which_all_went_well(tmp_path: Path) -> None:
    dropped = visit(3, outcome="dropped", why="all rewards are equal")
    written(
        tmp_path,
        {
            0: [visit(0, sampled={0: 10}), visit(1, sampled={0: 7})],
            1: [visit(2, sampled={0: 4, 1: 6}), dropped, visit(4, sampled={1: 3})],
            2: [visit(5, sampled={2: 1})],
        },
    )
    answers = ask(tmp_path, checkpoint(tmp_path, 3, 7, [6]))
    assert answers.is_exact
    assert not answers.is_strictly_exact
    # The token of version 0 that step 1 trained on is one version old.
    assert answers.ages == {0: 10 + 7 + 6 + 3 + 1, 1: 4}
    assert answers.epochs == (Epoch(0, 5, 4, 1, ()), Epoch(1, 5, 1, 0, ()))
    assert [(each.step, each.group_id, each.why) for each in answers.dropped] == [
        (1, "p3#0", "all rewards are equal")
    ]
    assert (answers.steps, answers.starts, answers.lost, answers.doubled) == (3, 1, (), ())


def test_tokens_that_were_too_old_to_count_have_no_age(tmp_path: Path) -> None:
    """Step 4 with a bound of 1: of versions 1, 2 and 4 the five of the first two do not count."""
    old = visit(0, sampled={4: 7, 1: 2, 2: 3}, stale_masked=5)
    written(tmp_path, {4: [old, visit(1, sampled={3: 4})]})
    answers = ask(tmp_path, None)
    assert (answers.ages, answers.stale_masked) == ({0: 7, 1: 4}, 5)
    assert answers.as_json()["stale_masked"] == 5
    assert "too old to count" in CliRunner().invoke(app, ["ledger", str(tmp_path)]).stdout


def test_a_ledger_from_before_tokens_could_be_too_old_is_read_and_gone_on_with(tmp_path: Path) -> None:
    written(tmp_path, {0: [visit(0, sampled={0: 3})]})
    with sqlite3.connect(tmp_path / LEDGER) as file:
        file.execute("ALTER TABLE visits DROP COLUMN stale_masked")
    file.close()
    assert ask(tmp_path, None).ages == {0: 3}
    written(tmp_path, {1: [visit(1, sampled={0: 2, 1: 4}, stale_masked=2)]})
    answers = ask(tmp_path, None)
    assert (answers.ages, answers.stale_masked) == ({0: 4}, 2)


@pytest.mark.parametrize(
    ("steps", "frontier", "lost", "doubled"),
    [
        ({0: [0, 1], 1: [2, 3]}, (2, 5, []), (4,), ()),  # 4 was drawn, is not alive, and nothing is there
        ({0: [0, 1], 1: [1, 2]}, (2, 3, []), (), (1,)),
        ({0: [0, 1], 1: [2, 4]}, (1, 4, [2]), (3,), ()),  # of step 1 the checkpoint knows nothing
        ({0: [0, 1], 1: [2, 4]}, (1, 3, [2]), (), ()),
    ],
)
def test_what_is_lost_or_doubled_is_found(
    steps: dict[int, list[int]],
    frontier: tuple[int, int, list[int]],
    lost: tuple[int, ...],
    doubled: tuple[int, ...],
    tmp_path: Path,
) -> None:
    written(tmp_path, {step: [visit(p) for p in positions] for step, positions in steps.items()})
    checkpoint(tmp_path, *frontier)
    shown = CliRunner().invoke(app, ["ledger", str(tmp_path)])
    as_json = CliRunner().invoke(app, ["ledger", str(tmp_path), "--json"])
    told = json.loads(as_json.stdout)
    assert (tuple(told["lost"]), tuple(told["doubled"])) == (lost, doubled)
    wrong = bool(lost or doubled)
    assert (shown.exit_code, as_json.exit_code, told["exact"]) == (wrong, wrong, not wrong)
    assert ("NO" in shown.stdout) == wrong
    for name, positions in (("lost", lost), ("doubled", doubled)):
        assert (f"{name}: positions {', '.join(map(str, positions))}" in shown.stdout) == bool(positions)


def test_a_prompt_that_comes_twice_in_an_epoch_is_no_epoch_of_all(tmp_path: Path) -> None:
    written(tmp_path, {0: [visit(0), replace(visit(1), prompt_id="p0")]})
    [epoch] = ask(tmp_path, None).epochs
    assert epoch.twice == ("p0",)
    assert not epoch.is_whole
    assert CliRunner().invoke(app, ["ledger", str(tmp_path)]).exit_code == 1


def test_strictly_an_epoch_that_lacks_a_prompt_counts_too(tmp_path: Path) -> None:
    written(tmp_path, {0: [visit(p) for p in range(PROMPTS)]})
    assert CliRunner().invoke(app, ["ledger", str(tmp_path), "--strict"]).exit_code == 0
    written(tmp_path, {0: [visit(p) for p in range(PROMPTS)], 1: [visit(PROMPTS)]})
    assert CliRunner().invoke(app, ["ledger", str(tmp_path)]).exit_code == 0
    assert CliRunner().invoke(app, ["ledger", str(tmp_path), "--strict"]).exit_code == 1


def test_where_there_is_no_ledger_the_command_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["ledger", str(tmp_path)])
    assert result.exit_code == 2
    assert f"{tmp_path} has no {LEDGER}" in result.output.replace("\n", "")
    (tmp_path / LEDGER).write_text("no database, but a text that is long enough to be taken for one " * 20)
    with pytest.raises(LedgerError, match="cannot be read: file is not a database"):
        ask(tmp_path, None)


def test_a_resumed_run_takes_back_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    written(tmp_path, {step: [visit(2 * step), visit(2 * step + 1)] for step in range(4)})
    ledger = Ledger(tmp_path)
    assert ledger.begin(2) == 4
    ledger.step(2, [visit(4), visit(5)])
    ledger.close()
    answers = ask(tmp_path, None)
    assert (answers.steps, answers.starts, answers.doubled) == (3, 2, ())
    with sqlite3.connect(tmp_path / LEDGER) as file:
        assert file.execute("SELECT first_step, taken_back FROM starts").fetchall() == [(0, 0), (2, 4)]


def test_a_fork_has_the_ledger_up_to_the_checkpoint_that_it_goes_on_from(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    copy(tmp_path, tmp_path / "new", 2)
    assert not (tmp_path / "new" / LEDGER).exists()
    written(tmp_path, {0: [visit(0)], 1: [visit(1)], 2: [visit(2)]})
    writer = sqlite3.connect(tmp_path / LEDGER)  # as a run that goes on
    copy(tmp_path, tmp_path / "new", 2)
    writer.close()
    assert ask(tmp_path / "new", None).steps == 2


WRITER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from services.report.ledger import Ledger

ledger, first = Ledger(Path(sys.argv[1])), int(sys.argv[2])
rest = dict.fromkeys(("teacher", "teacher_weights", "reference_weights"))
rest |= {"epoch_prompts": 5, "group_id": "a#0", "prompt_id": "a", "task": "math", "outcome": "trained"}
rest |= {"why": "", "by": "policy", "sampled": {0: 1}, "responses": 1, "rewards": [], "correct": []}
rest |= {"stale_masked": 0}
ledger.begin(first)
print("begun", flush=True)
for step in range(first, 10_000):
    ledger.step(step, [
        SimpleNamespace(position=position, epoch=position // 5, **rest)
        for position in range(100 * step, 100 * step + 100)
    ])
    print(step, flush=True)
"""


def test_a_kill_at_any_moment_leaves_whole_steps(tmp_path: Path) -> None:
    draw, first = random.Random(0), 0
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            time.sleep(draw.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            told = [int(line) for line in process.stdout.read().split()]
        with sqlite3.connect(tmp_path / LEDGER) as file:
            counts = dict(file.execute("SELECT step, count(*) FROM visits GROUP BY step").fetchall())
        # What was told is there, and perhaps one step more; each step whole.
        last = max(told, default=first - 1)
        assert set(range(last + 1)) <= counts.keys() <= set(range(last + 2))
        assert set(counts.values()) <= {100}
        first = max(0, last - 1)  # as from a checkpoint before the last steps
    answers = ask(tmp_path, None)
    assert answers.doubled == ()
