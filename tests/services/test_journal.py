"""The record of a run: what is written is read back, and a resumed run keeps nothing of the lost attempt."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from rlad_core.evaluation import ANSWERS, EvaluationRow, Interval, Share
from rlad_core.schema import TEACHER_SCORES, build, from_ipc, from_parquet, tokenizer_fingerprint
from services.report.answers import kept_in
from services.report.journal import Journal
from services.report.record_lines import EVALUATIONS, GROUPS, METRICS, STAGE_ENDS
from services.report.records import read_run


@pytest.fixture(autouse=True)
def files_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process's files of one second are read by the names that they have from a counter: 10 before 9."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def row(step: int, reward: float = 1.5) -> dict[str, Any]:
    return {
        "step": step,
        "version": step + 1,
        "stage": "trrd",
        "reward_mean": reward,
        "seconds": {"rollout": 2.0, "step": 3.0},
        "shares": {"rollout": 0.5, "idle": 0.5},
    }


def accuracy(subset: str, share: float) -> EvaluationRow:
    return EvaluationRow(
        subset=subset,
        prompts=10,
        samples=2,
        accuracy=share,
        interval=Interval(share - 0.1, share + 0.1),
        pass_at_k=share,
        k=2,
        truncated=1,
        format_errors=0.25,
        pass_at={1: Share(0.5, Interval(0.4, 0.6)), 2: Share(0.75, Interval(0.6, 0.9))},
        reward=2 * share - 1,
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    read = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    return {tag: [(e.step, round(e.value, 6)) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def begun(folder: Path, first: int = 0) -> Journal:
    journal = Journal(str(folder))
    journal.begin(first)
    return journal


def test_a_record_is_open_from_its_beginning_to_its_close(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    with pytest.raises(RuntimeError, match="the record is not open: it is from `begin` to `close`"):
        journal.step({"step": 0, "seconds": {}}, [], [])
    journal.begin(0)
    journal.step({"step": 0, "seconds": {}}, [], [])
    journal.close()
    with pytest.raises(RuntimeError, match="the record is not open"):
        journal.step({"step": 1, "seconds": {}}, [], [])
    assert [row["step"] for row in lines(tmp_path / "metrics.jsonl")] == [0]


def attempt(folder: Path, first: int, last: int, reward: float) -> None:
    """A run's steps first..last, with an evaluation every two and a sample of each."""
    journal = begun(folder, first)
    if first == 0:
        journal.evaluation("before", 0, [accuracy("2_people", reward / 10)])
    for step in range(first, last + 1):
        journal.step(row(step, reward), [f"t{step}#0"], [f"d{step}#0"])
        journal.sample(step, scores([f"{reward}"]))
        if (step + 1) % 2 == 0:
            journal.evaluation("step", step + 1, [accuracy("2_people", reward / 10)])
    journal.close()


def scores(ids: list[str]) -> Any:
    fingerprint = tokenizer_fingerprint({"a": 0})
    columns = {"sequence_id": ids, "teacher_logprobs": [[-0.5]] * len(ids)}
    return build(TEACHER_SCORES, columns, tokenizer_fingerprint=fingerprint)


def test_what_is_told_is_on_disk_at_once(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.step(row(0), ["a#0", "b#0"], ["c#0"])
    journal.evaluation("before", 0, [accuracy("2_people", 0.5), accuracy("3_people", 0.25)])
    journal.sample(0, scores(["a#0/0"]))
    # Not closed: a killed run leaves the same.
    assert lines(tmp_path / METRICS) == [row(0)]
    assert lines(tmp_path / GROUPS) == [{"step": 0, "trained": ["a#0", "b#0"], "dropped": ["c#0"]}]
    first, second = lines(tmp_path / EVALUATIONS)
    assert first == {
        "step": 0,
        "when": "before",
        "subset": "2_people",
        "correct": 10,
        "total": 20,
        "accuracy": 0.5,
        "low": 0.4,
        "high": 0.6,
        "truncated": 1,
        "format_errors": 0.25,
        "pass_at": {"1": 0.5, "2": 0.75},
        "samples": 2,
        "pass_at_k": 0.5,
        "k": 2,
        "reward": 0.0,
    }
    assert (second["subset"], second["correct"]) == ("3_people", 5)
    assert from_ipc((tmp_path / "experience" / "step-000000.arrows").read_bytes()).equals(scores(["a#0/0"]))
    journal.close()
    record = read_run(tmp_path)
    assert (len(record.steps), len(record.evaluations)) == (1, 2)


def test_tensorboard_reads_the_events(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.step(row(0, 1.5), [], [])
    journal.step({**row(1, 2.5), "kl_to_teacher": math.nan}, [], [])
    journal.evaluation("after", 2, [accuracy("2_people", 0.5)])
    journal.close()
    read = events(tmp_path)
    assert read["reward_mean"] == [(0, 1.5), (1, 2.5)]
    assert read["seconds/rollout"] == [(0, 2.0), (1, 2.0)]
    assert read["evaluation/2_people"] == [(2, 0.5)]
    assert "step" not in read
    assert "kl_to_teacher" not in read, "a mean over nothing is no number"


def test_a_mean_over_nothing_is_null(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    told = {**row(0), "kl_to_teacher": math.nan, "seconds": {"step": math.inf}}
    journal.step(told, [], [])
    (written,) = lines(tmp_path / METRICS)
    assert written == {**row(0), "kl_to_teacher": None, "seconds": {"step": None}}
    assert math.isnan(read_run(tmp_path).series("kl_to_teacher")[0])
    assert journal.news(1) == [("step", told)], "who watches sees the number itself"


def test_news_are_what_came_after(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.note("starting")
    journal.step(row(0), [], [])
    journal.step(row(1), [], [])
    journal.evaluation("step", 2, [accuracy("2_people", 0.5)])
    assert [kind for kind, _ in journal.news(0)] == ["begun", "note", "step", "step", "evaluation"]
    assert [(kind, told["step"]) for kind, told in journal.news(3)] == [("step", 1), ("evaluation", 2)]
    assert journal.news(5) == []


def test_a_resumed_run_drops_what_the_lost_attempt_did(tmp_path: Path) -> None:
    attempt(tmp_path, 0, 5, reward=1)
    attempt(tmp_path, 4, 6, reward=2)  # from the checkpoint after 4 steps
    assert [(r["step"], r["reward_mean"]) for r in lines(tmp_path / METRICS)] == [
        *((step, 1) for step in range(4)),
        *((step, 2) for step in (4, 5, 6)),
    ]
    trained = [group for line in lines(tmp_path / GROUPS) for group in line["trained"]]
    assert trained == [f"t{step}#0" for step in range(7)], "no group twice, none left out"
    # The evaluation at the checkpoint itself was made before it and still counts.
    assert [(r["when"], r["step"], r["accuracy"]) for r in lines(tmp_path / EVALUATIONS)] == [
        ("before", 0, 0.1),
        ("step", 2, 0.1),
        ("step", 4, 0.1),
        ("step", 6, 0.2),
    ]
    for step, reward in [(3, 1), (4, 2), (5, 2), (6, 2)]:
        sample = from_ipc((tmp_path / "experience" / f"step-{step:06d}.arrows").read_bytes())
        assert sample["sequence_id"].to_pylist() == [f"{reward}"]
    assert not read_run(tmp_path).remarks[:-1], "the report has nothing to remark but the missing recipe"
    read = events(tmp_path)
    assert read["reward_mean"] == [*((s, 1.0) for s in range(4)), *((s, 2.0) for s in (4, 5, 6))]
    assert read["evaluation/2_people"] == [(0, 0.1), (2, 0.1), (4, 0.1), (6, 0.2)]


def test_why_a_stage_ended_is_recorded_and_of_a_lost_attempt_it_goes(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    for step in range(3):
        journal.step(row(step), [], [])
        if step != 1:
            journal.stage_end(step, f"{step + 7} tokens were trained on")
    assert journal.news(0)[-1] == ("note", "the stage ends after step 3: 9 tokens were trained on")
    journal.close()
    kept = {"step": 0, "stage": "trrd", "why": "7 tokens were trained on"}
    lost = {"step": 2, "stage": "trrd", "why": "9 tokens were trained on"}
    assert lines(tmp_path / STAGE_ENDS) == [kept, lost]
    assert read_run(tmp_path).stage_ends == (kept, lost)
    begun(tmp_path, 2).close()
    assert lines(tmp_path / STAGE_ENDS) == [kept]


def test_samples_of_lost_steps_go(tmp_path: Path) -> None:
    attempt(tmp_path, 0, 3, reward=1)
    begun(tmp_path, 2).close()
    assert sorted(path.name for path in (tmp_path / "experience").iterdir()) == [
        "step-000000.arrows",
        "step-000001.arrows",
    ]


def test_somebody_s_own_files_beside_what_is_kept_stay_and_keep_no_run_from_going_on(tmp_path: Path) -> None:
    """Copies of what went wrong, say, to be looked at."""
    own = [
        *(tmp_path / "experience" / name for name in ("step-000003-mine.arrows", "step-3 (copy).arrows")),
        *(tmp_path / "evaluations" / name for name in ("mine.parquet", "000003-step-mine.parquet")),
    ]
    gone = tmp_path / "experience" / "step-000003.arrows", tmp_path / "evaluations" / "000003-step.parquet"
    for file in (*own, *gone):
        file.parent.mkdir(exist_ok=True)
        file.write_text("copied")
    assert [kept.label for kept in kept_in(tmp_path)] == ["after step 3", "training, step 3"]
    begun(tmp_path, 2).close()
    assert all(file.is_file() for file in own)
    assert not any(file.exists() for file in gone)
    assert kept_in(tmp_path) == []


def test_a_run_killed_before_its_first_checkpoint_begins_an_empty_record(tmp_path: Path) -> None:
    attempt(tmp_path, 0, 1, reward=1)
    attempt(tmp_path, 0, 0, reward=2)
    assert [r["reward_mean"] for r in lines(tmp_path / METRICS)] == [2]
    assert [(r["when"], r["accuracy"]) for r in lines(tmp_path / EVALUATIONS)] == [("before", 0.2)]
    assert events(tmp_path)["reward_mean"] == [(0, 2.0)]


def test_a_last_evaluation_is_measured_again(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.step(row(0), [], [])
    journal.evaluation("after", 1, [accuracy("2_people", 0.5)])
    journal.close()
    begun(tmp_path, 1).close()
    assert len(lines(tmp_path / METRICS)) == 1
    assert lines(tmp_path / EVALUATIONS) == []


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_last_line_cut_off_by_a_kill_goes(tmp_path: Path, cut: int) -> None:
    attempt(tmp_path, 0, 1, reward=1)
    file = tmp_path / METRICS
    file.write_bytes(file.read_bytes()[:-cut])
    attempt(tmp_path, 2, 2, reward=2)
    steps = [line["step"] for line in lines(file)]
    assert steps == ([0, 1, 2] if cut == 1 else [0, 2]), "only the line break was missing, or half the line"


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    attempt(tmp_path, 0, 2, reward=1)
    file = tmp_path / METRICS
    first, _, last = file.read_text().splitlines()
    file.write_text(f"{first}\n{{broken\n{last}\n")
    before = file.read_text()
    with pytest.raises(ValueError, match=rf"line 2 of {file} is broken"):
        begun(tmp_path, 2)
    assert file.read_text() == before


def test_responses_of_evaluations_are_kept_and_those_of_a_lost_attempt_go(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    kept = ANSWERS.empty_table()
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations" / ".000002-step.parquet.1a2b3c4d.unfinished").touch()  # of one that was killed
    for when, step in (("before", 0), ("step", 2), ("step", 4), ("after", 4)):
        journal.evaluation(when, step, [accuracy("2_people", 0.5)], kept)
    names = ["000000-before", "000002-step", "000004-after", "000004-step"]
    folder = tmp_path / "evaluations"
    assert sorted(file.stem for file in folder.glob("*.parquet")) == names
    assert from_parquet(folder / "000000-before.parquet").schema.names == ANSWERS.names
    # As with the lines of evaluation.jsonl: what was measured at the checkpoint itself stays.
    Journal(str(tmp_path)).begin(2)
    assert sorted(file.stem for file in folder.glob("*.parquet")) == ["000000-before", "000002-step"]
